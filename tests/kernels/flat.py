"""What the tests of the optimizer kernels share: a flat buffer with segments, and its gradient by the definition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._kernels import Launcher

SIZES = [1, 2, 31, 1000, 4097]
SEGMENT_COUNTS = [1, 3, 6]


@dataclass
class FlatCase:
    """n parameters in segments with different penalties. `segments` is the kernels' table."""

    dtype: np.dtype[Any]
    n: int
    n_segments: int = 3
    max_value: float = float("inf")
    clip: float | None = None
    step: int = 4
    rate: float = 0.01
    failed: int = -1
    loss_scale: float | None = None
    skip: int | None = None
    low: HostArray | None = None
    values: HostArray = field(init=False)
    gradients: HostArray = field(init=False)
    segments: HostArray = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.n)
        self.values = rng.normal(size=self.n).astype(self.dtype)
        self.values[::5] = 0
        self.gradients = rng.normal(size=self.n).astype(self.dtype)
        stops = np.sort(rng.integers(0, self.n + 1, self.n_segments))  # some of them empty
        stops[-1] = self.n
        l1, l2 = rng.choice([0, 0.25], self.n_segments), rng.choice([0, 0.125], self.n_segments)
        decays, rates = rng.choice([0, 0.5, 1], self.n_segments), rng.choice([1, 0.25, 6], self.n_segments)
        self.segments = np.stack([stops, l1, l2, decays, rates], axis=1).astype(np.float64)

    def per_parameter(self, column: int) -> HostArray:
        """Column 1 (λ₁), 2 (λ₂), 3 (factor of weight decay) or 4 (of the rate) of each parameter's segment."""
        lengths = np.diff(self.segments[:, 0], prepend=0).astype(int)
        return np.repeat(self.segments[:, column], lengths)

    @property
    def eta(self) -> HostArray:
        """Each parameter's learning rate."""
        return self.rate * self.per_parameter(4)

    def bare(self) -> HostArray:
        """The gradient of the loss itself, in float64."""
        return self.gradients.astype(np.float64) / (self.loss_scale or 1.0)

    def scale_cell(self) -> HostArray | None:
        """The loss scale as kernels take it."""
        return None if self.loss_scale is None else np.array([self.loss_scale])

    def penalized(self) -> HostArray:
        """g + 2λ₂w + λ₁ sign(w), in float64."""
        w = self.values.astype(np.float64)
        return self.bare() + 2 * self.per_parameter(2) * w + self.per_parameter(1) * np.sign(w)

    def gradient(self) -> HostArray:
        """What an update uses: penalized, scaled, limited."""
        g = self.penalized() * (1.0 if self.clip is None else self.clip)
        return np.clip(g, -self.max_value, self.max_value)

    def launch(
        self,
        launcher: Launcher,
        kernel: str,
        scalars: list[float],
        state: list[HostArray | None],
        counts_steps: bool,
        tables: Sequence[HostArray | None] | None = None,
        rule: str | None = None,
    ) -> None:
        """`tables`: with those of a weight decay that `scalars` end with; None: nothing decays."""

        def cell(x: float | None) -> HostArray | None:
            return None if x is None else np.array([x])

        step = [np.array([self.step])] if counts_steps else []
        n_low = 0 if self.low is None else self.low.size
        low_dtype = self.dtype if self.low is None else self.low.dtype
        if tables is None:
            scalars, tables = [*scalars, 0, 0.0], (None, None)
        arguments = [self.n, n_low, self.n_segments, *scalars, self.max_value, self.segments, *tables, *step]
        arguments += [cell(self.rate), cell(self.clip), self.scale_cell(), cell(self.skip), cell(self.failed)]
        arguments += [self.gradients, self.values, self.low, *state]
        template = (self.dtype, low_dtype) if rule is None else (self.dtype, low_dtype, rule)
        launcher.launch(kernel, kernel, template, arguments, threads=self.n)


def variants(dtype: np.dtype[Any]) -> list[FlatCase]:
    """Sizes, segment counts, clipping by norm and by value, a loss scale."""
    plain = [FlatCase(dtype, n, n_segments=s) for n in SIZES for s in SEGMENT_COUNTS]
    scaled = FlatCase(dtype, 1003, clip=0.5, loss_scale=2.0**16, skip=-1)
    scaled.gradients *= 2**16
    return [*plain, FlatCase(dtype, 1000, clip=0.125), FlatCase(dtype, 1000, max_value=0.5, clip=2.0), scaled]
