"""Does training give the same numbers every time, bit for bit, and nearly the same on another backend?

What is promised stands in docs/reproducibility.md; `verify_reproducible` checks it for a network, a data set and a
machine of your own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ._checks import check_integer, check_real
from ._html import ShownAsText
from ._on_demand import own_names
from ._types import HostArray
from .data import DeviceData, epoch_order
from .layers import Dropout
from .model import Sequential
from .training import Trainer

__dir__ = own_names(__name__)

_TIMES = ("seconds", "samples_per_second")
"""Columns of a history that measure the clock."""
_MASK_STEPS = 3
"""Training passes whose dropout masks are compared."""
_COMPARED = 1024
"""Samples whose outputs are compared."""
_ROUNDING = {"float64": 1e-12, "float32": 1e-4, "tf32": 5e-3, "bfloat16": 0.1, "float16": 0.02}
"""How far outputs of the same weights may be apart, relative to the largest, by the precision of the products."""
_TRAINING = {"float64": 1e-7, "float32": 0.02, "tf32": 0.1, "bfloat16": 0.5, "float16": 0.2}
"""The same after training, which amplifies such differences."""

MakeTrainer = Callable[[], Trainer]


@dataclass(frozen=True)
class Difference:
    """The first number in which a run differs from the first run.

    Attributes:
        run: which run, as in `ReproducibilityReport.runs`.
        array: where: "initial 0.W", "0.W", "optimizer m", "history loss", ...
        index: of the first element that differs.
        expected, found: the two values; None where an array is missing or has another shape.
        n_different: how many elements differ.
        max_ulp: the largest distance, in units in the last place: how many floating-point numbers lie between.
    """

    run: str
    array: str
    index: tuple[int, ...]
    expected: float | int | None
    found: float | int | None
    n_different: int
    max_ulp: int | None

    def __str__(self) -> str:
        if self.expected is None and self.found is None:
            return f"{self.run}: {self.array} is not in both runs, or not of one shape and dtype"
        place = f"[{', '.join(map(str, self.index))}]" if self.index else ""
        ulp = "not comparable (NaN)" if self.max_ulp is None else f"up to {self.max_ulp:,} ulp"
        return (
            f"{self.run}: {self.array}{place} is {self.found!r}, in the first run {self.expected!r}; "
            f"{self.n_different:,} elements differ, {ulp}"
        )


@dataclass(frozen=True)
class Guarantee:
    """One promise between two backends: whether it holds, and what was measured."""

    name: str
    holds: bool
    detail: str

    def __str__(self) -> str:
        return f"{'holds ' if self.holds else 'BROKEN'}  {self.name}: {self.detail}"


@dataclass(frozen=True)
class ReproducibilityReport(ShownAsText):
    """What `verify_reproducible` found.

    Attributes:
        device: where the runs trained.
        runs: the names of the runs; all are compared with the first.
        n_arrays: how many arrays of each run were compared.
        differences: the first difference of each run that has one.
        reference: the other backend's device, or None.
        guarantees: what was found between the two backends.
    """

    device: str
    runs: tuple[str, ...]
    n_arrays: int
    differences: tuple[Difference, ...]
    reference: str | None = None
    guarantees: tuple[Guarantee, ...] = ()

    @property
    def identical(self) -> bool:
        """Whether all runs are equal bit for bit."""
        return not self.differences

    @property
    def ok(self) -> bool:
        """Whether all that was checked holds."""
        return self.identical and all(guarantee.holds for guarantee in self.guarantees)

    @property
    def first_difference(self) -> Difference | None:
        """The first number that is not the same in every run."""
        return self.differences[0] if self.differences else None

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        runs = ", ".join(self.runs)
        lines = [f"{'reproducible' if self.identical else 'NOT REPRODUCIBLE'} on {self.device}: {runs}"]
        if self.identical:
            lines.append(f"  {self.n_arrays} arrays are equal bit for bit: weights, statistics, optimizer and history")
        lines += [f"  {difference}" for difference in self.differences]
        if any(difference.array.startswith("initial") for difference in self.differences):
            lines.append(
                "  The networks differ before training: give Sequential a seed, and build a new one each time."
            )
        if self.reference is not None:
            lines += [f"against {self.reference}:", *(f"  {guarantee}" for guarantee in self.guarantees)]
        return "\n".join(lines)


def verify_reproducible(
    make_trainer: MakeTrainer,
    X: Any,
    y: Any,
    *,
    epochs: int = 2,
    batch_size: int = 128,
    runs: int = 2,
    reference: MakeTrainer | None = None,
    tolerance: float | None = None,
    **fit_options: Any,
) -> ReproducibilityReport:
    """Train the same network several times and compare weights, running statistics, optimizer and history bit for bit.

    The last run makes every call anew (`capture=False`) instead of replaying what was captured.

    Args:
        make_trainer: builds a new trainer with a new network, and a seed for it, each time it is called.
        X, y: what to train on.
        epochs, batch_size: of each run.
        runs: how many captured runs, at least 2; one more is not captured.
        reference: builds the same trainer on another backend. Then one more run is trained there, and it is checked
            that initial weights, the order of the samples and dropout masks are the same bits, and that outputs are
            equal up to rounding before training, and within `tolerance` after it.
        tolerance: largest difference of outputs after training, relative to the largest output. None goes by the
            networks' precision: 10⁻⁷ for float64, 0.02 for float32. Training amplifies rounding: with many epochs,
            choose it.
        fit_options: more arguments of `Trainer.fit`, such as `validation_data`.

    >>> import numpy as np, fcnn_gpu as fcnn
    >>> def make_trainer():
    ...     layers = [fcnn.Dense(8, activation="tanh"), fcnn.Dropout(0.1), fcnn.Dense(2)]
    ...     return fcnn.Trainer(fcnn.Sequential(layers, n_in=3, seed=0, backend="numpy"))
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> bool(fcnn.verify_reproducible(make_trainer, X, X[:, 0] > 0, batch_size=16))
    True
    """
    runs = check_integer("verify_reproducible(runs)", runs, low=2)
    if tolerance is not None:
        tolerance = check_real("verify_reproducible(tolerance)", tolerance, low=0.0)
    for name in ("capture", "progress"):
        if name in fit_options:
            raise TypeError(f"verify_reproducible decides about fit({name}) itself. Leave it out.")
    options = {"epochs": epochs, "batch_size": batch_size, "progress": False, **fit_options}
    names = [*(f"run {i + 1}" for i in range(runs)), "run without capture"]
    made: list[Trainer] = []
    first: dict[str, HostArray] = {}
    differences: list[Difference] = []
    for name in names:
        trainer = _new_trainer(make_trainer, made)
        found = _initial(trainer.model)
        _fit(trainer, X, y, capture=name != names[-1], **options)
        found |= _outcome(trainer)
        first = first or found
        difference = _first_difference(name, first, found)
        differences += [] if difference is None else [difference]
        if len(made) > 1:
            made[-1:] = []  # only the first is needed later: let the others' memory go
    ours = made[0]
    report = ReproducibilityReport(ours.model.ops.describe(), tuple(names), len(first), tuple(differences))
    if reference is None:
        return report
    new, other = _new_trainer(make_trainer, made), _new_trainer(reference, made)
    before = _Comparison(new, other, X)
    guarantees = [
        before.initial_weights(),
        before.order(len(X), epochs, bool(fit_options.get("shuffle", True))),
        before.masks(batch_size),
        before.outputs("outputs before training are equal up to rounding", _ROUNDING, None),
    ]
    _fit(other, X, y, **options)
    after = _Comparison(ours, other, X)
    guarantees.append(after.outputs("outputs after training are within tolerance", _TRAINING, tolerance))
    return replace(report, reference=other.model.ops.describe(), guarantees=tuple(guarantees))


def _fit(trainer: Trainer, X: Any, y: Any, **options: Any) -> None:
    """A whole run: one that Ctrl-C has cut short would differ from the others."""
    if trainer.fit(X, y, **options).stopped_by == "interrupt":
        raise KeyboardInterrupt


def _new_trainer(make_trainer: MakeTrainer, made: list[Trainer]) -> Trainer:
    """What the user's function builds; TypeError or ValueError if that is no trainer, or one that was used before."""
    trainer = make_trainer()
    if not isinstance(trainer, Trainer):
        raise TypeError(f"verify_reproducible expects a function that builds a Trainer; it gave {trainer!r:.80}.")
    if trainer.epochs_trained or any(trainer.model is known.model for known in made):
        raise ValueError(
            "verify_reproducible expects a function that builds a new Trainer with a new Sequential each time it is "
            "called; it gave one that has been trained already."
        )
    made.append(trainer)
    return trainer


