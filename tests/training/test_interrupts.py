"""Ctrl-C where somebody else has a say in it: a program's own handler, asyncio, an outer run."""

from __future__ import annotations

from tests.support.interrupted import POSIX, run_and_signal

_RUN = """
import asyncio, signal, sys, threading
import numpy as np
import fcnn_gpu as fcnn

class Says(fcnn.Callback):
    def __init__(self, done=lambda trainer: None):
        self.done = done
    def on_epoch_end(self, trainer, record):
        if record["epoch"] == 1:
            print("begun", flush=True)
        self.done(trainer)

def fit(epochs=10**6, **options):
    rng = np.random.default_rng(0)
    model = fcnn.Sequential([fcnn.Dense(2)], n_in=20, seed=0)
    X, y = rng.normal(size=(100, 20)), rng.integers(0, 2, 100)
    return fcnn.Trainer(model).fit(X, y, epochs=epochs, batch_size=10, progress=False, **options)
"""


@POSIX
def test_a_programs_own_handler_is_called_and_decides() -> None:
    code, lines, err = run_and_signal(
        _RUN
        + """
called = []
handler = lambda number, frame: called.append(number)
signal.signal(signal.SIGINT, handler)

def stop(trainer):
    if called:
        trainer.stop_reason = "the program's handler"

history = fit(callbacks=[Says(stop)])
print(history.stopped_by, len(called), signal.getsignal(signal.SIGINT) is handler)
"""
    )
    assert (code, lines[-1], err) == (0, "the program's handler 1 True", "")


@POSIX
def test_a_handler_that_raises_ends_the_run() -> None:
    code, lines, err = run_and_signal(
        _RUN
        + """
class Stop(Exception):
    pass

def handler(number, frame):
    raise Stop

signal.signal(signal.SIGINT, handler)
try:
    fit(callbacks=[Says()])
except Stop:
    print("stopped")
"""
    )
    assert (code, lines[-1], err) == (0, "stopped", "")


@POSIX
def test_asyncio_is_told_and_the_run_ends() -> None:
    """One Ctrl-C ends the step, cancels the main task where it waits next, and leaves asyncio.run as its own."""
    code, lines, err = run_and_signal(
        _RUN
        + """
async def main():
    print(fit(callbacks=[Says()]).stopped_by)
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        print("cancelled")
        raise

try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted", signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""
    )
    assert (code, lines[-3:], err) == (0, ["interrupt", "cancelled", "interrupted True"], "")


@POSIX
def test_a_run_within_a_run_ends_both() -> None:
    code, lines, err = run_and_signal(
        _RUN
        + """
class Inner(fcnn.Callback):
    def on_epoch_end(self, trainer, record):
        print(fit(callbacks=[Says()]).stopped_by)

print(fit(callbacks=[Inner()]).stopped_by, signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""
    )
    assert (code, lines[-2:], err) == (0, ["interrupt", "interrupt True"], "")


@POSIX
def test_a_run_in_another_thread_is_no_business_of_ctrl_c() -> None:
    code, lines, err = run_and_signal(
        _RUN
        + """
stop, finished = threading.Event(), threading.Event()
found = []

def end(trainer):
    if stop.is_set():
        trainer.stop_reason = "the main thread"

def run():
    found.append(fit(callbacks=[Says(end)]))
    finished.set()

threading.Thread(target=run).start()
try:
    finished.wait()
except KeyboardInterrupt:
    stop.set()
    finished.wait()
print(found[0].stopped_by)
"""
    )
    assert (code, lines[-1], err) == (0, "the main thread", "")
