"""A whole case: who takes part, who is left out and why, and what the result holds. Times are never asserted."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fcnn_gpu.bench import _contest, agreement, rounds
from fcnn_gpu.bench._worker import Worker, WorkerError
from fcnn_gpu.bench.libraries import LIBRARIES, backends_here
from fcnn_gpu.bench.nets import Net
from fcnn_gpu.bench.results import OURS, Absent, CaseResult, Ceilings
from fcnn_gpu.bench.settings import Settings

CEILINGS = Ceilings("CPU (NumPy)", "float32", 1e11, "2048 × 2048 × 2048", 1e10, 2**28, 1e-6)
QUICK = Settings(threads=1, rounds=3, round_seconds=2e-3, libraries=("sklearn",), timeout=120)
NET = Net((20, 16, 5))

needs_sklearn = pytest.mark.skipif(LIBRARIES["sklearn"].missing() is not None, reason="scikit-learn is not installed")


def check(result: CaseResult) -> None:
    """What holds for every result."""
    assert (result.net, result.batch, result.dtype) == ("20-16-5", 32, "float32")
    assert result.device.startswith("CPU (")
    assert result.threads == 1
    assert result.n_parameters == NET.n_parameters
    assert result.flops == NET.flops(32, result.job)
    assert result.bytes == NET.bytes(32, result.job)
    for timing in result.timings:
        assert len(timing.seconds) == QUICK.rounds
        assert min(timing.seconds) > 0
        assert timing.cold_seconds > 0
        assert timing.transfer_seconds is None
        assert timing.device_seconds is None
    assert result.products_seconds > 0
    assert result.hollow_seconds > 0
    assert result.bound in ("arithmetic", "memory", "Python")
    assert "matrix products" in result.bound_because


def others(result: CaseResult) -> list[Absent]:
    """The peers that were left out."""
    return [absent for absent in result.absent if absent.library != OURS]


def test_a_case_with_every_peer_that_is_here() -> None:
    """They start together; where others fail below, they start in turn."""
    settings = Settings(threads=1, rounds=3, round_seconds=2e-3, timeout=120, start_together=True)
    said: list[str] = []
    results = rounds.time_case(NET, 32, settings=settings, ceilings=CEILINGS, progress=said.append)
    assert [result.job for result in results] == ["train", "infer"]
    installed = [key for key in settings.libraries if LIBRARIES[key].missing() is None]
    for result in results:
        check(result)
        assert result.ours.library == OURS
        assert [t.variant for t in result.timings if t.library == OURS] == list(backends_here())
        names = {LIBRARIES[key].name for key in installed}
        assert {timing.library for timing in result.peers} == names
        assert {agreed.library for agreed in result.agreements} - {OURS} == names
        assert all(agreed.deviation <= agreed.limit for agreed in result.agreements)
        missing = {LIBRARIES[key].name for key in settings.libraries} - names
        assert {a.library for a in result.absent} - names - {OURS} == missing
        scans = {timing.variant for timing in result.peers if timing.variant.startswith("scan")}
        both = {"scan", "scan, ready batches"} if result.job == "train" else {"scan"}
        assert scans == (both if "JAX" in names else set())
        for peer in result.peers:
            assert result.ratio(peer).median > 0
    assert said[0] == "20-16-5, 32: fcnn_gpu numpy starts"
    assert "20-16-5, 32: training, round 3 of 3" in said


def test_one_job_alone() -> None:
    settings = Settings(threads=1, rounds=1, round_seconds=1e-3, libraries=(), timeout=60)
    (result,) = rounds.time_case(Net((6, 4), True), 8, ["infer"], settings=settings, ceilings=CEILINGS)
    assert result.job == "infer"
    assert {timing.library for timing in result.timings} == {OURS}
    assert result.best_peer is None
    assert math.isfinite(result.hollow_seconds)


@needs_sklearn
def test_who_does_not_agree_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "_LEARNED", 1e-9)
    results = rounds.time_case(NET, 32, settings=QUICK, ceilings=CEILINGS)
    for result in results:
        check(result)
        assert result.peers == []
        (agreed,) = (agreed for agreed in result.agreements if agreed.library != OURS)
        assert agreed.deviation > agreed.limit == 1e-9
        (absent,) = others(result)
        assert "does not compute what fcnn_gpu numpy does" in absent.reason


def failing(name: str, when: Callable[[Any, tuple[Any, ...]], bool]) -> Callable[..., Any]:
    """`Worker.call` that fails for the worker of this name once a call is the one that `when` describes."""
    call = Worker.call

    def wrapped(self: Worker, function: Any, *args: Any, **kwargs: Any) -> Any:
        if self.name == name and when(function, args):
            raise WorkerError(name, "its process ended with signal SIGSEGV")
        return call(self, function, *args, **kwargs)

    return wrapped


def calls(wanted: Callable[..., Any]) -> Callable[[Any, tuple[Any, ...]], bool]:
    return lambda function, args: function is wanted


BUILD, COLD, AGREEMENT = (calls(function) for function in (_contest.build, _contest.stretch, _contest.computed))


@needs_sklearn
@pytest.mark.parametrize(
    ("when", "together"), [(BUILD, False), (COLD, True), (AGREEMENT, False)], ids=["build", "cold", "agreement"]
)
def test_a_peer_that_fails_at_the_start_is_absent(monkeypatch: pytest.MonkeyPatch, when: Any, together: bool) -> None:
    monkeypatch.setattr(Worker, "call", failing("scikit-learn partial_fit", when))
    settings = replace(QUICK, start_together=together)
    for result in rounds.time_case(NET, 32, settings=settings, ceilings=CEILINGS):
        check(result)
        assert result.peers == []
        assert [(a.library, a.variant, a.reason) for a in others(result)] == [
            ("scikit-learn", "partial_fit", "its process ended with signal SIGSEGV")
        ]


@needs_sklearn
@pytest.mark.parametrize("function", [_contest.repetitions, _contest.stretch])
def test_a_peer_that_fails_on_the_way_is_absent_from_there_on(
    monkeypatch: pytest.MonkeyPatch, function: Callable[..., Any]
) -> None:
    def when(called: Any, args: tuple[Any, ...]) -> bool:
        return called is function and args[0] == "infer" and args[1:] != (0, 1)  # not the cold one

    monkeypatch.setattr(Worker, "call", failing("scikit-learn partial_fit", when))
    train, infer = rounds.time_case(NET, 32, settings=QUICK, ceilings=CEILINGS)
    check(train)
    check(infer)
    assert len(train.peers) == 1
    assert others(train) == []
    assert infer.peers == []
    assert [a.reason for a in others(infer)] == ["its process ended with signal SIGSEGV"]


@pytest.mark.parametrize("when", [BUILD, COLD, AGREEMENT], ids=["build", "cold", "agreement"])
def test_our_own_failure_is_an_error(monkeypatch: pytest.MonkeyPatch, when: Any) -> None:
    monkeypatch.setattr(Worker, "call", failing("fcnn_gpu numpy", when))
    with pytest.raises(WorkerError, match="fcnn_gpu numpy: its process ended with signal SIGSEGV"):
        rounds.time_case(NET, 32, settings=QUICK, ceilings=CEILINGS)


def test_another_backend_of_ours_that_fails_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Worker, "call", failing("fcnn_gpu cpu", BUILD))
    for result in rounds.time_case(NET, 32, settings=replace(QUICK, libraries=()), ceilings=CEILINGS):
        assert [timing.variant for timing in result.timings] == ["numpy"]
        assert [(a.library, a.variant) for a in result.absent] == [("fcnn_gpu", "cpu")]


@needs_sklearn
def test_everyone_has_a_turn_in_every_round_and_another_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[tuple[str, str]] = []
    call = Worker.call

    def recorded(self: Worker, function: Any, *args: Any, **kwargs: Any) -> Any:
        if function is _contest.stretch and args[1:] != (0, 1):  # not the cold one
            timed.append((self.name, args[0]))
        return call(self, function, *args, **kwargs)

    monkeypatch.setattr(Worker, "call", recorded)
    rounds.time_case(NET, 32, ["train"], settings=QUICK, ceilings=CEILINGS)
    n = len(timed) // QUICK.rounds
    first = timed[:n]
    assert len(set(first)) == n
    assert {("fcnn_gpu numpy", "train"), ("scikit-learn partial_fit", "train")} <= set(first)
    assert [timed[n * r : n * (r + 1)] for r in range(QUICK.rounds)] == [
        first[r % n :] + first[: r % n] for r in range(QUICK.rounds)
    ]


def test_ctrl_c_ends_every_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Worker] = []
    call = Worker.call

    def interrupted(self: Worker, function: Any, *args: Any, **kwargs: Any) -> Any:
        started.append(self)
        if function is _contest.repetitions:
            raise KeyboardInterrupt
        return call(self, function, *args, **kwargs)

    monkeypatch.setattr(Worker, "call", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rounds.time_case(NET, 32, settings=QUICK, ceilings=CEILINGS)
    assert started
    assert all(worker._process.poll() is not None for worker in started)


def test_a_machine_without_a_gpu_says_which_link_fails() -> None:
    from fcnn_gpu.backend._probe import failing_link, probe_links

    if failing_link(probe_links(0)) is None:
        pytest.skip("this machine has a GPU")
    with pytest.raises(WorkerError, match="BackendError"):
        rounds.time_case(NET, 32, backend="cupy", settings=QUICK, ceilings=CEILINGS)


@pytest.mark.parametrize(
    ("batch", "jobs", "match"),
    [(0, ["train"], "at least 1"), (32, ["fly"], "does not know 'fly'"), (1, ["train"], "at least 2")],
)
def test_unusable_arguments_are_refused_before_anything_starts(batch: int, jobs: list[Any], match: str) -> None:
    net = Net((6, 5, 4), batch_norm=batch == 1)
    with pytest.raises(ValueError, match=match):
        rounds.time_case(net, batch, jobs, settings=QUICK, ceilings=CEILINGS)
