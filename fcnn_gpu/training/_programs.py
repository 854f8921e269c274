"""The programs that an epoch's steps are called by, in smaller parts of a batch where memory runs out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ..backend import Replay
from ..data import Stretch
from ..memory import forget_frames, is_out_of_memory
from ..model import release
from ._epoch import Epoch
from ._micro_batches import why_whole
from ._step import REPLAYING, UPDATING, TrainingStep
from .history import History

_MOMENT = 0.03
"""Seconds for which steps are taken without a look at Ctrl-C and the clock."""
_logger = logging.getLogger("fcnn_gpu")


class Key(NamedTuple):
    """What a program is made for; `part` is the buffer of the data."""

    batch: int
    n_steps: int
    scheduled: bool
    part: int
    guarded: bool


class Programs:
    """The programs of a run by what they are made for, made when they are needed.

    A program's first call is made step by step with care: what checking and updating need is made before, and running
    statistics are copied in between. So a step that finds no memory can be undone; it is made anew in parts of half
    the size, and all steps after it are. `is_reserved` is False where memory that steps need has been given away.
    """

    def __init__(self, step: TrainingStep, epoch: Epoch, history: History) -> None:
        self._step, self._epoch, self._history = step, epoch, history
        self.is_reserved = False
        self._made: dict[Key, Replay] = {}
        self._ready: dict[Key, Replay] = {}
        """Programs that have been called, and need no precautions any more."""
        self._seconds_per_call: dict[Key, float] = {}
        self.until_pause: Callable[[], int] | None = None
        """How many steps may be taken before somebody wants to be told of them; None: nobody does."""
        self.has_told = False
        """Whether the user has heard of a shortage in this run."""

    def of(self, stretches: Iterator[Stretch]) -> Iterator[tuple[Key, int, int, Stretch | None]]:
        """The programs of an epoch in order, each with how often it is to be called and its place in a stretch.

        Last comes the stretch, if it ends that.
        """
        data, ops = self._step.data, self._step.model.ops
        size = data.batch_size
        for stretch in stretches:
            n_parts = -(-size // self._step.micro_batch_size)
            at_once = max(1, min(ops.steps_per_capture // n_parts, data.window // size))
            first = 0
            while first < stretch.n:
                batch = min(size, stretch.n - first)
                n_left = (stretch.n - first) // batch
                if self.until_pause is not None:
                    n_left = min(n_left, self.until_pause())
                n = at_once if n_left >= at_once else 1
                self._epoch.look_again(n)
                key = Key(batch, n, self._epoch.scheduled, stretch.part, self._epoch.guarded)
                n_times = self._times(key, n_left // n)
                yield key, n_times, first, stretch if first + batch * n * n_times == stretch.n else None
                first += batch * n * n_times

    def _times(self, key: Key, most: int) -> int:
        """How often to call the program at once: for a moment, where that spares time; once if each is looked at."""
        if key not in self._ready or key.guarded or self._epoch.has_statistics:
            return 1
        for_a_moment = int(_MOMENT / max(self._seconds_per_call.get(key, _MOMENT), 1e-9))
        n = max(1, min(most, for_a_moment, self._step.model.ops.steps_per_call))
        return n if self._epoch.is_safe(n * key.n_steps) else 1

    def take_steps(self, key: Key, n_times: int, first: int) -> None:
        """Call the program of `key` so often; its batches begin at position `first` of the stretch."""
        program = self._ready.get(key)
        shortage: Exception | None = None
        if program is not None:
            start = time.perf_counter()
            try:
                program(n_times)
                self._epoch.n_done += key.n_steps * n_times
                self._seconds_per_call[key] = (time.perf_counter() - start) / n_times
                return
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                program, shortage = None, error  # it holds what is about to be let go
        self._take_with_care(key, n_times, first, shortage)

    def _take_with_care(self, key: Key, n_times: int, first: int, shortage: Exception | None) -> None:
        """Where memory runs out in a step, that step is made anew, and the others after it, in smaller parts.

        `shortage`: so it has in a first attempt.
        """
        left, fallen_short = key.n_steps * n_times, False
        while left:
            n = finished = 1 if fallen_short else left
            if shortage is None:
                try:
                    self._call(key._replace(n_steps=n))
                except Exception as error:
                    if not is_out_of_memory(error):
                        raise
                    shortage = error
            if shortage is not None:
                fallen_short = True
                finished = self._epoch.undo_step(key.batch, first)
                self._shrink(shortage)
                shortage = None
            elif fallen_short:
                self._tell()
            left -= finished
            first += key.batch * finished
            self._epoch.n_done += finished

    def _call(self, key: Key) -> None:
        """A program, step by step the first time, so that what its steps change beside parameters can be put back."""
        model = self._step.model
        if not self.is_reserved and why_whole(model) is None:
            self._step.reserve_update()
            self.is_reserved = True
        if key not in self._made:
            self._made[key] = self._step.program(*key)
        program = self._made[key]
        if model.ops.asynchronous:  # elsewhere that was done after the step before this one
            self._epoch.keep()
            self._step.between_steps = self._epoch.keep
        try:
            program()
        finally:
            self._step.between_steps = None
        if (self._step.is_captured and not key.guarded) or not self._epoch.has_statistics:
            self._ready[key] = program

    def _shrink(self, error: Exception) -> None:
        """Free what can be made anew, and halve the parts of batches; the error itself where that is not possible."""
        step = self._step
        unknown = step.phase == UPDATING or (step.phase == REPLAYING and not step.model.ops.asynchronous)
        if unknown or step.micro_batch_size == 1 or why_whole(step.model) is not None:
            raise error
        forget_frames(error)
        self._made.clear()
        self._ready.clear()
        self.is_reserved = False
        step.release(-(-step.micro_batch_size // 2))
        release(step.model)
        self._history.micro_batch_size = step.micro_batch_size

    def _tell(self) -> None:
        """Say that the run goes on in smaller parts, unless it has said that memory ran out before."""
        if not self.has_told:
            _logger.warning(
                "Memory ran out in epoch %d, step %d: training goes on in micro-batches of %d. Batches are of %d "
                "samples as before, and results the same up to rounding.",
                self._epoch.number,
                self._epoch.n_done + 1,
                self._step.micro_batch_size,
                self._step.data.batch_size,
            )
        self.has_told = True
