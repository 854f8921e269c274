"""NumPy's BLAS has one thread while the package computes, and its own number after that, whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import fcnn_gpu as fcnn
from fcnn_gpu import _blas_threads
from fcnn_gpu._blas_threads import OneBlasThread, _Library, blas_threads, one_blas_thread_from_here
from fcnn_gpu.layers import Layer

OWN = 3
"""Threads that the library has outside of our calls."""

X = np.random.default_rng(0).normal(size=(40, 6))
Y = np.arange(40) % 3

pytestmark = pytest.mark.skipif(blas_threads() is None, reason="threadpoolctl does not know NumPy's BLAS")


@pytest.fixture(autouse=True)
def own_number() -> Iterator[None]:
    """As many as the tests expect, and what there was before after them."""
    libraries = _blas_threads._known()
    before = [library.get() for library in libraries]
    for library in libraries:
        library.set(OWN)
    yield
    assert _blas_threads._calls == {}
    for library, n in zip(libraries, before, strict=True):
        library.set(n)


def seen() -> set[int]:
    """As threadpoolctl sees it: not by the functions that are tested. SciPy's library is seen once we know of it."""
    known = {library.path for library in _blas_threads._known()}
    return {pool["num_threads"] for pool in threadpool_info() if pool["filepath"] in known}


def trainer(*layers: Layer) -> fcnn.Trainer:
    model = fcnn.Sequential([*layers, fcnn.Dense(3)], n_in=6, seed=0, backend="numpy")
    return fcnn.Trainer(model, metrics=["accuracy"])


def fit(trainer: fcnn.Trainer, *callbacks: fcnn.Callback, epochs: int = 2, **options: Any) -> None:
    trainer.fit(X, Y, epochs=epochs, batch_size=10, progress=False, callbacks=callbacks, **options)


class Calls(fcnn.Callback):
    """Calls a function at the end of each epoch, and notes what it gives."""

    def __init__(self, function: Callable[[], Any] = seen) -> None:
        self._function = function
        self.found: list[Any] = []

    def on_epoch_end(self, trainer: fcnn.Trainer, record: dict[str, float]) -> None:
        self.found.append(self._function())


class Looks(Layer):
    """A layer of a user's own, which notes how many threads there are in its passes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[set[int]] = []

    def forward(self, A0: Any, cache: Any, training: bool) -> Any:
        self.found.append(seen())
        return A0

    def backward(self, dA: Any, cache: Any, input_gradient: bool = True) -> Any:
        self.found.append(seen())
        return dA


class TestCalls:
    """What a user calls."""

    def test_a_run_of_training(self) -> None:
        layer, callback = Looks(), Calls()
        fit(trainer(fcnn.Dense(4, activation="relu"), layer), callback, validation_data=(X, Y))
        assert callback.found == [{1}, {1}]
        assert len(layer.found) > 16
        assert all(found == {1} for found in layer.found)
        assert seen() == {OWN}

    @pytest.mark.parametrize(
        "call",
        [
            lambda made: made.evaluate(X, Y),
            lambda made: made.predict(X),
            lambda made: made.model(X),
            lambda made: made.model.predict_classes(X),
            lambda made: made.model.forward(X),
            lambda made: made.model.backward(made.model.forward(X, training=True)),
        ],
        ids=["evaluate", "predict", "call", "predict_classes", "forward", "backward"],
    )
    def test_others(self, call: Callable[[fcnn.Trainer], object]) -> None:
        layer = Looks()
        made = trainer(layer)
        call(made)
        assert layer.found
        assert all(found == {1} for found in layer.found)
        assert seen() == {OWN}

    def test_products_of_large_matrices(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """They are SciPy's BLAS's, which may be another library."""
        import scipy.linalg

        from fcnn_gpu.large_matrix import _host_product

        def numbers() -> dict[str, int]:
            pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
            used = [*_blas_threads.blas_pools(), *_blas_threads._of_package(pools, scipy.__file__)]
            return {pool["filepath"]: pool["num_threads"] for pool in used}

        monkeypatch.setattr(_blas_threads, "_libraries", _blas_threads._known()[:1])
        _host_product._function.cache_clear()
        before, found = numbers(), []
        multiply = _host_product._multiply

        def looks(*arguments: Any) -> None:
            found.append(set(numbers().values()))
            multiply(*arguments)

        monkeypatch.setattr(_host_product, "_multiply", looks)
        fcnn.chunked_matmul(X, X.T, memory_limit="1 MB", rates=fcnn.Rates(arithmetic=1e10), backend="numpy")
        assert found
        assert all(counts == {1} for counts in found)
        assert numbers() == before

    def test_an_error_in_a_run(self) -> None:
        class Mishap(Exception):
            pass

        def fail() -> None:
            assert seen() == {1}
            raise Mishap

        with pytest.raises(Mishap):
            fit(trainer(), Calls(fail))
        assert seen() == {OWN}

    def test_refused_arguments(self) -> None:
        with pytest.raises(ValueError, match="epochs"):
            fit(trainer(), epochs=0)
        assert seen() == {OWN}

    def test_a_run_within_a_run(self) -> None:
        inner = Calls()

        def again() -> set[int]:
            fit(trainer(), inner)
            return seen()

        outer = Calls(again)
        fit(trainer(), outer)
        assert outer.found == [{1}, {1}]
        assert inner.found == [{1}] * 4
        assert seen() == {OWN}

    def test_runs_that_overlap_in_two_threads(self) -> None:
        """The first to begin ends first, and what it found is given back when the second has ended."""
        begun, ended = threading.Event(), threading.Event()
        found = []

        def second() -> None:
            def wait() -> set[int]:
                begun.set()
                assert ended.wait(60)
                return seen()

            callback = Calls(wait)
            fit(trainer(), callback, epochs=1)
            found.extend(callback.found)

        other = threading.Thread(target=second)

        def begin() -> None:
            other.start()
            assert begun.wait(60)

        fit(trainer(), Calls(begin), epochs=1)
        assert seen() == {1}
        ended.set()
        other.join(60)
        assert found == [{1}]
        assert seen() == {OWN}

    def test_what_another_thread_has_raised_lasts_for_an_epoch(self) -> None:
        """A limit of threadpoolctl's that ends during a run sets the number from before the run."""
        layer = Looks()
        library = _blas_threads._known()[0]
        fit(trainer(layer), Calls(lambda: library.set(OWN)), epochs=2, capture=False)
        assert all(found == {1} for found in layer.found)
        assert seen() == {OWN}


