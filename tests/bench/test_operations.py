"""Single operations: checked before they are timed, on every backend that this machine can run."""

from __future__ import annotations

import dataclasses
import importlib.util
from typing import Any

import numpy as np
import pytest

from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.bench import operations
from fcnn_gpu.bench.operations import OPERATIONS, Operation, Unsupported, Work, _time
from fcnn_gpu.bench.operations._activations import _same_dropout
from fcnn_gpu.bench.operations._operation import Inputs, Side, TorchSide, largest_deviation
from fcnn_gpu.bench.results import Ceilings, OperationResult

CPU = Ops().describe()
CEILINGS = [Ceilings(CPU, dtype, 1e11, "", 1e10, 0, 1e-6) for dtype in operations.DTYPES]
QUICK: dict[str, Any] = {"rounds": 2, "round_seconds": 1e-4}

SMALL = {
    "n_out": 5,
    "n_in": 7,
    "n": 6,
    "batch": 4,
    "n_samples": 11,
    "n_features": 3,
    "n_classes": 3,
    "n_parameters": 33,
}

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")


def small(operation: Operation) -> dict[str, int]:
    return {name: SMALL[name] for name in operation.sizes[0]}


def broken(side: Side, given: Inputs) -> Work:
    """A product that is wrong by one part in a thousand."""
    right = OPERATIONS["gemm_forward"].ours(side, given)
    factor = 1.001 if side.dtype == np.float32 else 1.0
    return Work(right.call, lambda: {"Z": factor * right.results()["Z"]})


@pytest.mark.parametrize("name", OPERATIONS)
def test_agrees_with_the_reference_before_it_is_timed(ops: Ops, name: str) -> None:
    """`prepare` raises if it does not; the work it gives can be done again and again."""
    for sizes in (small(OPERATIONS[name]), OPERATIONS[name].smallest):
        for dtype in ("float32", "float64"):
            work = operations.prepare(OPERATIONS[name], sizes, dtype, ops)
            for _ in range(20):
                work.call()
            ops.synchronize()
            assert all(np.isfinite(x).all() for x in work.results().values())


@pytest.mark.parametrize("name", OPERATIONS)
def test_timed_on_the_cpu(name: str) -> None:
    operation = OPERATIONS[name]
    result = operations.time_operation(operation, small(operation), "float32", Ops(), CEILINGS[0], peers=False, **QUICK)
    assert result.operation == name
    assert len(result.seconds) == 2
    assert min(result.seconds) > 0.0
    assert result.cold_seconds > 0.0
    assert result.device.startswith("CPU")
    assert result.bound in ("arithmetic", "memory", "Python")
    assert result.bound_because
    assert 0.0 <= result.deviation < 1e-4
    assert result.peers == []


@pytest.mark.torch
@needs_torch
@pytest.mark.parametrize("name", OPERATIONS)
def test_pytorch_does_the_same(name: str) -> None:
    operation = OPERATIONS[name]
    result = operations.time_operation(operation, small(operation), "float32", Ops(), CEILINGS[0], **QUICK)
    assert result.absent == []
    assert [(peer.library, peer.variant) for peer in result.peers] == [("PyTorch", v) for v in operation.torch]
    for peer in result.peers:
        assert len(peer.seconds) == 2
        assert result.ratio(peer).median > 0.0


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_shape_has_its_costs(name: str) -> None:
    operation = OPERATIONS[name]
    for sizes in (*operation.sizes, operation.smallest):
        assert sizes.keys() == operation.smallest.keys()
        assert operation.flops(**sizes) >= 0.0
        assert operation.bytes(8, **sizes) > operation.bytes(4, **sizes) > 0.0
        assert operation.tiled(**sizes) >= 0
        assert str(next(iter(sizes.values()))) in operation.shape(sizes).replace(",", "")


