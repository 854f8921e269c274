"""Large products are cut by their shape and shared by threads; the number of threads changes no bit."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu import _blas_threads
from fcnn_gpu._blas_threads import OneBlasThread, blas_threads
from fcnn_gpu.backend import _cores, _helpers, parts_of, share
from fcnn_gpu.backend._ops import Ops, _products

SECONDS = 60
"""After which a test that waits for another thread has failed."""
SHAPES = [(784, 512, 200), (512, 784, 129), (130, 1025, 600), (2100, 70, 700), (4099, 9, 3000), (1030, 2049, 40)]
"""Of products that are cut: by columns, by rows, by both, with sides that no part divides."""

pytestmark = pytest.mark.skipif(blas_threads() is None, reason="threadpoolctl does not know NumPy's BLAS")


@pytest.fixture(autouse=True)
def nobody_has_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FCNN_THREADS", "")
    monkeypatch.setattr(_cores, "_chosen", None)
    monkeypatch.setattr(_cores, "_inherited", None)


@pytest.fixture
def own_number() -> Iterator[None]:
    """BLAS threads of its own, which must not show."""
    (library,) = _blas_threads._known()[:1]
    before = library.get()
    library.set(3)
    yield
    library.set(before)


class TestParts:
    @pytest.mark.parametrize(
        "shape", [(784, 128, 32), (784, 128, 128), (128, 10, 128), (128, 784, 128), (1, 1, 1), (0, 5, 3)]
    )
    def test_small_products_are_one(self, shape: tuple[int, int, int]) -> None:
        """Those of 784-128-10 in batches of 32 and 128, for example."""
        m, n, _ = shape
        assert parts_of(*shape, 4) == [(slice(0, m), slice(0, n))]

    @pytest.mark.parametrize("shape", SHAPES)
    def test_they_cover_the_result_once(self, shape: tuple[int, int, int]) -> None:
        m, n, k = shape
        parts = parts_of(m, n, k, 4)
        assert len(parts) > 1
        covered = np.zeros((m, n), int)
        for rows, columns in parts:
            covered[rows, columns] += 1
            assert 2 * k * covered[rows, columns].size >= 0.8 * _products._PART, "none is too small to be worth it"
        assert (covered == 1).all()

    def test_as_many_as_threads_share_evenly(self) -> None:
        for m, n, k in itertools.product((64, 300, 784, 2048), (10, 300, 784, 2048, 4096), (64, 512, 2048)):
            parts = parts_of(m, n, k, 4)
            assert len(parts) & (len(parts) - 1) == 0
            assert len(parts) <= len(parts_of(m, n, k, 8)) <= 2 * len(parts)

    def test_a_net_of_2048_gives_eight_threads_work(self) -> None:
        """784-2048-2048-10 at 512: forward, and both gradients."""
        for shape in ((512, 2048, 784), (512, 2048, 2048), (784, 2048, 512), (2048, 2048, 512)):
            assert len(parts_of(*shape, 4)) >= 8

    def test_nothing_is_cut_where_blas_cannot_be_held(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_blas_threads, "_libraries", [])
        assert len(parts_of(2048, 2048, 2048, 4)) == 1

    def test_nor_where_the_inner_dimension_is_narrow(self) -> None:
        assert len(parts_of(10_000, 10_000, 1, 4)) == 1


def matrix(rng: np.random.Generator, m: int, n: int, dtype: str, order: str) -> np.ndarray:
    x: np.ndarray = rng.standard_normal((m, n) if order == "C" else (n, m)).astype(dtype)
    return x if order == "C" else x.T


@pytest.mark.usefixtures("own_number")
class TestProducts:
    @pytest.mark.parametrize("orders", [*itertools.product("CF", repeat=3)], ids="".join)
    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    def test_the_same_bits_with_any_number_of_threads(
        self, shape: tuple[int, int, int], orders: tuple[str, ...]
    ) -> None:
        m, n, k = shape
        rng, ops, found = np.random.default_rng(0), Ops(), []
        for dtype in ("float32", "float64"):
            A, B = matrix(rng, m, k, dtype, orders[0]), matrix(rng, k, n, dtype, orders[1])
            out = matrix(rng, m, n, dtype, orders[2])
            for n_threads in (1, 2, 5):
                fcnn.set_threads(n_threads)
                out.fill(np.nan)
                ops.gemm(A, B, out)
                found.append(out.copy())
            exact = A.astype(np.float64) @ B.astype(np.float64)
            np.testing.assert_allclose(out, exact, rtol=0, atol=np.abs(exact).max() * np.finfo(dtype).eps * 8)
            assert all(np.array_equal(one, found[-1]) for one in found[-3:])

    def test_added_to_what_is_there(self) -> None:
        rng, ops, found = np.random.default_rng(0), Ops(), []
        A, B = matrix(rng, 900, 300, "float32", "C"), matrix(rng, 300, 800, "float32", "F")
        before = matrix(rng, 900, 800, "float32", "F")
        for n_threads in (1, 3):
            fcnn.set_threads(n_threads)
            out = before.copy(order="K")
            ops.gemm(A, B, out, alpha=0.5, beta=1.0)
            found.append(out)
        assert np.array_equal(found[0], found[1])
        np.testing.assert_allclose(found[0], before + 0.5 * (A @ B), rtol=0, atol=1e-4)

    def test_views_that_blas_cannot_read_are_copied_whole(self) -> None:
        rng, out = np.random.default_rng(0), np.empty((512, 512), "float32")
        A, B = rng.standard_normal((512, 1024)).astype("float32")[:, ::2], matrix(rng, 512, 512, "float32", "C")
        Ops().gemm(A, B, out)
        np.testing.assert_allclose(out, A @ B, rtol=0, atol=1e-3)

    def test_of_matrices_larger_than_memory(self) -> None:
        rng = np.random.default_rng(0)
        A, B = matrix(rng, 700, 500, "float32", "C"), matrix(rng, 500, 600, "float32", "C")
        found = []
        for n_threads, order in itertools.product((1, 3), "CF"):
            fcnn.set_threads(n_threads)
            out = np.empty((700, 600), "float32", order)  # type: ignore[call-overload]
            fcnn.chunked_matmul(A, B, out, rates=fcnn.Rates(arithmetic=1e10), backend="numpy")
            found.append(out)
        np.testing.assert_allclose(found[0], A @ B, rtol=0, atol=1e-3)
        assert np.array_equal(found[0], found[2])
        assert np.array_equal(found[1], found[3])

    def test_training_gives_the_same_bits(self) -> None:
        X = np.random.default_rng(0).normal(size=(600, 500)).astype("float32")

        def trained(n_threads: int, capture: bool = True) -> list[np.ndarray]:
            fcnn.set_threads(n_threads)
            layers = [
                fcnn.Dense(520, activation="relu"),
                fcnn.BatchNorm(),
                fcnn.Dropout(0.1),
                fcnn.Dense(300),
                fcnn.Dense(2),
            ]
            model = fcnn.Sequential(layers, n_in=500, seed=0, backend="numpy")
            trainer = fcnn.Trainer(model)
            options: dict[str, Any] = {"progress": False, "capture": capture, "validation_split": 0.2}
            history = trainer.fit(X, X[:, 0] > 0, epochs=2, batch_size=300, **options)
            return [*(array.copy() for array in model.named_arrays().values()), model(X), np.array(history["val_loss"])]

        one = trained(1)
        for other in (trained(4), trained(2, capture=False)):
            assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


class TestSharing:
    @pytest.mark.parametrize("n", [1, 2, 5])
    def test_as_many_threads_as_chosen_take_part_at_once(self, n: int) -> None:
        fcnn.set_threads(n)
        meeting = threading.Barrier(n, timeout=SECONDS)
        seen = set()

        def call() -> None:
            meeting.wait()
            seen.add(threading.get_ident())

        share([call] * (3 * n))
        assert len(seen) == n

    def test_no_more_threads_than_calls(self) -> None:
        fcnn.set_threads(50)
        before = _helpers._n_helpers
        share([lambda: None])
        assert _helpers._n_helpers == before

    def test_one_thread_makes_them_in_order(self) -> None:
        fcnn.set_threads(1)
        made: list[int] = []
        share([lambda i=i: made.append(i) for i in range(10)])  # type: ignore[misc]
        assert made == list(range(10))

    def test_several_of_the_users_threads_at_once(self) -> None:
        fcnn.set_threads(3)
        totals = [0] * 4

        def add(i: int) -> None:
            for _ in range(200):
                done: list[int] = []
                share([lambda: done.append(1)] * 7)  # noqa: B023 - made and called in the same turn
                totals[i] += len(done)

        several = [threading.Thread(target=add, args=(i,)) for i in range(4)]
        for one in several:
            one.start()
        for one in several:
            one.join(SECONDS)
        assert totals == [1400] * 4

    def test_an_error_comes_when_no_call_is_running_any_more(self) -> None:
        fcnn.set_threads(2)
        caller = threading.get_ident()
        failed, running = threading.Event(), []

        def call() -> None:
            running.append(1)
            try:
                if threading.get_ident() != caller:
                    failed.set()
                    raise ArithmeticError("in a helper")
                assert failed.wait(SECONDS)
            finally:
                running.pop()

        with pytest.raises(ArithmeticError, match="in a helper"):
            share([call] * 50)
        assert running == []
        made: list[int] = []
        share([lambda: made.append(1)] * 9)
        assert len(made) == 9, "the helper goes on"

    def test_an_interrupt_waits_for_the_call_that_has_begun(self) -> None:
        fcnn.set_threads(2)
        caller = threading.get_ident()
        begun, go_on, ended = threading.Event(), threading.Event(), []

        def call() -> None:
            if threading.get_ident() == caller:
                assert begun.wait(SECONDS)
                threading.Timer(0.05, go_on.set).start()
                raise KeyboardInterrupt
            begun.set()
            assert go_on.wait(SECONDS)
            ended.append(1)

        with pytest.raises(KeyboardInterrupt):
            share([call] * 20)
        assert ended == [1]

    def test_another_interrupt_while_it_waits(self) -> None:
        interrupts = [KeyboardInterrupt("first"), KeyboardInterrupt("second")]

        class Alone:
            def acquire(self) -> None:
                if interrupts:
                    raise interrupts.pop(0)

        job = _helpers._Job([])
        job._n_helping = 1
        job._alone = Alone()  # type: ignore[assignment]
        with pytest.raises(KeyboardInterrupt, match="second"):
            job.close()
        assert interrupts == []

    def test_where_the_system_gives_no_more_threads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(self: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(_helpers, "_n_helpers", 0)
        monkeypatch.setattr(threading.Thread, "start", fail)
        fcnn.set_threads(3)
        made: list[int] = []
        share([lambda: made.append(1)] * 5)
        assert len(made) == 5

    def test_it_keeps_nothing_of_what_is_done(self) -> None:
        fcnn.set_threads(3)
        x = np.ones(10)
        before = sys.getrefcount(x)
        for _ in range(50):
            share([x.sum] * 6)
        late = threading.Barrier(3, timeout=SECONDS)
        share([late.wait] * 3)  # all helpers have come by
        assert sys.getrefcount(x) == before

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="without fork there is nothing to inherit")
    def test_a_child_has_helpers_of_its_own(self) -> None:
        code = f"""
import os, threading
import fcnn_gpu as fcnn
from fcnn_gpu.backend import share
fcnn.set_threads(3)
share([threading.Barrier(3, timeout={SECONDS}).wait] * 3)
if os.fork() == 0:
    fcnn.set_threads(2)
    share([threading.Barrier(2, timeout={SECONDS}).wait] * 2)
    print("shared", flush=True)
    os._exit(0)
os.wait()
"""
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == "shared\n"

    def test_each_call_has_one_blas_thread(self) -> None:
        (library,) = _blas_threads._known()[:1]
        before = library.get()
        library.set(3)
        try:
            fcnn.set_threads(2)
            found: list[int] = []
            share([lambda: found.append(library.get())] * 4)
            assert (found, library.get()) == ([1] * 4, 3)
            with OneBlasThread():
                library.set(3)  # as a limit of threadpoolctl's does that ends in another thread
                share([lambda: found.append(library.get())] * 4)
            assert found == [1] * 8
        finally:
            library.set(before)
