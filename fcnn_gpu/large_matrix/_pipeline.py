"""One run of a plan: a thread reads chunks ahead, this one multiplies, a third writes finished tiles behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from ..files import ReadAhead
from ._plan import MatmulPlan
from ._report import MatmulReport
from ._schedule import Load, Step, steps_of
from ._write_behind import WriteBehind

_STEPS_AHEAD = 64
"""Products whose chunks may be read before they are due, as far as there are buffers."""


class Engine(Protocol):
    """What multiplies: the host's or a device's. The reading thread calls `load`, the writing thread `write`."""

    bytes_read: int
    bytes_written: int

    def __enter__(self) -> Engine:
        """Make the buffers."""

    def __exit__(self, *error: object) -> None:
        """Return when nothing uses the buffers any more, and let go of them."""

    def load(self, load: Load, step: Step) -> None:
        """Read a chunk into its buffer."""

    def multiply(self, step: Step) -> None:
        """Add the product to its tile; the first of a tile begins it."""

    def finish(self, step: Step) -> None:
        """Bias and activation, on a tile that is complete."""

    def write(self, step: Step, release: Callable[[], None]) -> None:
        """Take a finished tile to where it belongs; release() when its buffer is free."""

    def finish_all(self) -> None:
        """What comes after the last tile; everything is done when it returns."""


class Stopped(Exception):
    """The reading thread is to end."""


class _Progress:
    """How many products are done, for a thread that waits for some of them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._done, self._stopped = 0, False

    def advance(self) -> None:
        with self._changed:
            self._done += 1
            self._changed.notify_all()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def wait_for(self, n: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._done >= n or self._stopped)
            if self._stopped:
                raise Stopped


class Run:
    """The run, and how far it has come: `n_written` tiles are where they belong."""

    def __init__(self, plan: MatmulPlan, engine: Engine) -> None:
        self._plan, self._engine = plan, engine
        self._progress = _Progress()
        self._read_seconds = self._write_seconds = 0.0
        self.n_written = 0
        self.begun = False
        """Whether anything of out may have changed."""

    def __call__(self) -> MatmulReport:
        engine, progress = self._engine, self._progress
        writer: WriteBehind[Step] = WriteBehind(self._write, self._plan.cut.buffers[2])
        start = time.perf_counter()
        n_products = 0
        with engine:
            with writer, self._reader() as steps:
                try:
                    for step in steps:
                        streams = step.buffers[2] >= 0
                        if step.is_first and streams:
                            writer.wait(step.buffers[2])
                        self.begun = self.begun or not streams or step.is_last
                        engine.multiply(step)
                        n_products += 1
                        if step.is_last:
                            engine.finish(step)
                            if streams:
                                writer.put(step, step.buffers[2])
                            else:
                                self.n_written += 1
                        progress.advance()
                finally:
                    progress.stop()
            engine.finish_all()
        return MatmulReport(
            plan=self._plan,
            seconds=time.perf_counter() - start,
            read_seconds=self._read_seconds,
            write_seconds=self._write_seconds,
            bytes_read=engine.bytes_read,
            bytes_written=engine.bytes_written,
            products=n_products,
        )

    def _reader(self) -> ReadAhead[Step, Step]:
        return ReadAhead(steps_of(self._plan), self._load, _STEPS_AHEAD, "fcnn_gpu read ahead")

    def _load(self, step: Step, _slot: int) -> Step:
        for load in step.loads:
            self._progress.wait_for(load.after)
            start = time.perf_counter()
            self._engine.load(load, step)
            self._read_seconds += time.perf_counter() - start
        return step

    def _write(self, step: Step, release: Callable[[], None]) -> None:
        start = time.perf_counter()
        self._engine.write(step, release)
        self.n_written += 1
        self._write_seconds += time.perf_counter() - start