def test_the_costs_of_a_product_and_of_adam() -> None:
    sizes = {"n_out": 128, "n_in": 784, "batch": 32}
    assert OPERATIONS["gemm_forward"].flops(**sizes) == 2 * 128 * 784 * 32
    assert OPERATIONS["gemm_forward"].bytes(4, **sizes) == 4 * (128 * 784 + 784 * 32 + 128 * 32)
    assert OPERATIONS["adam"].bytes(4, n_parameters=1000) == 28_000  # θ, m, v read and written, g read


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_in_16_bits_on_a_device(device_ops: Ops, name: str, dtype: str) -> None:
    """Checked against the reference in float64, then called again and again, as a clock would."""
    work = operations.prepare(OPERATIONS[name], small(OPERATIONS[name]), dtype, device_ops)
    for _ in range(5):
        work.call()
    assert all(np.isfinite(array).all() for array in work.results().values())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_as_a_graph_on_a_device(device_ops: Ops, name: str, dtype: str) -> None:
    """Calls that are recorded into a graph and launched often: nothing of them may depend on the host."""
    work = operations.prepare(OPERATIONS[name], small(OPERATIONS[name]), dtype, device_ops)

    def three_calls() -> None:
        for _ in range(3):
            work.call()

    graph = device_ops.capture(three_calls)
    for _ in range(4):
        graph()
    assert all(np.isfinite(array).all() for array in work.results().values())


def test_what_a_dtype_has_not_is_said_once(ops: Ops) -> None:
    found = list(operations.run(CEILINGS, backend="numpy", dtypes=["tf32", "float16"], names=["adam", "gemm_forward"]))
    assert len(found) == 4
    assert all(
        isinstance(item, str) and "NumPy has fast arithmetic in float32 and float64 only" in item for item in found
    )


def test_tf32_is_a_way_to_multiply(device_ops: Ops) -> None:
    operation = OPERATIONS["gemm_forward"]
    operations.prepare(operation, small(operation), "tf32", device_ops).call()
    with pytest.raises(Unsupported, match="a way to multiply matrices"):
        operations.prepare(OPERATIONS["adam"], {"n_parameters": 3}, "tf32", device_ops)


def test_run_measures_what_it_is_asked_for() -> None:
    found = list(
        operations.run(CEILINGS, names=["bias_relu", "sgd"], dtypes=["float64"], quick=True, peers=False, **QUICK)
    )
    assert all(isinstance(item, OperationResult) for item in found)
    assert [(item.operation, item.dtype) for item in found if isinstance(item, OperationResult)] == [
        ("bias_relu", "float64"),
        ("sgd", "float64"),
    ]


def test_a_wrong_result_is_not_timed() -> None:
    wrong = dataclasses.replace(OPERATIONS["gemm_forward"], ours=broken)
    sizes = {"n_out": 5, "n_in": 7, "batch": 4}
    with pytest.raises(RuntimeError, match=r"gemm_forward \(n_out 5.*differs from the NumPy reference by 0\.001"):
        operations.time_operation(wrong, sizes, "float32", Ops(), CEILINGS[0], **QUICK)


@pytest.mark.torch
@needs_torch
def test_a_peer_that_does_not_agree_is_not_timed() -> None:
    def wrong(side: TorchSide, given: Inputs) -> Work:
        right = OPERATIONS["gemm_forward"].torch[""](side, given)
        return Work(right.call, lambda: {"Z": 1.001 * right.results()["Z"]})

    def failing(side: TorchSide, given: Inputs) -> Work:
        raise RuntimeError("no such kernel\nand a long trace")

    operation = dataclasses.replace(OPERATIONS["gemm_forward"], torch={"wrong": wrong, "failing": failing})
    sizes = {"n_out": 5, "n_in": 7, "batch": 4}
    result = operations.time_operation(operation, sizes, "float32", Ops(), CEILINGS[0], **QUICK)
    assert result.peers == []
    first, second = result.absent
    assert (first.library, first.variant) == ("PyTorch", "wrong")
    assert "differs from ours by 0.001" in first.reason
    assert second.reason == "RuntimeError: no such kernel"


def test_a_peer_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    sizes = {"n_parameters": 5}
    result = operations.time_operation(OPERATIONS["sgd"], sizes, "float32", Ops(), CEILINGS[0], **QUICK)
    assert [(a.variant, a.reason) for a in result.absent] == [("foreach", "not installed"), ("fused", "not installed")]


