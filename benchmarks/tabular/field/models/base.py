"""What a participant is."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import pickle
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray

from ...models import OURS
from ..splits import Split


class Fitted(Protocol):
    """A model after its fit."""

    @property
    def rounds(self) -> int:
        """Epochs or trees of what predicts; 0 where that has no meaning."""

    def predict(self, X: pd.DataFrame) -> HostArray:
        """Probabilities (n, n_classes), or values (n,)."""

    def n_bytes(self) -> int:
        """Of its file."""


@dataclass(frozen=True)
class Model:
    """A participant: a library's estimator with its settings."""

    name: str
    package: str
    """The distribution that it is of."""
    module: str
    """What that is imported as."""
    others: tuple[str, ...] = ()
    """Distributions that its numbers depend on, too."""
    pace: float = 6e-4
    """Roughly how many seconds a fit takes for each sample of a table of few columns, on one core."""

    def is_here(self) -> bool:
        """Whether its package is installed."""
        return importlib.util.find_spec(self.module) is not None

    def versions(self) -> dict[str, str]:
        """Of its packages; ours is the one that is imported."""
        others = {name: importlib.metadata.version(name) for name in (self.package, *self.others) if name != OURS}
        return others | ({OURS: fcnn.__version__} if self.package == OURS else {})

    def seconds(self, n_samples: int, n_features: int) -> float:
        """Roughly those of a fit on a table, for the order of a run alone."""
        return self.pace * n_samples * (1 + n_features / 100)

    def load(self, n_threads: int) -> None:
        """Import what it needs, before the clock starts, and tell it how many threads it may have."""
        raise NotImplementedError

    def fit(self, part: Split, seed: int, n_threads: int) -> Fitted:
        """Train it, preparation of its inputs included."""
        raise NotImplementedError


@dataclass(frozen=True)
class Estimator:
    """A fitted estimator of scikit-learn's kind, whose file is a pickle."""

    estimator: Any
    rounds: int

    def predict(self, X: pd.DataFrame) -> HostArray:
        """Its probabilities where it has any, and else its values."""
        has_classes = hasattr(self.estimator, "predict_proba")
        found = self.estimator.predict_proba(X) if has_classes else self.estimator.predict(X)
        return np.asarray(found)

    def n_bytes(self) -> int:
        """Of its pickle."""
        return len(pickle.dumps(self.estimator))
