"""Where CPU and GPU cross, from timers whose crossing is known."""

from __future__ import annotations

import math

import pytest

from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.bench import crossover
from fcnn_gpu.bench.nets import Net
from fcnn_gpu.bench.results import Crossover, CrossoverPoint


def points(*ratios: float) -> list[CrossoverPoint]:
    """Batches 1, 2, 4, ... at which the CPU takes so many times as long as the GPU."""
    return [CrossoverPoint("784-10", 2**i, 0, ratio * 3e-3, 3e-3) for i, ratio in enumerate(ratios)]


def linear(per_sample: float, fixed: float) -> crossover.Timer:
    return lambda net, batch: fixed + per_sample * batch


def measured(**options: object) -> list[Crossover]:
    found = list(crossover.run(**options))  # type: ignore[arg-type]
    assert all(isinstance(item, Crossover) for item in found)
    return found  # type: ignore[return-value]


def test_the_crossing_of_power_laws_is_exact() -> None:
    """ratio = (batch/100)^0.7 is a line in the logarithms, so the interpolation makes no error."""
    found = Crossover("batch", "", points(*[(2**i / 100) ** 0.7 for i in range(10)]))
    assert found.at == pytest.approx(100.0)
    assert found.conclusion == "below batch 100 the CPU is faster"


def test_the_order_of_the_points_does_not_matter() -> None:
    found = points(0.25, 0.5, 2.0, 4.0)
    assert Crossover("batch", "", found[::-1]).at == pytest.approx(Crossover("batch", "", found).at)
    assert Crossover("batch", "", found).at == pytest.approx(math.sqrt(8.0))


def test_a_point_of_equal_times_is_the_crossing() -> None:
    assert Crossover("batch", "", points(0.5, 1.0, 2.0)).at == pytest.approx(2.0)


def test_the_last_crossing_counts() -> None:
    """One outlier below does not move the place from which the GPU stays faster."""
    assert Crossover("batch", "", points(0.5, 2.0, 0.5, 2.0, 4.0)).at == pytest.approx(2.0**2.5)


@pytest.mark.parametrize(
    ("ratios", "conclusion"),
    [
        ([2.0, 3.0], "the GPU is faster at every batch from 1 to 2"),
        ([0.5, 0.9], "the CPU is at least as fast at every batch from 1 to 2"),
        ([0.5, 2.0, 0.5], "no crossover within batch from 1 to 4: the CPU is as fast again at the largest"),
        ([], "nothing was measured"),
    ],
)
def test_no_crossing(ratios: list[float], conclusion: str) -> None:
    found = Crossover("batch", "", points(*ratios))
    assert found.at is None
    assert found.conclusion == conclusion


def test_over_the_batch_size_and_the_width() -> None:
    def gpu(net: Net, batch: int) -> float:
        return 64e-6

    def cpu(net: Net, batch: int) -> float:
        return 1e-6 * batch if net.widths == (784, 512, 512, 10) else 1e-6 * net.widths[1]

    by_batch, by_width = measured(batches=[16, 32, 128, 256], widths=[16, 256], cpu=cpu, gpu=gpu)
    assert (by_batch.axis, by_batch.fixed) == ("batch", "net 784-512-512-10")
    assert [(p.net, p.batch, p.width) for p in by_batch.points] == [
        ("784-512-512-10", b, 512) for b in (16, 32, 128, 256)
    ]
    assert by_batch.at == pytest.approx(64.0)
    assert (by_width.axis, by_width.fixed) == ("width", "net 784-n-n-10, batch 128")
    assert [(p.net, p.width) for p in by_width.points] == [("784-16-16-10", 16), ("784-256-256-10", 256)]
    assert by_width.at == pytest.approx(64.0)


def test_the_defaults_are_powers_of_two() -> None:
    by_batch, by_width = measured(cpu=linear(1e-6, 0.0), gpu=linear(1e-8, 1e-4))
    assert [p.batch for p in by_batch.points] == [2**i for i in range(13)]
    assert [p.width for p in by_width.points] == [2**i for i in range(4, 13)]
    assert by_batch.at is not None
    assert 64 < by_batch.at < 128  # 1e-4/(1e-6 − 1e-8)


def test_an_axis_can_be_left_out() -> None:
    (only,) = measured(batches=[], widths=[8, 16], cpu=linear(1.0, 1.0), gpu=linear(1.0, 2.0))
    assert only.axis == "width"


def test_batch_norm_is_not_asked_to_train_on_one_sample() -> None:
    (only,) = measured(
        net="8-4-3, batch norm", batches=[1, 2, 4], widths=[], cpu=linear(1.0, 1.0), gpu=linear(1.0, 2.0)
    )
    assert [p.batch for p in only.points] == [2, 4]


def test_without_a_gpu_it_says_which_link_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    from fcnn_gpu.backend import BackendError

    def refuse(backend: str) -> Ops:
        raise BackendError("CUDA device: there is none. Use backend='numpy'.")

    monkeypatch.setattr(crossover, "resolve_backend", refuse)
    assert list(crossover.run()) == [
        "CPU against GPU was not measured: CUDA device: there is none. Use backend='numpy'."
    ]


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="expects a net with a hidden layer, got 784-10"):
        next(crossover.run(net="784-10", cpu=linear(1, 1), gpu=linear(1, 1)))
    with pytest.raises(ValueError, match=r"crossover\(batches\)"):
        next(crossover.run(batches=[0], cpu=linear(1, 1), gpu=linear(1, 1)))


@pytest.mark.parametrize("net", ["6-5-3", "6-5-3, batch norm, dropout 0.5"])
def test_the_timer_trains(net: str) -> None:
    timer = crossover.StepTimer("numpy", rounds=2, round_seconds=1e-3)
    for batch in (2, 7):
        assert 0.0 < timer(Net.parse(net), batch) < math.inf


def test_a_gpu_timer_is_made_for_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Timer:
        def __init__(self, backend: str, **options: object) -> None:
            self.seconds = {"cpu": 2.0, "cupy:1": 1.0}[backend]

        def __call__(self, net: Net, batch: int) -> float:
            return self.seconds

    monkeypatch.setattr(crossover, "resolve_backend", asked.append)
    monkeypatch.setattr(crossover, "StepTimer", Timer)
    (only,) = measured(batches=[1, 2], widths=[], gpu_backend="cupy:1")
    assert asked == ["cupy:1"]
    assert [(p.cpu_seconds, p.gpu_seconds) for p in only.points] == [(2.0, 1.0)] * 2
