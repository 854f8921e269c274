"""What an operation is: how to draw its input, how to set it up on any backend, what it costs at the least."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..._types import Array, DType, HostArray
from ...backend import Ops

Sizes = Mapping[str, int]
Inputs = dict[str, HostArray]
Outputs = dict[str, HostArray]


def _nothing() -> None:
    """Repeated calls see the same input as it is."""


@dataclass(frozen=True)
class Work:
    """One operation set up in one library: `call` does it once, into arrays that exist.

    `results` are what it wrote, on the host, samples in rows. `steady` is called once after the first call has been
    checked: it arranges that a thousand calls in a row compute with numbers of ordinary size.
    """

    call: Callable[[], None]
    results: Callable[[], Outputs]
    steady: Callable[[], None] = _nothing


class Side:
    """Where an operation is set up: our primitives, and how host arrays of the shared input come there."""

    def __init__(self, ops: Ops, dtype: DType) -> None:
        self.ops, self.dtype = ops, dtype

    def rows(self, x: HostArray) -> Array:
        """A copy of x (a, b) in C order: data sets."""
        return self.ops.asarray(np.array(x, self.dtype if x.dtype.kind == "f" else None, order="C"))

    def vector(self, x: HostArray) -> Array:
        """A copy of x in C order in the type of sums: flat parameters, statistics."""
        return self.ops.asarray(np.array(x, self.wide, order="C"))

    def weights(self, x: HostArray) -> Array:
        """A copy of x (n_out, n_in) in F order, as Dense has it."""
        return self.rows(x.T).T

    def samples(self, x: HostArray) -> Array:
        """x (batch, n), a sample in each row, as the (n, batch) matrix of the same memory."""
        return self.rows(x).T

    @property
    def wide(self) -> DType:
        """The dtype of what kernels do not keep in 16 bits: parameters, statistics, losses, sums."""
        return np.dtype(np.float32) if self.dtype.itemsize == 2 else np.dtype(self.dtype)

    def column(self, x: HostArray) -> Array:
        """x (n,) as (n, 1), in the type of sums."""
        return self.vector(x.reshape(-1, 1))

    def sums(self, n: int) -> Array:
        """Room for a sum of each unit."""
        return self.ops.empty((n, 1), self.wide)

    def matrix(self, n: int, batch: int) -> Array:
        return self.ops.matrix(n, batch, self.dtype)

    def host(self, x: Array) -> HostArray:
        """A copy on the host: samples in rows, a column as a vector, floats as float64."""
        y = np.array(self.ops.to_numpy(x.T if x.ndim == 2 else x))
        y = y.reshape(-1) if 1 in y.shape else y
        return y if y.dtype.kind in "iub" else y.astype(np.float64)


class TorchSide:
    """The same for PyTorch, whose (batch, n) tensors have the memory order of our (n, batch) matrices."""

    def __init__(self, torch: Any, device: str, dtype: Any) -> None:
        self.torch, self.device, self.dtype = torch, device, dtype

    def tensor(self, x: HostArray) -> Any:
        there = self.torch.from_numpy(np.array(x)).to(self.device)
        return there.to(self.dtype) if x.dtype.kind == "f" else there

    def empty(self, *shape: int) -> Any:
        return self.torch.empty(shape, dtype=self.dtype, device=self.device)

    def host(self, x: Any) -> HostArray:
        y = x.detach().cpu()
        return y.to(self.torch.float64).numpy() if y.is_floating_point() else y.numpy()


def largest_deviation(ours: Outputs, theirs: Outputs) -> float:
    """max over the arrays of max |theirs − ours| / max |ours|; infinite where a shape differs or one is not finite."""
    worst = 0.0
    for name, a in ours.items():
        b = theirs[name]
        if np.shape(a) != np.shape(b) or not np.isfinite(b).all():
            return float("inf")
        scale = float(np.max(np.abs(a), initial=0.0))
        worst = max(worst, float(np.max(np.abs(np.subtract(b, a, dtype=np.float64)), initial=0.0)) / (scale or 1.0))
    return worst


@dataclass(frozen=True)
class Operation:
    """A primitive of `Ops`, the shapes at which it is measured, and PyTorch's calls for the same work.

    `draw` makes the input once, from a generator; `ours` and each of `torch` are given the same arrays. `flops` and
    `bytes` (by bytes per number) are what one call needs at the least: see `OperationResult`. `tiled` counts the
    elements that the NumPy backend goes over in cache-sized tiles. `smallest` is a shape at which only calls cost.
    """

    name: str
    family: str
    """Operations that belong together: the stem of their file benchmarks/bench_<family>.py."""
    sizes: tuple[Sizes, ...]
    smallest: Sizes
    draw: Callable[..., Inputs]
    ours: Callable[..., Work]
    torch: Mapping[str, Callable[..., Work]]
    flops: Callable[..., float]
    bytes: Callable[..., float]
    tiled: Callable[..., int]
    deviation: Callable[[Outputs, Outputs], float] = field(default=largest_deviation)
    checked_calls: int = 1
    """How many calls the check makes: an optimizer shows its moments from the second on."""

    def shape(self, sizes: Sizes) -> str:
        """The sizes in one phrase: "n_out 128, n_in 784, batch 32"."""
        return ", ".join(f"{name} {size:,}" for name, size in sizes.items())
