"""How many threads compute on the CPU: who says so, what is refused, and what worker processes take over."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import joblib
import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky import get_reusable_executor
from threadpoolctl import threadpool_limits

import fcnn_gpu as fcnn
from fcnn_gpu._blas_threads import OneBlasThread, blas_threads
from fcnn_gpu.backend import _cores, inherit_threads, threads_and_reason
from fcnn_gpu.backend._cpu import usable_cores
from fcnn_gpu.estimators import FCNNClassifier

from ..support.cli_cases import Command, assert_mistake, linear


@pytest.fixture(autouse=True)
def nobody_has_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FCNN_THREADS", "")  # which `set_threads` changes, and the end of the test restores
    monkeypatch.setattr(_cores, "_chosen", None)
    monkeypatch.setattr(_cores, "_inherited", None)


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cores, "_cores", lambda: 8)
    monkeypatch.setattr(_cores, "blas_threads", lambda: 64)


class TestDefault:
    @pytest.mark.usefixtures("eight_cores")
    def test_one_for_each_core(self) -> None:
        assert threads_and_reason() == (8, "one for each core of this process")

    @pytest.mark.usefixtures("eight_cores")
    def test_no_more_than_blas_has(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_cores, "blas_threads", lambda: 3)
        assert threads_and_reason() == (3, "as many as NumPy's BLAS has")
        monkeypatch.setattr(_cores, "blas_threads", lambda: None)
        assert fcnn.threads() == 8

    def test_this_machines_cores_are_read_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        _cores._cores.cache_clear()
        assert _cores._cores() == usable_cores()
        monkeypatch.setattr(_cores, "usable_cores", lambda: 1000)
        assert _cores._cores() < 1000
        _cores._cores.cache_clear()

    @pytest.mark.skipif(blas_threads() is None, reason="threadpoolctl does not know NumPy's BLAS")
    def test_a_limit_of_threadpoolctls_holds_here_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_cores, "_cores", lambda: 8)
        with threadpool_limits(2):
            assert fcnn.threads() == 2
            with OneBlasThread():
                assert fcnn.threads() == 2, "what counts is the number outside of our calls"


class TestChoice:
    @pytest.mark.usefixtures("eight_cores")
    def test_set_threads_then_the_environment_then_the_cores(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FCNN_THREADS", "5")
        assert threads_and_reason() == (5, "as FCNN_THREADS=5 says")
        fcnn.set_threads(20)
        assert threads_and_reason() == (20, "as set_threads says")
        assert os.environ["FCNN_THREADS"] == "20", "which a process that is started now inherits"
        fcnn.set_threads(None)
        assert fcnn.threads() == 8
        assert "FCNN_THREADS" not in os.environ

    def test_more_than_there_are_cores_or_blas_threads(self) -> None:
        fcnn.set_threads(77)
        with threadpool_limits(1):
            assert fcnn.threads() == 77

    @pytest.mark.parametrize("wrong", [True, "2", 2.0, [1]])
    def test_what_is_no_integer_is_refused(self, wrong: Any) -> None:
        fcnn.set_threads(3)
        with pytest.raises(TypeError, match="set_threads expects an integer, got"):
            fcnn.set_threads(wrong)
        assert (fcnn.threads(), os.environ["FCNN_THREADS"]) == (3, "3")

    @pytest.mark.parametrize("wrong", [0, -1])
    def test_fewer_than_one_are_refused(self, wrong: int) -> None:
        with pytest.raises(ValueError, match=f"set_threads expects an integer of at least 1, got {wrong}"):
            fcnn.set_threads(wrong)

    @pytest.mark.parametrize("wrong", ["0", "-1", "x", "2.0", "True", "²"])
    def test_a_wrong_environment_variable_is_named_when_a_model_is_built(
        self, wrong: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FCNN_THREADS", wrong)
        with pytest.raises(
            ValueError, match=f"variable FCNN_THREADS expects a number of threads, at least 1, got '{wrong}'"
        ):
            fcnn.Sequential([fcnn.Dense(1)], n_in=1, backend="numpy")
        with pytest.raises(ValueError, match="FCNN_THREADS"):
            fcnn.threads()
        fcnn.set_threads(1)  # mends it
        fcnn.Sequential([fcnn.Dense(1)], n_in=1, backend="numpy")


class TestOfOneRun:
    """fit(threads=)"""

    @pytest.mark.parametrize("backend", ["numpy", "cpu"])
    def test_it_holds_within_the_run_alone_and_changes_no_bit(self, backend: str) -> None:
        seen: list[int] = []

        class Asks(fcnn.Callback):
            def on_epoch_end(self, trainer: fcnn.Trainer, record: dict[str, float]) -> None:
                seen.append(fcnn.threads())

        X, y = np.random.default_rng(0).normal(size=(300, 64)), np.arange(300) % 10
        weights = []
        for n in (1, 3):
            layers = [fcnn.Dense(64, activation="relu"), fcnn.Dense(10)]
            model = fcnn.Sequential(layers, 64, seed=0, backend=backend)
            before = fcnn.threads()
            fcnn.Trainer(model).fit(X, y, epochs=2, threads=n, progress=False, callbacks=[Asks()])
            assert fcnn.threads() == before
            weights.append(model.flat.values.tobytes())
        assert seen == [1, 1, 3, 3]
        assert weights[0] == weights[1]

    @pytest.mark.parametrize("wrong", [0, -1, True, 1.5, "x"])
    def test_another_number_is_refused(self, wrong: Any) -> None:
        trainer = fcnn.Trainer(fcnn.Sequential([fcnn.Dense(2)], 3, seed=0, backend="numpy"))
        with pytest.raises((TypeError, ValueError), match=r"fit\(threads\)"):
            trainer.fit(np.zeros((4, 3)), np.zeros(4, int), threads=wrong)


def answer(estimator: Any = None) -> tuple[int, str]:
    return threads_and_reason()


@pytest.fixture
def workers() -> Iterator[Parallel]:
    """joblib's, which it allows two BLAS threads each, begun while nobody had chosen."""
    get_reusable_executor().shutdown(wait=True)
    with parallel_config("loky", n_jobs=2, inner_max_num_threads=2):
        parallel = Parallel()
        assert len(parallel(delayed(answer)() for _ in range(2))) == 2
        yield parallel
    get_reusable_executor().shutdown(wait=True)