@pytest.mark.torch
@needs_torch
def test_a_pytorch_without_a_gpu_is_no_peer_of_one(device_ops: Ops) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this PyTorch has a GPU")
    sizes = {"n_parameters": 5}
    result = operations.time_operation(OPERATIONS["rmsprop"], sizes, "float32", device_ops, CEILINGS[0], **QUICK)
    assert "finds no CUDA device" in result.absent[0].reason


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match=r"does not know the operation 'adma'\. Did you mean 'adam'"):
        next(operations.run(CEILINGS, names=["adma"]))
    with pytest.raises(ValueError, match="does not know the dtype 'float31'"):
        next(operations.run(CEILINGS, dtypes=["float31"]))
    elsewhere = [dataclasses.replace(CEILINGS[0], device="NVIDIA H100")]
    with pytest.raises(ValueError, match=r"needs ceilings of CPU .*, got NVIDIA H100"):
        next(operations.run(elsewhere, backend="numpy", names=["sgd"]))


def test_ceilings_of_another_dtype_are_named() -> None:
    other = [dataclasses.replace(CEILINGS[0], device="NVIDIA H100"), CEILINGS[0]]
    options: dict[str, Any] = {"names": ["sgd"], "quick": True, "peers": False, **QUICK}
    (wide,) = operations.run(other, dtypes=["float64"], backend="numpy", **options)
    assert isinstance(wide, OperationResult)
    assert wide.bound_because.endswith("(ceilings measured in float32)")
    (same,) = operations.run(other, dtypes=["float32"], backend="numpy", **options)
    assert isinstance(same, OperationResult)
    assert not same.bound_because.endswith(")")


@pytest.mark.torch
@needs_torch
def test_a_peer_by_itself() -> None:
    work = operations.prepare_peer(OPERATIONS["sgd"], "fused", {"n_parameters": 7}, "float32", Ops())
    assert isinstance(work, Work)
    before = work.results()["change"]
    work.call()
    assert not np.array_equal(work.results()["change"], before)


def test_deviation() -> None:
    a = {"x": np.array([1.0, -4.0])}
    assert largest_deviation(a, {"x": np.array([1.0, -4.1])}) == pytest.approx(0.025)
    assert largest_deviation(a, {"x": np.array([1.0, np.nan])}) == float("inf")
    assert largest_deviation(a, {"x": np.array([1.0])}) == float("inf")
    assert largest_deviation({"x": np.zeros(2)}, {"x": np.array([0.0, 1e-3])}) == pytest.approx(1e-3)


def test_dropout_is_compared_by_what_it_keeps() -> None:
    A = np.random.default_rng(0).normal(size=(100, 50))
    keep = np.random.default_rng(1).random(A.shape) >= 0.5
    assert _same_dropout({}, {"A": A, "out": np.where(keep, 2.0 * A, 0.0)}) == 0.0
    assert _same_dropout({}, {"A": A, "out": np.where(keep, A, 0.0)}) == pytest.approx(0.5)
    assert _same_dropout({}, {"A": A, "out": 2.0 * A}) == float("inf")


def test_the_first_of_a_round_rotates(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[str] = []

    def entrant(name: str) -> _time._Entrant:
        work = Work(lambda: None, dict)
        return _time._Entrant(name, "", work, Ops().stopwatch, 0.0, {})

    def stretch(found: _time._Entrant, n_calls: int) -> float:
        turns.append(f"{found.library}{n_calls}")
        return 1e-3

    monkeypatch.setattr(_time, "_stretch", stretch)
    monkeypatch.setattr(_time, "wait_until_idle", lambda: turns.append("idle"))
    monkeypatch.setattr(_time, "_n_calls", lambda found, seconds: 40)
    seconds = _time._time([entrant("a"), entrant("b"), entrant("c")], 3, 1e-3)
    turns = turns[3:]  # after the counts
    assert turns[::3] == ["idle"] * 9
    assert turns[1::3] == [f"{name}10" for name in "abcbcacab"]  # untimed
    assert turns[2::3] == [f"{name}40" for name in "abcbcacab"]
    assert seconds == [[1e-3] * 3] * 3
