"""All stored weights of a network: the health of a step, clipping, the optimizer's update, and the commit."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

import numpy as np

from .._types import Array, HostArray
from ..backend import SMALLEST_LOSS_SCALE, FlatParameters, Ops, Segment, StepControl
from ..data import Signature
from ._folder import FolderStore
from ._matrix import StoredMatrix
from ._moments import Moments
from ._record import Record
from ._store import HostStore, Rows
from ._tiles import Tiles
from ._weight import StoredWeight


class Updates(Protocol):
    """What a step of stored weights needs of an optimizer."""

    @property
    def control(self) -> StepControl: ...
    @property
    def state(self) -> dict[str, Array]: ...
    def _state_names(self) -> tuple[str, ...]: ...
    def factors_of(self, name: str, decay: float) -> tuple[float, float]: ...
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
        self._moments = Moments(ops, store, self.weights)
        self._n_nonfinite = ops.zeros(max(1, len(self.weights)), "int64")
        self._model: Resident | None = None
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

    @property
    def learning(self) -> list[StoredWeight]:
        """The weights that are not frozen."""
        return [weight for weight in self.weights if not weight.frozen]

    def belong_to(self, model: Resident) -> None:
        """Commit together with what this network has in memory."""
        self._model = model
        if isinstance(self.store, FolderStore):
            self.store.on_commit(self._record)

    # The optimizer

    @property
    def names(self) -> list[str]:
        """The weights' names: "0.W", ..."""
        return [weight.name for weight in self.weights]

    def bind(self, optimizer: Any) -> None:
        """Zero moments for every stored weight, those of the opened folder, or none before it trains; see `Moments`."""
        self._moments.bind(optimizer)

    def moments_of(self, optimizer: Any) -> dict[str, Rows]:
        """The stored arrays of an optimizer that trains, by name: "0.W.m". RuntimeError if another has since."""
        return self._moments.of(optimizer)

    def state_of(self, optimizer: Any) -> dict[str, StoredMatrix]:
        """The same, to be looked at."""
        return {name: StoredMatrix(rows) for name, rows in self._moments.seen_by(optimizer).items()}

    def check_trainable(self) -> None:
        """`StorageError` where the network cannot be trained: closed, another process's, or not to be written to."""
        if isinstance(self.store, FolderStore):
            self.store.check_writable()

    # A training step

    def begin_step(self, counted: bool) -> None:
        """A training pass begins: the last gradient is gone, and what the pass changes is remembered."""
        self.check_trainable()
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

    @contextmanager
    def _as_before_the_pass(self) -> Iterator[None]:
        """Within, the network in memory is as it was before the training pass; after an error it stays so.

        An optimizer that takes another's place commits, and no half of a step may count.
        """
        after = [(array, self.ops.to_numpy(array).copy()) for array, _ in self._before]
        for array, values in self._before:
            self.ops.assign(array, values)
        yield
        for array, values in after:
            self.ops.assign(array, values)

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
        for weight in self.learning:
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
        for weight in self.learning:
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
        taking_over = nullcontext() if self._moments.belong_to(optimizer) else self._as_before_the_pass()
        with self.undoing(), taking_over:
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
                for number, weight in enumerate(self.weights):
                    if not weight.frozen:
                        self._update(optimizer, number, control, moments)
            optimizer.change(flat)
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
        n_nonfinite, factors = self._n_nonfinite[number : number + 1], optimizer.factors_of(weight.name, 1.0)

        def compute(rows: slice, arrays: list[Array]) -> None:
            tile = weight.flat_tile(arrays[0], weight.gradient_tile(rows), *factors)
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
        """Σ λ₁Σ|w| + λ₂Σw² over the stored weights that learn."""
        return sum(weight.penalty(self._total) for weight in self.learning)

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
        """Let go of the folder, if there is one, which then has the network's notes as they are."""
        if isinstance(self.store, FolderStore):
            try:
                if self._model is not None and self.store.keeps:
                    self.store.keep(self._notes(self._model), {"link": self._model.config()["link"]})
            finally:
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
        model, to_numpy = self._model, self.ops.to_numpy
        assert model is not None, "belong_to comes first"
        record = Record({"flat": to_numpy(model.flat.values)})
        record.arrays |= {f"state {name}": to_numpy(array) for name, array in model.statistics().items()}
        record.data = {
            "config": None if getattr(self.store, "temporary", False) else model.config(),
            "stored": {weight.name: weight.tile_rows for weight in self.weights},
            "random_step": int(self._number(model.random_step)),
            "optimizer": None,
        } | self._notes(model)
        self._moments.record(record)
        return record

    def _notes(self, model: Resident) -> dict[str, Any]:
        """What a program may change at any time."""
        try:
            json.dumps(model.info)
        except (TypeError, ValueError) as error:
            raise TypeError(f"model.info must be plain JSON data (str, int, float, list, dict): {error}.") from error
        return {"info": model.info, "signature": model.signature.plain()}


def _whole(rows: Rows) -> HostArray:
    """All rows of a matrix that lies in memory."""
    found = rows.view(0, rows.shape[0])
    assert found is not None, "it lies on the host"
    return found