def _initial(model: Sequential) -> dict[str, HostArray]:
    return {f"initial {name}": model.ops.to_numpy(x).copy() for name, x in model.named_arrays().items()}


def _outcome(trainer: Trainer) -> dict[str, HostArray]:
    """Everything that training has changed, by name, on the host."""
    model, optimizer = trainer.model, trainer.optimizer
    arrays = dict(model.named_arrays())
    arrays |= {f"optimizer {name}": array for name, array in optimizer.whole_state.items()}
    arrays |= {f"optimizer {name}": array for name, array in _device_arrays(optimizer.control)}
    arrays["random_step"] = model.random_step
    found = {name: model.ops.to_numpy(array).copy() for name, array in arrays.items()}
    history = trainer.history.to_dict()
    return found | {f"history {name}": np.asarray(x) for name, x in history.items() if name not in _TIMES}


def _device_arrays(holder: Any) -> Iterator[tuple[str, Any]]:
    """The arrays among an object's attributes, and among those of what it holds: `StepControl` and its loss scaling."""
    for name, value in vars(holder).items():
        if hasattr(value, "dtype"):
            yield name, value
        elif hasattr(value, "__dict__"):
            yield from ((f"{name}.{inner}", array) for inner, array in _device_arrays(value))


def _first_difference(run: str, expected: dict[str, HostArray], found: dict[str, HostArray]) -> Difference | None:
    for name in [*expected, *(name for name in found if name not in expected)]:
        a, b = expected.get(name), found.get(name)
        if a is None or b is None or a.shape != b.shape or a.dtype != b.dtype:
            return Difference(run, name, (), None, None, 0, None)
        differ = _bits(a) != _bits(b)
        if differ.any():
            index = tuple(int(i) for i in np.argwhere(differ)[0])
            return Difference(run, name, index, a[index].item(), b[index].item(), int(differ.sum()), _max_ulp(a, b))
    return None


