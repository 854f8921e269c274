"""Whether two libraries compute the same: how far their weights and outputs lie apart, and how far they may."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .._types import HostArray
from .nets import Net

STEPS = 5
"""Training steps from the same weights over the same batches before the comparison."""

_TRIMMED = 20
"""One in so many entries is left out, those that deviate most: rounding decides whether a unit whose Z is near 0 takes
part, and Adam makes a whole step out of a gradient however small. What is wrong is wrong in most entries; the outputs,
into which all entries go, are compared whole."""
_LEARNED = 5e-2
"""Of the distance that training moved an array. Between 1e-7 and 1e-5 is usual in float32, and up to 1.5e-2 was seen in
the first layer of wide nets. A learning rate that is wrong by a tenth, a missing bias correction or another loss scale
are beyond. Scikit-learn's ε, added to √v before the bias correction, shortens steps along tiny gradients: up to 1.2e-2,
a variant of Adam and no error."""
_STATISTICS = 5e-3
"""Of the distance that running variances moved: sums of many values, which round to 1e-5 or so. One that divides by n,
not n − 1, lies 8e-3 off at a batch of 256. Running means, in standard deviations of their units: they follow the biases
before them, which wander by at most 5 steps of 1e-3."""
_OUTPUTS = 1e-2
"""Of the outputs, which all weights go into: 2e-3 was the most."""
_LOOSER = {"tf32": 2.0, "float16": 2.0, "bfloat16": 4.0}
"""How much farther apart results in fewer bits may be: factors of products keep 11 bits or 8. On a CPU, PyTorch and JAX
in bfloat16 lay up to 6e-2 (weights) and 2e-2 (outputs) from float32, and half as far from each other, in nets of 64 to
1024 units; wider ones round more. What this lets pass, float32 does not, in which each library runs the same code."""


@dataclass(frozen=True)
class Deviation:
    """The array that lies farthest off in terms of its limit."""

    array: str
    value: float
    limit: float

    @property
    def agrees(self) -> bool:
        """Whether every array lies within its limit."""
        return self.value <= self.limit


def deviation(
    theirs: Mapping[str, HostArray],
    ours: Mapping[str, HostArray],
    initial: Mapping[str, HostArray],
    net: Net,
    arithmetic: str = "float32",
) -> Deviation:
    """Compare what two libraries learned from `initial`: ‖a − b‖/‖b − b₀‖ for each array.

    "outputs" are taken as a share of ‖b‖, running means as one of the norm of the standard deviations beside them.
    With batch norm the biases of the hidden layers are left out: normalization takes them away again, so their true
    gradient is 0, and Adam makes steps of whole learning rates out of the rounding errors that stand in for it. The
    running means, which contain them, are compared. Something that is not finite deviates infinitely.
    """
    if theirs.keys() != ours.keys():
        raise ValueError(f"Expected the arrays {sorted(ours)}, got {sorted(theirs)}.")
    ignored = {f"b{i}" for i in range(len(net.hidden))} if net.batch_norm else set()
    looser = _LOOSER.get(arithmetic, 1.0)
    found = [_compare(name, theirs[name], ours, initial, looser) for name in ours if name not in ignored]
    return max(found, key=lambda d: d.value / d.limit)


def _compare(
    name: str, a: HostArray, ours: Mapping[str, HostArray], initial: Mapping[str, HostArray], looser: float
) -> Deviation:
    b = ours[name].astype(np.float64)
    if a.shape != b.shape:
        raise ValueError(f"Expected {name} of shape {b.shape}, got {a.shape}.")
    if name == "outputs":
        limit, whole = _OUTPUTS, b
    elif name.startswith("running_mean"):
        limit, whole = _STATISTICS, np.sqrt(ours[name.replace("mean", "var")])
    else:
        limit, whole = _STATISTICS if name.startswith("running_var") else _LEARNED, b - initial[name]
    limit *= looser
    if not np.isfinite(a).all():
        return Deviation(name, float("inf"), limit)
    difference = np.abs(a - b).reshape(-1)
    kept = difference.size - difference.size // _TRIMMED
    if name != "outputs" and kept < difference.size:
        difference = np.partition(difference, kept)[:kept]
    return Deviation(name, float(np.linalg.norm(difference)) / (float(np.linalg.norm(whole)) or 1.0), limit)