class TestOneBlasThread:
    def test_within_and_after(self) -> None:
        with OneBlasThread():
            assert seen() == {1}
            assert blas_threads() == OWN, "it is the number outside of our calls"
        assert seen() == {OWN}
        assert blas_threads() == OWN

    @pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0)])
    def test_several_that_overlap(self, order: tuple[int, ...]) -> None:
        several = [OneBlasThread() for _ in range(3)]
        for one in several:
            one.__enter__()
        for i in order:
            assert seen() == {1}
            assert blas_threads() == OWN
            several[i].__exit__()
        assert seen() == {OWN}

    def test_a_limit_of_threadpoolctls_within(self) -> None:
        """It holds for what is called in it, and after it there is one thread again."""
        with OneBlasThread():
            with threadpool_limits(2):
                assert seen() == {2}
                with OneBlasThread():
                    assert seen() == {1}
                    assert blas_threads() == 2
                assert seen() == {2}
            assert seen() == {1}
        assert seen() == {OWN}

    def test_a_limit_of_threadpoolctls_around(self) -> None:
        with threadpool_limits(1):
            with OneBlasThread():
                assert blas_threads() == 1
            assert seen() == {1}
        assert seen() == {OWN}

    def test_who_sets_a_number_within_keeps_it(self) -> None:
        library = _blas_threads._known()[0]
        with OneBlasThread():
            library.set(2)
        assert library.get() == 2

    @pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no such timer")
    def test_interrupts_at_any_time(self) -> None:
        """Ctrl-C in what begins, in what is done, and in what gives back."""

        def interrupt(number: int, frame: FrameType | None) -> None:
            raise KeyboardInterrupt

        n_interrupted = 0
        handler = signal.signal(signal.SIGALRM, interrupt)
        try:
            for i in range(3000):
                try:
                    signal.setitimer(signal.ITIMER_REAL, 1e-6 + i % 50 * 2e-7)
                    for _ in range(30):
                        with OneBlasThread():
                            pass
                    signal.setitimer(signal.ITIMER_REAL, 0)
                except KeyboardInterrupt:
                    n_interrupted += 1
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, handler)
        assert n_interrupted
        with OneBlasThread():
            pass
        assert seen() == {OWN}

    def test_a_call_that_was_kept_from_ending_is_ended_by_the_next(self) -> None:
        lost = OneBlasThread()
        lost.__enter__()
        del lost
        assert seen() == {1}
        with OneBlasThread():
            assert blas_threads() == OWN
        assert seen() == {OWN}

    @pytest.mark.parametrize("last", [1, 2])
    def test_an_interrupt_in_a_call_of_the_library(self, last: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """In the first, which takes threads from it, and in the second, which gives them back."""
        library = _blas_threads._known()[0]
        numbers: list[int] = []

        def set_and_raise(n: int) -> None:
            numbers.append(n)
            library.set(n)
            if len(numbers) == last:
                raise KeyboardInterrupt

        interrupted = _Library(library.path, library.get, set_and_raise, of_process=True)
        monkeypatch.setattr(_blas_threads, "_libraries", [interrupted])
        with pytest.raises(KeyboardInterrupt), OneBlasThread():
            pass
        assert numbers == [1, OWN]
        assert seen() == {OWN}

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="without fork there is nothing to inherit")
    def test_a_child_does_not_wait_for_calls_of_threads_that_it_has_not(self) -> None:
        code = """
import os, threading
from fcnn_gpu import _blas_threads
from fcnn_gpu._blas_threads import OneBlasThread
library, = _blas_threads._known()[:1]
library.set(3)
begun, end = threading.Event(), threading.Event()
def other():
    with OneBlasThread():
        begun.set()
        end.wait()
thread = threading.Thread(target=other)
thread.start()
begun.wait()
if os.fork() == 0:
    before = library.get()
    with OneBlasThread():
        within = library.get()
    print(before, within, library.get(), flush=True)
    os._exit(0)
os.wait()
with OneBlasThread():
    if os.fork() == 0:
        print(library.get(), flush=True)
        os._exit(0)
    os.wait()
end.set()
thread.join()
print(library.get())
"""
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines() == ["3 1 3", "1", "3"]