def _bits(x: HostArray) -> HostArray:
    """The bits of each element as an unsigned integer, in x's shape."""
    return np.ascontiguousarray(x).view(f"u{x.dtype.itemsize}")


def _max_ulp(a: HostArray, b: HostArray) -> int | None:
    """The largest number of steps from one floating-point number to the next between a and b; None with a NaN."""
    if a.dtype.kind in "iub":
        return max(abs(int(x) - int(y)) for x, y in zip(a.flat, b.flat, strict=True))
    if np.isnan(a.astype(np.float64)).any() or np.isnan(b.astype(np.float64)).any():
        return None
    p, q = _ranks(a), _ranks(b)
    distance = np.maximum(p, q) - np.minimum(p, q)  # of float64 it may exceed int64: taken modulo 2⁶⁴ it is right
    return int(distance.view(np.uint64).max())


def _ranks(x: HostArray) -> HostArray:
    """The place of each number among all floating-point numbers of its dtype, in an int64; ±0 is at 0."""
    bits = _bits(x).astype(np.uint64)
    sign = np.uint64(2 ** (8 * x.dtype.itemsize - 1))
    magnitude = (bits & (sign - np.uint64(1))).astype(np.int64)
    return np.where(bits & sign, -magnitude, magnitude)


class _Comparison:
    """Two new trainers of one network on two backends."""

    def __init__(self, ours: Trainer, other: Trainer, X: Any) -> None:
        if _shapes(ours.model) != _shapes(other.model):
            raise ValueError(
                "verify_reproducible(reference) must build the same network as make_trainer; names or shapes of the "
                "parameters differ."
            )
        self._ours, self._other, self._X = ours, other, X[:_COMPARED]

    def initial_weights(self) -> Guarantee:
        name = "initial weights are the same bits"
        pairs = list(zip(*(_initial(trainer.model).values() for trainer in (self._ours, self._other)), strict=True))
        n_different = sum(int((_bits(a) != _bits(b.astype(a.dtype))).sum()) for a, b in pairs)
        n = sum(a.size for a, _ in pairs)
        return Guarantee(name, n_different == 0, f"{n_different:,} of {n:,} numbers differ")

    def order(self, n_samples: int, epochs: int, shuffle: bool) -> Guarantee:
        """What each device gathers in each epoch."""
        orders = [_visited(trainer, n_samples, epochs, shuffle) for trainer in (self._ours, self._other)]
        n_different = int((orders[0] != orders[1]).sum())
        detail = f"{n_different:,} of {epochs} x {n_samples:,} places differ"
        return Guarantee("samples are visited in the same order", n_different == 0, detail)

    def masks(self, batch_size: int) -> Guarantee:
        masks = [_masks(trainer.model, batch_size) for trainer in (self._ours, self._other)]
        n_different = sum(int((a != b).sum()) for a, b in zip(*masks, strict=True))
        n = sum(mask.size for mask in masks[0])
        detail = f"{n_different:,} of {n:,} draws differ" if n else "the network has no dropout"
        return Guarantee("dropout masks are the same bits", n_different == 0, detail)

    def outputs(self, name: str, tolerances: dict[str, float], tolerance: float | None) -> Guarantee:
        """The networks' outputs for the first samples, as far apart as their precision explains."""
        if tolerance is None:
            tolerance = max(tolerances[trainer.model.precision] for trainer in (self._ours, self._other))
        a, b = (np.asarray(trainer.model(self._X), np.float64) for trainer in (self._ours, self._other))
        largest = float(np.abs(b).max())
        error = float(np.abs(a - b).max()) / largest if largest else float(np.abs(a).max())
        return Guarantee(name, error <= tolerance, f"{error:.1e} of the largest output apart, allowed {tolerance:.1e}")


