"""What two models' results on the same splits say of each other."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


class Paired:
    """A comparison of two models, seed by seed."""

    @property
    def differences(self) -> Sequence[float]:
        """Ours minus theirs, of each seed."""
        raise NotImplementedError(f"{type(self).__name__} must define differences.")

    @property
    def difference(self) -> float:
        """Of the means over the seeds."""
        return float(np.mean(self.differences))

    @property
    def error(self) -> float:
        """The standard error of `difference`, from the differences of the seeds. NaN for one seed."""
        return standard_error(self.differences)


def standard_error(values: Sequence[float]) -> float:
    """Of the mean. NaN for a single value."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else math.nan
