"""Choosing by timing: the fastest of those that work, once per problem, kept where it is asked to be kept."""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fcnn_gpu as fcnn
from fcnn_gpu.backend import _autotune
from fcnn_gpu.backend._autotune import Autotuner, Question, autotune_setting
from fcnn_gpu.backend._cublas import CublasError
from fcnn_gpu.backend._ops import Ops

from ..conftest import emulated_ops
from ..support.op_cases import matrix
from ..support.tolerances import assert_close

PROBLEM = ("product", "float32", (3, 4), True)
TEXT = "product float32 3x4 True"


@pytest.fixture(autouse=True)
def _own_setting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No setting but the tests' own, and nothing chosen before or after."""
    monkeypatch.delenv("FCNN_AUTOTUNE", raising=False)
    monkeypatch.setattr(_autotune, "_setting", None)
    for tuner in _autotune._tuners:
        tuner.forget()
    yield
    for tuner in _autotune._tuners:
        tuner.forget()


class Clock:
    """Time that passes only where a candidate says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def capture(self, fn: Callable[[], None]) -> Callable[[], None]:
        return fn

    def stopwatch(self) -> Callable[[], float]:
        start = self.now
        return lambda: self.now - start


class Trial:
    """Candidates that take so many seconds, or fail; counts their calls."""

    def __init__(self, **candidates: float | Exception) -> None:
        self.clock = Clock()
        self.calls: dict[str, int] = dict.fromkeys(candidates, 0)
        self.asked = 0
        self.families: tuple[Any, ...] = ()
        self._candidates = candidates

    def question(self) -> Question:
        self.asked += 1
        return Question({name: self._run(name) for name in self._candidates}, self.arguments, self.families)

    def _run(self, name: str) -> Callable[..., None]:
        def run(argument: object) -> None:
            assert argument == "scratch"
            self.calls[name] += 1
            takes = self._candidates[name]
            if isinstance(takes, Exception):
                raise takes
            self.clock.now += takes

        return run

    def arguments(self) -> tuple[Any, ...]:
        return ("scratch",)

    def choose(self, tuner: Autotuner, problem: Any = PROBLEM) -> str:
        return tuner.choose(problem, self.question, self.clock)


class RisingClock(Clock):
    """A device that takes 1 + `cold`·exp(−t/`warms_up`) times as long after t seconds of work, and is disturbed."""

    def __init__(self, cold: float, warms_up: float, noise: float, seed: int) -> None:
        super().__init__()
        self._cold, self._warms_up, self._noise = cold, warms_up, noise
        self._random = np.random.default_rng(seed)

    def work(self, seconds: float) -> None:
        self.now += seconds * (1 + self._cold * math.exp(-self.now / self._warms_up))

    def stopwatch(self) -> Callable[[], float]:
        start = self.now
        disturbed = 1 + self._noise * self._random.exponential() * (self._random.random() < 0.7)
        return lambda: disturbed * (self.now - start)


def chosen_of(clock: RisingClock, times: list[float]) -> int:
    """The number of the candidate that is chosen, of those that take these times on a warm device."""
    ways = {f"way {i}": partial(clock.work, seconds) for i, seconds in enumerate(times)}
    problem = Question(ways, lambda: ())
    return list(ways).index(Autotuner("", "").choose(PROBLEM, lambda: problem, clock))


clocks = st.builds(
    RisingClock,
    cold=st.floats(0, 4),
    warms_up=st.floats(1e-4, 0.02),
    noise=st.floats(0, 0.05),
    seed=st.integers(0, 2**32),
)
unit = st.sampled_from([2e-6, 1e-5, 1e-4, 5e-4, 2e-3])


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(clocks, unit, st.lists(st.floats(0.985, 3), min_size=1, max_size=4))
def test_the_first_stays_unless_another_is_clearly_better(
    clock: RisingClock, seconds: float, others: list[float]
) -> None:
    assert chosen_of(clock, [seconds, *(seconds * other for other in others)]) == 0


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(clocks, unit, st.lists(st.floats(1.06, 3), min_size=1, max_size=4), st.data())
def test_what_is_clearly_better_is_found_wherever_it_stands(
    clock: RisingClock, seconds: float, others: list[float], data: st.DataObject
) -> None:
    best = data.draw(st.integers(0, len(others)))
    times = [seconds * other for other in others]
    assert chosen_of(clock, [*times[:best], seconds, *times[best:]]) == best


def test_times_are_those_of_the_warm_device() -> None:
    tuner, clock = Autotuner("", ""), RisingClock(cold=4, warms_up=5e-3, noise=0.0, seed=0)
    ways: dict[str, Callable[..., None]] = {name: partial(clock.work, 1e-5) for name in "ab"}
    tuner.choose(PROBLEM, lambda: Question(ways, lambda: ()), clock)
    assert tuner.results()[0].seconds == pytest.approx({"a": 1e-5, "b": 1e-5}, rel=0.03)


UNSUPPORTED = CublasError("cublasLtMatmul", 15)


def test_the_fastest_is_chosen_once() -> None:
    tuner, trial = Autotuner("H100", "cuBLAS 12"), Trial(a=3e-6, b=1e-6, c=2e-6)
    assert tuner.known(PROBLEM) is None
    assert [trial.choose(tuner) for _ in range(3)] == ["b"] * 3
    assert tuner.known(PROBLEM) == "b"
    assert trial.asked == 1
    (tuned,) = tuner.results()
    assert tuned.seconds == pytest.approx({"a": 3e-6, "b": 1e-6, "c": 2e-6})
    assert str(tuned) == f"{TEXT} on H100: b (b 1.0 us, c 2.0 us, a 3.0 us)"
    assert tuned in fcnn.autotune_report()


def test_long_calls_are_not_repeated_as_often() -> None:
    short, long = Trial(a=1e-6, b=1e-6), Trial(a=1e-2, b=1e-2)
    short.choose(Autotuner("", ""))
    long.choose(Autotuner("", ""))
    assert long.calls["a"] < 10 < short.calls["a"]


def test_what_the_device_cannot_do_is_dropped_with_its_reason() -> None:
    tuner, trial = Autotuner("", ""), Trial(a=2e-6, b=UNSUPPORTED, c=3e-6)
    assert trial.choose(tuner) == "a"
    (tuned,) = tuner.results()
    assert tuned.dropped == {"b": str(UNSUPPORTED)}
    assert "; b: cublasLtMatmul: CUBLAS_STATUS_NOT_SUPPORTED" in str(tuned)
    assert trial.calls["b"] == 1


def test_an_argument_that_the_library_refuses_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    tuner, trial = Autotuner("", ""), Trial(a=2e-6, b=CublasError("cublasLtMatmul", 7))
    with caplog.at_level("WARNING", logger="fcnn_gpu"):
        assert trial.choose(tuner) == "a"
    assert f"b is left out for {TEXT}: cublasLtMatmul: CUBLAS_STATUS_INVALID_VALUE" in caplog.text


def sized(n: int, **candidates: float | Exception) -> Trial:
    trial = Trial(**candidates)
    trial.families = ((("layer",), n),)
    return trial


def test_after_some_sizes_of_a_family_the_nearest_one_decides() -> None:
    tuner = Autotuner("", "")
    for n in range(8):
        times = {"a": 1e-6, "b": 2e-6} if n < 4 else {"a": 2e-6, "b": 1e-6}
        assert sized(n, **times).choose(tuner, ("layer", n)) == ("a" if n < 4 else "b")
    small, large, other = sized(-5, a=1.0, b=1.0), sized(99, a=1.0, b=1.0), sized(98, a=1e-6, b=UNSUPPORTED)
    assert small.choose(tuner, ("layer", -5)) == "a"
    assert large.choose(tuner, ("layer", 99)) == "b"
    assert other.choose(tuner, ("layer", 98)) == "a"
    assert (small.calls, large.calls, other.calls) == ({"a": 1, "b": 0}, {"a": 0, "b": 1}, {"a": 0, "b": 1})
    notes = [str(tuned) for tuned in tuner.results()[-2:]]
    assert notes[0] == "layer 99 on : b (not timed: 8 other sizes have been)"
    assert "and b does not go: cublasLtMatmul: CUBLAS_STATUS_NOT_SUPPORTED" in notes[1]
    with pytest.raises(CublasError, match="EXECUTION_FAILED"):
        sized(97, a=1.0, b=CublasError("cublasLtMatmul", 13)).choose(tuner, ("layer", 97))
    assert sized(97, c=1.0).choose(tuner, ("layer", 97)) == "c"


@pytest.mark.parametrize("error", [CublasError("cublasLtMatmul", 13), ValueError("wrong")])
def test_any_other_failure_is_an_error(error: Exception) -> None:
    with pytest.raises(type(error)):
        Trial(a=1e-6, b=error).choose(Autotuner("", ""))


def test_the_first_candidate_must_work() -> None:
    with pytest.raises(CublasError):
        Trial(a=UNSUPPORTED, b=1e-6).choose(Autotuner("", ""))


def test_without_memory_for_a_trial_the_first_is_taken() -> None:
    class Large(Trial):
        def arguments(self) -> tuple[Any, ...]:
            raise MemoryError("no memory")

    tuner, trial = Autotuner("", ""), Large(a=2e-6, b=1e-6)
    assert trial.choose(tuner) == "a"
    assert "no memory" in str(tuner.results()[0])


def test_switched_off_the_first_is_taken_and_nothing_is_called() -> None:
    fcnn.set_autotune("off")
    tuner, trial = Autotuner("", ""), Trial(a=2e-6, b=1e-6)
    assert trial.choose(tuner) == "a"
    assert trial.calls == {"a": 0, "b": 0}
    fcnn.set_autotune("on")
    assert trial.choose(tuner) == "b"


def test_threads_time_one_after_the_other() -> None:
    tuner, trial, chosen = Autotuner("", ""), Trial(a=2e-6, b=1e-6), list[str]()
    threads = [threading.Thread(target=lambda: chosen.append(trial.choose(tuner))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert chosen == ["b"] * 4
    assert trial.asked == 1


def test_the_environment_says_what_holds_unless_the_program_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert autotune_setting() == "on"
    monkeypatch.setenv("FCNN_AUTOTUNE", "off")
    assert autotune_setting() == "off"
    fcnn.set_autotune(tmp_path / "choices.json")
    assert autotune_setting() == str(tmp_path / "choices.json")
    monkeypatch.setattr(_autotune, "_setting", None)
    monkeypatch.setenv("FCNN_AUTOTUNE", "yes")
    with pytest.raises(ValueError, match=r'variable FCNN_AUTOTUNE expects "on", "off" or the path .* got \'yes\''):
        autotune_setting()


@pytest.mark.parametrize("setting", ["of", True, None, 3, "", "choices.txt"])
def test_other_settings_are_refused_and_change_nothing(setting: Any) -> None:
    fcnn.set_autotune("off")
    with pytest.raises(ValueError, match=r"set_autotune expects \"on\", \"off\" or the path of a \.json file, got"):
        fcnn.set_autotune(setting)
    assert autotune_setting() == "off"


def test_a_folder_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match=r"there is no folder /nowhere to keep c\.json in"):
        fcnn.set_autotune("/nowhere/c.json")


# The file


def test_choices_are_kept_for_other_processes(tmp_path: Path) -> None:
    path = tmp_path / "choices.json"
    fcnn.set_autotune(path)
    Trial(a=2e-6, b=1e-6).choose(Autotuner("H100", "cuBLAS 12.9.3"))
    Trial(a=1e-6, b=2e-6).choose(Autotuner("H100", "cuBLAS 12.9.3"), ("other",))
    again = Trial(a=1e-6, b=2e-6)  # which would choose otherwise
    tuner = Autotuner("H100", "cuBLAS 12.9.3")
    assert again.choose(tuner) == "b"
    assert again.calls == {"a": 0, "b": 0}
    assert str(tuner.results()[0]) == f"{TEXT} on H100: b (kept in {path})"
    content = json.loads(path.read_text())
    ((device, problems),) = content["devices"].items()
    assert device == f"H100, cuBLAS 12.9.3, fcnn_gpu {fcnn.__version__}"
    assert problems[TEXT] == {"choice": "b", "microseconds": {"a": 2.0, "b": 1.0}}
    assert problems["other"]["choice"] == "a"
    assert [p.name for p in tmp_path.iterdir()] == ["choices.json"]


@pytest.mark.parametrize(("device", "libraries"), [("A100", "cuBLAS 12.9.3"), ("H100", "cuBLAS 13.0.0")])
def test_they_hold_for_that_device_and_these_versions(tmp_path: Path, device: str, libraries: str) -> None:
    fcnn.set_autotune(tmp_path / "choices.json")
    Trial(a=2e-6, b=1e-6).choose(Autotuner("H100", "cuBLAS 12.9.3"))
    assert Trial(a=1e-6, b=2e-6).choose(Autotuner(device, libraries)) == "a"
    assert Trial(a=1e-6, b=2e-6).choose(Autotuner("H100", "cuBLAS 12.9.3")) == "b"


def test_a_choice_that_is_no_candidate_is_made_anew(tmp_path: Path) -> None:
    fcnn.set_autotune(tmp_path / "choices.json")
    Trial(a=2e-6, b=1e-6).choose(Autotuner("", ""))
    trial = Trial(a=2e-6, c=3e-6)
    assert trial.choose(Autotuner("", "")) == "a"
    assert trial.calls["c"] > 0


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"format": 2}',
        '{"format": 1, "devices": []}',
        '{"format": 1, "devices": {"x": 3}}',
        '{"format": 1, "devices": {"x": {"p": {"choice": 3}}}}',
        "\udce9",
    ],
)
def test_a_damaged_file_is_reported_and_written_anew(
    content: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "choices.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    fcnn.set_autotune(path)
    with caplog.at_level("WARNING", logger="fcnn_gpu"):
        assert Trial(a=2e-6, b=1e-6).choose(Autotuner("", "")) == "b"
    assert f"{path}" in caplog.text
    assert "ignored and will be written anew" in caplog.text
    assert Trial(a=1e-6, b=2e-6).choose(Autotuner("", "")) == "b"


def test_a_file_that_cannot_be_written_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    fcnn.set_autotune(tmp_path / "choices.json")
    with caplog.at_level("WARNING", logger="fcnn_gpu"):
        assert Trial(a=2e-6, b=1e-6).choose(Autotuner("", "")) == "b"
    assert "cannot be kept in" in caplog.text
    assert "No space left" in caplog.text
    assert list(tmp_path.iterdir()) == []


# On a device


def test_a_layer_is_tuned_when_it_first_comes_up(device_ops: Ops) -> None:
    ops, rng = device_ops, np.random.default_rng(0)
    W, A0, b = matrix(ops, rng.normal(size=(8, 5)), np.float32), matrix(ops, rng.normal(size=(5, 4)), np.float32), None
    b = ops.asarray(rng.normal(size=(8, 1)), np.float32)
    A = ops.matrix(8, 4, np.float32)
    ops.dense_forward(W, A0, b, "relu", 0.0, A, A)
    expected = np.maximum(ops.to_numpy(W) @ ops.to_numpy(A0) + ops.to_numpy(b), 0)
    assert_close(ops.to_numpy(A), expected, "sum")
    operations = [tuned.problem[0] for tuned in fcnn.autotune_report()]
    assert sorted(operations) == ["dense_forward", "gemm"]
    (layer,) = (tuned for tuned in fcnn.autotune_report() if tuned.problem[0] == "dense_forward")
    assert {"separate passes", "tiled"} <= layer.seconds.keys()
    assert layer.seconds[layer.choice] <= min(layer.seconds.values()) / 0.97
    assert {
        "separate passes",
        "cublasLt",
        "cublasLt 2",
        "cublasLt 3",
        "tiled",
    } == layer.seconds.keys() | layer.dropped.keys()
    ops.dense_forward(W, A0, b, "relu", 0.0, A, A)
    assert len(fcnn.autotune_report()) == 2


def test_batches_of_every_size_are_not_all_timed() -> None:
    ops: Any = emulated_ops()
    W, b = ops.matrix(3, 4, np.float32), ops.zeros((3, 1), np.float32)
    for batch in range(1, 15):
        A0, A = ops.matrix(4, batch, np.float32), ops.matrix(3, batch, np.float32)
        ops.dense_forward(W, A0, b, "relu", 0.0, A, A)
    timed = [tuned.problem[0] for tuned in fcnn.autotune_report() if tuned.seconds]
    assert timed.count("dense_forward") <= 9  # a matrix of one column has strides of its own
    assert timed.count("gemm") <= 9
    assert sum(tuned.problem[0] == "dense_forward" for tuned in fcnn.autotune_report()) == 14


def test_nothing_is_timed_while_a_graph_is_recorded() -> None:
    ops: Any = emulated_ops()
    A, B, out = (ops.matrix(n, m, np.float64) for n, m in ((3, 4), (4, 2), (3, 2)))
    ops.fill(A, 2.0)
    ops.fill(B, 0.5)
    launch = ops._runtime.record(lambda: ops.gemm(A, B, out))
    assert fcnn.autotune_report() == []
    launch()
    np.testing.assert_array_equal(ops.to_numpy(out), np.full((3, 2), 4.0))
    ops.gemm(A, B, out)
    (tuned,) = fcnn.autotune_report()
    assert tuned.choice in tuned.seconds


@pytest.mark.parametrize(
    ("kind", "precision"),
    [
        ("relu", None),
        ("gelu_tanh", None),
        ("tanh", None),
        ("relu", "tf32"),
        ("relu", "bfloat16"),
        ("gelu_tanh", "float16"),
    ],
)
def test_training_with_tuned_products_is_training(kind: str, precision: str | None) -> None:
    ops, rng = emulated_ops(), np.random.default_rng(0)
    X, y = rng.normal(size=(48, 6)).astype(np.float32), rng.integers(0, 3, 48)
    found = {}
    for setting in ("off", "on"):
        fcnn.set_autotune(setting)
        for capture in (True, False):
            layers = [fcnn.Dense(8, activation=kind), fcnn.Dense(3)]
            model = fcnn.Sequential(layers, n_in=6, seed=0, backend=ops, precision=precision)
            trainer = fcnn.Trainer(model, optimizer="adam")
            trainer.fit(X, y, epochs=3, batch_size=16, progress=False, capture=capture)
            found[setting, capture] = ops.to_numpy(model.flat.values).copy()
    assert len(fcnn.autotune_report()) >= 6
    for setting in ("off", "on"):
        np.testing.assert_array_equal(found[setting, True], found[setting, False])
    if model.compute_dtype.itemsize == 2:  # the steps of Adam are as long whatever the gradient's last digits are
        np.testing.assert_allclose(found["on", True], found["off", True], atol=6e-3)
    elif precision == "tf32":
        np.testing.assert_allclose(found["on", True], found["off", True], atol=3e-3)
    else:
        assert_close(found["on", True], found["off", True], "training")