class ByThread:
    """A library that counts in each thread by itself; like MKL's, setting may return what was set before."""

    def __init__(self, returns: bool = False) -> None:
        self._of, self._returns = threading.local(), returns
        self.library = _Library("made-up", self.get, self.set, of_process=False)

    def get(self) -> int:
        return getattr(self._of, "number", 0) or OWN

    def set(self, n: int) -> int | None:
        before: int = getattr(self._of, "number", 0)
        self._of.number = n
        return before if self._returns else None


class TestLibrariesThatCountByThread:
    @pytest.fixture(params=[False, True], ids=["OpenMP", "MKL"])
    def by_thread(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ByThread:
        made = ByThread(request.param)
        monkeypatch.setattr(_blas_threads, "_libraries", [made.library])
        return made

    def test_each_thread_has_its_own_back(self, by_thread: ByThread) -> None:
        found: list[object] = []
        inside, outside = threading.Event(), threading.Event()

        def other() -> None:
            with OneBlasThread():
                inside.set()
                assert outside.wait(60)
                found.extend([by_thread.get(), blas_threads()])
            found.append(by_thread.get())

        thread = threading.Thread(target=other)
        with OneBlasThread():
            thread.start()
            assert inside.wait(60)
            assert (by_thread.get(), blas_threads()) == (1, OWN)
        assert by_thread.get() == OWN
        outside.set()
        thread.join(60)
        assert found == [1, OWN, OWN]

    def test_nothing_is_left_set(self, by_thread: ByThread) -> None:
        with OneBlasThread(), OneBlasThread():
            pass
        assert getattr(by_thread._of, "number", None) == (0 if by_thread._returns else OWN)

    def test_threads_of_ours(self, by_thread: ByThread) -> None:
        found = []

        def ours() -> None:
            one_blas_thread_from_here()
            found.append(by_thread.get())

        thread = threading.Thread(target=ours)
        thread.start()
        thread.join(60)
        assert (found, by_thread.get()) == ([1], OWN)


class TestFinding:
    def test_a_library_that_threadpoolctl_does_not_know(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_blas_threads, "blas_pools", list)
        monkeypatch.setattr(_blas_threads, "_libraries", None)
        assert blas_threads() is None
        with OneBlasThread():
            assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} >= {OWN}

    @pytest.mark.parametrize(
        ("pool", "expected"),
        [
            ({"internal_api": "openblas", "threading_layer": "pthreads"}, True),
            ({"internal_api": "openblas", "threading_layer": "openmp"}, False),
            ({"internal_api": "mkl", "threading_layer": "intel"}, False),
            ({"internal_api": "blis", "threading_layer": "pthreads"}, False),
            ({"internal_api": "flexiblas"}, False),
            ({"internal_api": "of somebody's own"}, None),
            ({"internal_api": "blis", "functions": []}, None),
        ],
    )
    def test_whose_number_it_is(
        self, pool: dict[str, Any], expected: bool | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        functions = pool.pop("functions", [*_blas_threads._OPENMP, *sum(_blas_threads._FUNCTIONS.values(), ())])

        class Handle:
            def __init__(self, path: str) -> None:
                for name in functions:
                    setattr(self, f"scipy_{name}64_" if "openblas" in name else name, lambda *n: None)

        monkeypatch.setattr("ctypes.PyDLL", Handle)
        library = _blas_threads._opened(pool | {"filepath": "lib.so"})
        assert (None if library is None else library.of_process) == expected


def test_importing_looks_for_no_library() -> None:
    code = """
import sys
from fcnn_gpu import *
from fcnn_gpu import _blas_threads
print("threadpoolctl" in sys.modules, _blas_threads._libraries)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "None"]