def _shapes(model: Sequential) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in model.named_arrays().items()}


def _visited(trainer: Trainer, n_samples: int, epochs: int, shuffle: bool) -> HostArray:
    """(epochs, n_samples): the numbers of the samples in the order in which the device gathers them."""
    ops = trainer.model.ops
    data = DeviceData(ops, np.zeros((n_samples, 1), np.float32), np.arange(n_samples), None, n_samples)
    views, rows = data.views(n_samples), []
    for epoch in range(epochs):
        data.start_epoch(epoch_order(n_samples, trainer.seed, epoch, shuffle))
        data.gather(views)
        rows.append(ops.to_numpy(views.targets).copy())
    return np.array(rows)


def _masks(model: Sequential, batch_size: int) -> list[HostArray]:
    """What each dropout layer draws in a few training passes over a batch, and its position in the model."""
    ops, drawn = model.ops, []
    step = ops.zeros(1, np.int64)
    for layer in model.walk():
        if isinstance(layer, Dropout) and layer.p:
            mask = ops.matrix(layer.n_out, batch_size, np.uint8)
            A = ops.matrix(layer.n_out, batch_size, np.float32)
            ops.fill(A, 1.0)
            for i in range(_MASK_STEPS):
                ops.fill(step, i + 1)
                layer.drop(A, step, mask, A)
                drawn.append(ops.to_numpy(mask).copy())
    return drawn