class TestWorkers:
    @pytest.mark.skipif("OPENBLAS_NUM_THREADS" in os.environ, reason="joblib leaves a limit that is set as it is")
    def test_what_joblib_allows_them_is_the_most(self, workers: Parallel) -> None:
        estimator = FCNNClassifier((2,), epochs=1)
        fcnn.set_threads(50)
        assert set(workers(delayed(answer)(estimator) for _ in range(4))) == {(2, "as many as NumPy's BLAS has")}

    def test_set_threads_reaches_workers_that_have_begun(self, workers: Parallel) -> None:
        estimator = FCNNClassifier((2,), epochs=1)
        fcnn.set_threads(1)
        expected = {(1, "as the process that this one works for says")}
        assert set(workers(delayed(answer)(estimator) for _ in range(4))) == expected
        fcnn.set_threads(None)
        assert all("works for" not in why for _, why in workers(delayed(answer)(estimator) for _ in range(4)))

    @pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # JAX, where other tests have imported it
    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    @pytest.mark.parametrize("method", [m for m in ("spawn", "fork") if m in multiprocessing.get_all_start_methods()])
    def test_set_threads_reaches_children_that_begin_later(self, method: str) -> None:
        fcnn.set_threads(1)
        with multiprocessing.get_context(method).Pool(1) as pool:
            n, why = pool.apply(answer)
            assert n == 1
            assert why == (
                "as FCNN_THREADS=1 says" if method == "spawn" else "as the process that this one works for says"
            )

    def test_a_program_that_is_started_takes_the_same(self) -> None:
        fcnn.set_threads(6)
        code = "from fcnn_gpu.backend import threads_and_reason; print(threads_and_reason())"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "(6, 'as FCNN_THREADS=6 says')"

    def test_a_pickle_says_nothing_to_a_process_of_its_own(self, tmp_path: Any) -> None:
        fcnn.set_threads(7)
        joblib.dump(FCNNClassifier((2,), epochs=1), tmp_path / "file")
        fcnn.set_threads(None)
        estimator = joblib.load(tmp_path / "file")
        assert _cores._inherited is None
        assert not any("threads" in name for name in vars(estimator))
        inherit_threads(7)
        assert _cores._inherited is None

    @pytest.mark.usefixtures("eight_cores")
    def test_a_worker_that_chooses_itself_gets_what_it_asks_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_cores, "is_worker", lambda: True)
        monkeypatch.setattr(_cores, "blas_threads", lambda: 2)
        inherit_threads(5)
        assert fcnn.threads() == 2
        fcnn.set_threads(5)
        assert fcnn.threads() == 5


class TestCommands:
    def test_the_option_arrives(self, command: Command, tmp_path: Any) -> None:
        path = linear(tmp_path / "plane.csv")
        assert command("train", "--data", path, "--threads", 3, "--epochs", 1, "--no-progress", "--out", "run")[0] == 0
        assert threads_and_reason() == (3, "as set_threads says")
        assert command("evaluate", "run/model.safetensors", "--data", path, "--threads", 4)[0] == 0
        assert fcnn.threads() == 4
        assert command("predict", "run/model.safetensors", path, "--drop", "price", "--threads", 5)[0] == 0
        assert fcnn.threads() == 5

    @pytest.mark.parametrize("wrong", [0, -1])
    @pytest.mark.parametrize("name", ["train", "evaluate", "predict"])
    def test_a_wrong_number_is_a_mistake(self, name: str, wrong: int, command: Command) -> None:
        arguments = {"train": (), "evaluate": ("model",), "predict": ("model", "input")}[name]
        expected = f"--threads expects an integer of at least 1, got {wrong}"
        assert_mistake(command(name, *arguments, "--threads", wrong), expected)

    def test_what_is_no_number_is_a_mistake(self, command: Command) -> None:
        assert_mistake(command("train", "--threads", "x"), "--threads")

    def test_a_wrong_environment_variable_is_a_mistake(self, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FCNN_THREADS", "many")
        assert_mistake(command("train", "--epochs", 1), "variable FCNN_THREADS expects a number of threads")
