"""The files under benchmarks/: one per family of operations, each of whose entries runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import bench_fused_mlp, bench_step, families
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.bench.nets import Case, Net
from fcnn_gpu.bench.operations import OPERATIONS

FOLDER = Path(families.__file__).parent


class Benchmark:
    """The fixture of pytest-benchmark, as far as it is used: calls what it is given once."""

    def __init__(self) -> None:
        self.group = ""
        self.extra_info: dict[str, Any] = {}
        self.calls = 0

    def __call__(self, function: Callable[[], None]) -> None:
        function()
        self.calls += 1


def test_every_family_has_its_file() -> None:
    files = {path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py")}
    assert files == {operation.family for operation in OPERATIONS.values()} | {"step", "fused_mlp", "large_matrix"}


def test_every_operation_is_an_entry_by_us_and_by_every_peer() -> None:
    entries = families.entries_of("optimizers").args[1]
    sgd = [entry for entry in entries if entry.values[0].name == "sgd"]
    assert [entry.values[2] for entry in sgd[:3]] == ["fcnn_gpu", "foreach", "fused"]
    assert len(sgd) == 3 * len(OPERATIONS["sgd"].sizes)
    assert [entry.id for entry in sgd[:2]] == ["sgd-8970-fcnn_gpu", "sgd-8970-PyTorch foreach"]


def test_an_operation_is_called_and_described(ops: Ops) -> None:
    benchmark = Benchmark()
    sizes = {"n_out": 3, "n_in": 2, "batch": 4}
    families.measure(benchmark, ops, "float32", OPERATIONS["gemm_forward"], sizes, "fcnn_gpu")
    assert benchmark.calls == 1
    assert benchmark.group == "gemm_forward: n_out 3, n_in 2, batch 4"
    assert benchmark.extra_info == {"device": ops.describe(), "dtype": "float32", "flops": 48.0, "bytes": 104.0}


@pytest.mark.torch
def test_a_peer_is_called() -> None:
    pytest.importorskip("torch")
    benchmark = Benchmark()
    families.measure(benchmark, Ops(), "float32", OPERATIONS["adam"], {"n_parameters": 5}, "fused")
    assert benchmark.calls == 1


def test_what_cannot_be_measured_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"n_parameters": 5}
    with pytest.raises(pytest.skip.Exception, match="sgd in float16: NumPy has fast arithmetic in float32 and float64"):
        families.measure(Benchmark(), Ops(), "float16", OPERATIONS["sgd"], sizes, "fcnn_gpu")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(pytest.skip.Exception, match="PyTorch foreach: not installed"):
        families.measure(Benchmark(), Ops(), "float32", OPERATIONS["sgd"], sizes, "foreach")


@pytest.mark.parametrize("job", ["train", "infer"])
def test_a_step_is_called(job: Any) -> None:
    benchmark = Benchmark()
    bench_step.test_step(benchmark, Ops(), Case(Net((5, 4, 3)), 8), job)
    assert benchmark.calls == 1
    assert benchmark.group == f"{job}: 5-4-3, batch 8"


@pytest.mark.parametrize("way", [bench_fused_mlp.FUSED, bench_fused_mlp.SEPARATE])
def test_a_forward_pass_is_called(device_ops: Ops, way: str) -> None:
    benchmark = Benchmark()
    bench_fused_mlp.test_fused_mlp(benchmark, device_ops, "float32", (7, 6, 5, 3), 20, way)
    assert benchmark.calls == 1
    assert benchmark.group == "7-6-5-3, batch 20"
    assert benchmark.extra_info["flops"] == 2 * 20 * (7 * 6 + 6 * 5 + 5 * 3)


def test_forward_passes_that_do_not_agree_are_not_timed(device_ops: Ops, monkeypatch: pytest.MonkeyPatch) -> None:
    ops = device_ops
    monkeypatch.setattr(ops, "fused_forward", lambda stack, A0, out: ops.fill(out, 0.5))
    with pytest.raises(RuntimeError, match=r"\(5, 4, 3\) at 6 in float32: the two passes differ by"):
        bench_fused_mlp.forward_passes(ops, "float32", (5, 4, 3), 6)


def test_layers_that_are_no_single_kernel_are_not_timed() -> None:
    with pytest.raises(pytest.skip.Exception, match="5-4 in float32: NumPy has no launches to save"):
        bench_fused_mlp.test_fused_mlp(Benchmark(), Ops(), "float32", (5, 4), 6, bench_fused_mlp.FUSED)
