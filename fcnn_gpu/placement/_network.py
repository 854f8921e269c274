"""All stored weights of a network: the health of a step, clipping, the optimizer's update, and the commit."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from .._types import Array, HostArray
from ..backend import SMALLEST_LOSS_SCALE, FlatParameters, Ops, Segment, StepControl
from ..data import Signature
from ._folder import FolderStore
from ._matrix import StoredMatrix
from ._record import Record
from ._store import HostStore, Rows
from ._tiles import Tiles
from ._weight import StoredWeight

_logger = logging.getLogger("fcnn_gpu")


class Updates(Protocol):
    """What a step of stored weights needs of an optimizer."""

    @property
    def control(self) -> StepControl: ...
    @property
    def state(self) -> dict[str, Array]: ...
    def _state_names(self) -> tuple[str, ...]: ...
    def _update(self, ops: Ops, flat: FlatParameters, control: StepControl, state: dict[str, Array]) -> None: ...


class Resident(Protocol):
    """The network around the stored weights: what it has in memory."""

    ops: Ops
    flat: FlatParameters
    random_step: Array
    info: dict[str, Any]
    signature: Signature

    def config(self) -> dict[str, Any]: ...
    def statistics(self) -> dict[str, Array]: ...


class StoredWeights:
    """The weights of a network that lie on the host or on disk.

    Args:
        ops: the device's primitives.
        store: where they lie.
        tiles: how they pass through the device.
        weights: each layer's.
    """

    def __init__(self, ops: Ops, store: HostStore | FolderStore, tiles: Tiles, weights: Sequence[StoredWeight]) -> None:
        self.ops, self.store, self.weights = ops, store, list(weights)
        self._tiles = tiles
        self._total = ops.zeros(1, "float64")
        self._n_nonfinite = ops.zeros(max(1, len(self.weights)), "int64")
        self._moments: dict[str, Rows] = {}
        self._model: Resident | None = None
        self._optimizer: Callable[[], Any] = lambda: None
        self._before: list[tuple[Array, HostArray]] = []
        self._applied = False
        self.guarded = False
        """Whether weights on the host are to be put back where an update makes any of them infinite or NaN.

        On disk that is always so, because a step counts once it is committed."""
        self.overflow: str | None = None
        """What an update that was put back would have made infinite or NaN."""

    @property
    def size(self) -> int:
        """The number of stored weights."""
        return sum(weight.size for weight in self.weights)

    def belong_to(self, model: Resident) -> None:
        """Commit together with what this network has in memory."""
        self._model = model
        if isinstance(self.store, FolderStore):
            self.store.on_commit(self._record)

    # The optimizer

    def bind(self, optimizer: Any) -> None:
        """Make zero moments for every stored weight; the moments of an optimizer before are gone.

        The first optimizer of a network that was opened from a folder goes on where the one before ended, if it is of
        the same kind with the same settings but for learning rate and clipping.
        """
        names = optimizer._state_names()
        shapes = {f"{w.name}.{name}": w.shape for w in self.weights for name in names}
        store, opened = self.store, getattr(self.store, "opened", None)
        saved = None if opened is None else opened.record.data.get("optimizer")
        resumes = saved is not None and self._optimizer() is None and saved["kind"] == _kind(optimizer)
        if isinstance(store, FolderStore) and not resumes:  # the names are about to be taken by new files
            self._drop_moments(store)
        dtype = self.weights[0].dtype
        self._moments = dict(store.moments(list(shapes), shapes, dtype))
        before, self._optimizer = self._optimizer, weakref.ref(optimizer)
        try:
            if opened is not None and resumes:
                self._resume(optimizer, opened.record)
            if isinstance(store, FolderStore):
                store.commit_alone()
        except BaseException:
            self._optimizer = before
            raise
        if opened is not None:
            opened.record.data["optimizer"] = None

    def _drop_moments(self, store: FolderStore) -> None:
        """Nobody goes on with the moments of the optimizer before: their files are removed."""
        opened, before = store.opened, (self._optimizer, self._moments)
        data = {} if opened is None else opened.record.data
        saved, data["optimizer"] = data.get("optimizer"), None
        self._optimizer, self._moments = lambda: None, {}
        try:
            store.drop([*before[1], *_saved_moments(opened, self.weights)])
        except BaseException:
            self._optimizer, self._moments = before
            data["optimizer"] = saved
            raise

    def _resume(self, optimizer: Any, record: Record) -> None:
        ops = self.ops
        for name, array in optimizer.state.items():
            ops.assign(array, record.arrays[f"optimizer {name}"])
        ops.fill(optimizer.control.step, record.data["step"])
        _logger.info("%s goes on from step %d of the folder.", type(optimizer).__name__, record.data["step"])

    def moments_of(self, optimizer: Any) -> dict[str, Rows]:
        """The stored arrays of an optimizer by name: "0.W.m". RuntimeError if another has been bound since."""
        if self._optimizer() is not optimizer:
            raise RuntimeError(
                f"Another optimizer has been bound to this network since this {type(optimizer).__name__}: weights on "
                f"{self.store.place} keep the moments of one at a time. Make a new optimizer."
            )
        return self._moments

    def state_of(self, optimizer: Any) -> dict[str, StoredMatrix]:
        """The same, to be read and written."""
        return {name: StoredMatrix(rows) for name, rows in self.moments_of(optimizer).items()}

    # A training step

    def begin_step(self, counted: bool) -> None:
        """A training pass begins: the last gradient is gone, and what the pass changes is remembered."""
        for weight in self.weights:
            weight.forget_factors()
        self._applied = False
        model = self._model
        if model is not None and isinstance(self.store, FolderStore):
            to_numpy = self.ops.to_numpy
            self._before = [(array, to_numpy(array).copy()) for array in model.statistics().values()]
            before = to_numpy(model.random_step).copy()
            self._before.append((model.random_step, before - 1 if counted else before))

    def forget_gradients(self) -> None:
        """What gradients would be computed from is about to be overwritten."""
        for weight in self.weights:
            weight.forget_factors()

    @contextmanager
    def undoing(self) -> Iterator[None]:
        """Within, an error undoes what the training pass has changed in a network on disk."""
        try:
            yield
        except BaseException:
            for array, values in self._before:
                self.ops.assign(array, values)
            raise

    def check_finite(self, flat: FlatParameters, control: StepControl) -> None:
        """What `ops.check_finite` does for resident gradients, after it: failed_step, skip and clip_scale.

        A product is only computed where ‖dZ‖·‖A₀‖ ≥ ‖dZ·A₀ᵀ‖ does not prove that its square is finite.
        """
        if self._failed(control):
            return
        scaling = control.loss_scaling
        inverse = 1.0 if scaling is None else 1.0 / self._number(scaling.scale)
        largest = math.sqrt(float(np.finfo(self.weights[0].dtype).max) / 2)
        sound = True
        for weight in self.weights:
            bound = weight.gradient_bound(self._total) * inverse
            if not bound < largest:
                squares = sum(weight.gradient_square(rows, self._total, inverse) for rows in weight.cut())
                sound = sound and math.isfinite(squares)
        if not sound:
            step = self._number(control.step)
            if scaling is None or self._number(scaling.scale) <= SMALLEST_LOSS_SCALE:
                self.ops.fill(control.failed_step, step)
            elif self._number(scaling.skip) < 0:
                self.ops.fill(scaling.skip, step)
        self.clip(flat, control)

    def clip(self, flat: FlatParameters, control: StepControl) -> None:
        """clip_scale = min(1, c/(‖g‖ + 10⁻⁶)) over resident and stored gradients together, as `ops.gradient_clip`."""
        if control.max_norm is None:
            return
        ops, square = self.ops, 0.0
        if flat.values.size:
            g = ops.scratch("stored penalized", flat.values.size, flat.values.dtype)
            ops.penalized_gradient(flat, g, control.loss_scale)
            ops.penalty(FlatParameters(g, g, (Segment(0, g.size, l2=1.0),)), self._total)
            square += self._number(self._total)
        for weight in self.weights:
            square += sum(self._penalized_squares(weight, control))
        norm = math.sqrt(square) if square >= 0.0 else math.nan
        ops.fill(control.clip_scale, min(1.0, control.max_norm / (norm + 1e-6)))

    def _penalized_squares(self, weight: StoredWeight, control: StepControl) -> Iterator[float]:
        """‖g‖² of each tile, g the gradient with penalties; the weights are read where there are any."""
        ops = self.ops
        if not (weight.l1 or weight.l2):
            inverse = 1.0 if control.loss_scale is None else 1.0 / self._number(control.loss_scale)
            for rows in weight.cut():
                yield weight.gradient_square(rows, self._total, inverse)
            return
        with self._tiles.reading([weight.rows], weight.cut()) as tiles:
            for rows, (W,) in tiles:
                tile = weight.flat_tile(W, weight.gradient_tile(rows))
                ops.penalized_gradient(tile, tile.gradients, control.loss_scale)
                whole = (Segment(0, tile.gradients.size, l2=1.0),)
                ops.penalty(FlatParameters(tile.gradients, tile.gradients, whole), self._total)
                yield self._number(self._total)

    def apply(self, optimizer: Any, flat: FlatParameters, counters: Sequence[tuple[Array, int]]) -> None:
        """The optimizer's update of all parameters, stored ones first, and `ops.finish_step`.

        On disk it is one step, committed at the end: an error before that leaves the network and the optimizer, in
        memory and on disk, as they were before the training pass. Where updates are looked at, one that makes a
        parameter infinite or NaN is put back, and failed_step ← step.
        """
        ops, control, state = self.ops, optimizer.control, optimizer.state
        moments = self.moments_of(optimizer)
        self._applied = True
        before = self._changing(flat, control, state) if self.checks_updates else []
        committed = getattr(self.store, "last_commit", "")
        try:
            changes, copies = not self._stands_still(control), list[tuple[Rows, Rows]]()
            if changes:
                if isinstance(self.store, FolderStore):
                    self.store.check()
                elif self.guarded:
                    copies = [(rows, rows.copy()) for rows in self._rows_of(moments)]
                ops.fill(self._n_nonfinite, 0)
                for number in range(len(self.weights)):
                    self._update(optimizer, number, control, moments)
            optimizer._update(ops, flat, control, state)
            if changes and self.checks_updates:
                self.overflow = self._find_overflow(flat)
                if self.overflow is not None:
                    self._fail(flat, control, before[: 1 + len(state)], copies)
            ops.finish_step(control, counters)
            if isinstance(self.store, FolderStore) and not self._failed(control):
                self.store.commit()
        except BaseException:
            if isinstance(self.store, FolderStore) and self.store.last_commit == committed:
                self.store.abandon()
                for array, values in before:
                    ops.assign(array, values)
            raise

    def check_applied(self, optimizer: Any) -> None:
        """RuntimeError where an optimizer's own `step` has left stored weights out."""
        if not self._applied:
            raise RuntimeError(
                f"{type(optimizer).__name__}.step has not updated the weights on {self.store.place}: they are not in "
                "model.flat. Let it call super().step(), or define _update alone, which is called with every tile."
            )

    @property
    def checks_updates(self) -> bool:
        """Whether every update is looked at before it counts."""
        return self.guarded or isinstance(self.store, FolderStore)

    def is_bounded(self) -> bool:
        """Whether Σw² of each tile is finite, and so no |w| exceeds the root of the dtype's largest number."""
        for weight in self.weights:
            with self._tiles.reading([weight.rows], weight.cut()) as tiles:
                for _, (W,) in tiles:
                    if not math.isfinite(weight.square(W, self._total)):
                        return False
        return True

    def _rows_of(self, moments: dict[str, Rows]) -> list[Rows]:
        return [*(weight.rows for weight in self.weights), *moments.values()]

    def _find_overflow(self, flat: FlatParameters) -> str | None:
        """What the updates of this step have made infinite or NaN."""
        counts = self.ops.to_numpy(self._n_nonfinite)
        if not counts.any() and flat.values.size:
            self.ops.count_nonfinite(flat.values, self._n_nonfinite[:1])
            return "the parameters in memory" if self.ops.to_numpy(self._n_nonfinite)[0] else None
        return next((weight.name for weight, n in zip(self.weights, counts, strict=True) if n), None)

    def _fail(
        self,
        flat: FlatParameters,
        control: StepControl,
        before: list[tuple[Array, HostArray]],
        copies: list[tuple[Rows, Rows]],
    ) -> None:
        """Put the parameters and moments back, and let the step have failed."""
        for array, values in before:
            self.ops.assign(array, values)
        if flat.low is not None:
            self.ops.cast(flat.values[: flat.low.size], flat.low)
        for rows, copy in copies:
            rows.replace([(0, _whole(copy))])
        if isinstance(self.store, FolderStore):
            self.store.abandon()
        self.ops.fill(control.failed_step, int(self._number(control.step)))

    def _update(self, optimizer: Updates, number: int, control: StepControl, moments: dict[str, Rows]) -> None:
        names, weight, checks = optimizer._state_names(), self.weights[number], self.checks_updates
        n_nonfinite = self._n_nonfinite[number : number + 1]

        def compute(rows: slice, arrays: list[Array]) -> None:
            tile = weight.flat_tile(arrays[0], weight.gradient_tile(rows))
            state = {name: array.reshape(-1) for name, array in zip(names, arrays[1:], strict=True)}
            optimizer._update(self.ops, tile, control, state)
            if checks:
                self.ops.count_nonfinite(tile.values, n_nonfinite)

        stored = [weight.rows, *(moments[f"{weight.name}.{name}"] for name in names)]
        self._tiles.update(stored, weight.cut(), compute)

    def _changing(
        self, flat: FlatParameters, control: StepControl, state: dict[str, Array]
    ) -> list[tuple[Array, HostArray]]:
        """What a step changes in memory, and what it was before."""
        scaling = control.loss_scaling
        arrays = [flat.values, *state.values(), control.step, control.failed_step, control.clip_scale]
        if scaling is not None:
            arrays += [scaling.scale, scaling.good_steps, scaling.skipped, scaling.skip]
        to_numpy = self.ops.to_numpy
        return [(array, to_numpy(array).copy()) for array in arrays] + self._before

    def _failed(self, control: StepControl) -> bool:
        return self._number(control.failed_step) >= 0

    def _stands_still(self, control: StepControl) -> bool:
        """Whether this step changes no parameter: it has failed or is skipped."""
        scaling = control.loss_scaling
        return self._failed(control) or (scaling is not None and self._number(scaling.skip) >= 0)

    def _number(self, x: Array) -> float:
        return float(self.ops.to_numpy(x)[0])

    # Outside of a step

    def penalty(self) -> float:
        """Σ λ₁Σ|w| + λ₂Σw² over the stored weights."""
        return sum(weight.penalty(self._total) for weight in self.weights)

    def release(self) -> None:
        """Let go of the buffers that tiles pass through, and of the last gradient's factors."""
        self._tiles.release()
        for weight in self.weights:
            weight.release()

    def commit(self) -> None:
        """On disk, what the network has in memory counts as its last step."""
        if isinstance(self.store, FolderStore):
            self.store.commit()

    def close(self) -> None:
        """Let go of the folder, if there is one."""
        if isinstance(self.store, FolderStore):
            self.store.close()

    def discard(self) -> None:
        """Remove what a network that could not be built has put elsewhere."""
        if isinstance(self.store, FolderStore):
            self.store.discard()

    @contextmanager
    def as_one(self) -> Iterator[None]:
        """Within, what is assigned to a network on disk counts together, at the end, or not at all: in memory, too."""
        model, store = self._model, self.store
        if not isinstance(store, FolderStore) or model is None:
            yield
            return
        arrays, to_numpy = [model.flat.values, *model.statistics().values()], self.ops.to_numpy
        before, committed = [(array, to_numpy(array).copy()) for array in arrays], store.last_commit
        try:
            with store.together():
                yield
        except BaseException:
            if store.last_commit == committed:
                for array, values in before:
                    self.ops.assign(array, values)
            raise

    def _record(self) -> Record:
        """What the network has in memory, for a commit."""
        model, optimizer, to_numpy = self._model, self._optimizer(), self.ops.to_numpy
        assert model is not None, "belong_to comes first"
        record = Record({"flat": to_numpy(model.flat.values)})
        record.arrays |= {f"state {name}": to_numpy(array) for name, array in model.statistics().items()}
        record.data = {
            "config": None if getattr(self.store, "temporary", False) else model.config(),
            "info": model.info,
            "signature": model.signature.plain(),
            "stored": {weight.name: weight.tile_rows for weight in self.weights},
            "random_step": int(self._number(model.random_step)),
            "optimizer": None,
        }
        try:
            json.dumps(model.info)
        except (TypeError, ValueError) as error:
            raise TypeError(f"model.info must be plain JSON data (str, int, float, list, dict): {error}.") from error
        if optimizer is not None and optimizer._bound is not None:
            record.arrays |= {f"optimizer {name}": to_numpy(array) for name, array in optimizer.state.items()}
            record.data |= {"optimizer": {"kind": _kind(optimizer)}, "step": int(self._number(optimizer.control.step))}
        elif (opened := getattr(self.store, "opened", None)) is not None:  # nobody has gone on yet
            kept = {name: array for name, array in opened.record.arrays.items() if name.startswith("optimizer ")}
            record.arrays |= kept
            record.data |= {
                name: opened.record.data[name] for name in ("optimizer", "step") if name in opened.record.data
            }
        return record


def _whole(rows: Rows) -> HostArray:
    """All rows of a matrix that lies in memory."""
    found = rows.view(0, rows.shape[0])
    assert found is not None, "it lies on the host"
    return found


def _kind(optimizer: Any) -> str:
    """The class and the settings that its moments were made with; those that newer versions have added, if they are on.

    A folder of an older version names none of the latter.
    """
    free, added = ("learning_rate", "clip_norm", "clip_value"), ("decay_all",)
    settings = {
        f.name: repr(getattr(optimizer, f.name))
        for f in (dataclasses.fields(optimizer) if dataclasses.is_dataclass(optimizer) else ())
        if f.init and f.name not in free and not (f.name in added and not getattr(optimizer, f.name))
    }
    return f"{type(optimizer).__module__}.{type(optimizer).__qualname__} {json.dumps(settings, sort_keys=True)}"


def _saved_moments(opened: Any, weights: Sequence[StoredWeight]) -> list[str]:
    """The matrices of an opened folder that are no weights."""
    return [] if opened is None else [name for name in opened.generations if name not in {w.name for w in weights}]
