"""CupyOps against the NumPy reference: every primitive, its device, and a training run written on the primitives."""

from __future__ import annotations

import zlib
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._ops import ELEMENTWISE, FlatParameters, Ops, Segment, StepControl

from ..cuda_on_cpu import missing_compiler
from ..support.op_cases import CASES, Case, flat, matrix
from ..support.tolerances import assert_close

SHAPES = [(1, 1), (3, 2), (10, 33), (33, 129), (130, 70), (1100, 3), (1, 300), (7, 64)]
"""(n_units, batch): single, tiny, odd, several chunks of samples, wider than a warp works on, one unit."""

FLAT_SHAPES = [(1, 1), (1, 300), (10, 33), (33, 129)]
"""Flat buffers of 2, 301, 340 and 4290 elements: less than a vector, and 1, 0 and 2 more than whole ones of four."""


def _cases() -> list[Any]:
    distinct = {case.run: case for cases in CASES.values() for case in cases}  # one body may stand for two primitives
    return [pytest.param(case, id=case.id) for case in distinct.values()]


def _results(ops: Ops, case: Case, dtype: Any, n: int, batch: int) -> dict[str, HostArray]:
    rng = np.random.default_rng(zlib.crc32(f"{case.id} {n} {batch}".encode()))
    return {name: ops.to_numpy(x) for name, x in case.run(ops, rng, dtype, n, batch).items()}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", _cases())
def test_primitive_agrees_with_the_reference(device_ops: Ops, case: Case, dtype: Any) -> None:
    for n, batch in (FLAT_SHAPES if case.flat else SHAPES) + ([(5, 0)] if case.empty else []):
        expected = _results(Ops(), case, dtype, n, batch)
        actual = _results(device_ops, case, dtype, n, batch)
        assert actual.keys() == expected.keys()
        for name, value in expected.items():
            context = f"{case.id}: {name} at n={n}, batch={batch}"
            assert actual[name].dtype == value.dtype, context
            assert_close(actual[name], value, case.tolerance, context)


def test_scratch_is_reused_and_belongs_to_the_tag(ops: Ops) -> None:
    first = ops.scratch("a", 10, np.float32)
    ops.fill(first, 1.0)
    ops.fill(ops.scratch("b", 10, np.float32), 2.0)
    ops.fill(ops.scratch("a", 10, np.float64), 3.0)
    np.testing.assert_array_equal(ops.to_numpy(ops.scratch("a", 10, np.float32)), np.ones(10))


def test_the_stopwatch_covers_the_work_since_its_start(ops: Ops) -> None:
    x = ops.zeros(1000, np.float32)
    outer = ops.stopwatch()
    inner = ops.stopwatch()
    ops.fill(x, 1.0)
    assert 0.0 <= inner() <= outer()  # the outer one began before and ends after


def test_name_and_description(device_ops: Ops) -> None:
    assert device_ops.name == "cupy:0"
    assert "CupyOps cupy:0" in repr(device_ops)
    assert device_ops.describe()


def test_host_arrays_pass_through_to_numpy(ops: Ops) -> None:
    x = np.ones(3)
    assert ops.to_numpy(x) is x


def test_identity_without_bias_in_place_does_nothing(ops: Ops) -> None:
    Z = matrix(ops, np.full((2, 3), np.nan), np.float32)
    ops.bias_activation(Z, None, "identity", 0.0, Z)
    assert np.isnan(ops.to_numpy(Z)).all()


@pytest.mark.parametrize("kind", ELEMENTWISE)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_are_stable_far_out(other_ops: Ops, kind: str, dtype: Any) -> None:
    z = np.array([[-1e4, -100.0, -20.0, -0.0, 0.0, 20.0, 100.0, 1e4, np.nan]])
    if kind == "exp":  # which overflows where e^z does
        z = np.minimum(z, 80)
    results = []
    for ops in (Ops(), other_ops):
        Z, A, slope = matrix(ops, z, dtype), ops.matrix(1, 9, dtype), ops.matrix(1, 9, dtype)
        ops.bias_activation(Z, None, kind, 0.1, A)
        ones = matrix(ops, np.ones((1, 9)), dtype)
        ops.activation_backward(ones, A if ELEMENTWISE[kind].from_output else Z, kind, 0.1, slope)
        results.append((ops.to_numpy(A), ops.to_numpy(slope)))
    (A_expected, slope_expected), (A_actual, slope_actual) = results
    for column in range(9):  # one at a time: the scale of 10⁴ would hide the others
        assert_close(A_actual[:, column], A_expected[:, column], "elementwise", f"{kind}({z[0, column]})")
        if kind == "relu" and np.isnan(z[0, column]):
            continue  # without a meaning: the loss is NaN already, and the step is given up
        assert_close(slope_actual[:, column], slope_expected[:, column], "elementwise", f"{kind}′({z[0, column]})")
    assert np.isnan(A_actual[0, -1])
    assert np.isfinite(A_actual[0, :-1]).all()
    assert np.isfinite(slope_actual[0, :-1]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [5, 1030])
def test_losses_are_stable_far_out(other_ops: Ops, dtype: Any, n: int) -> None:
    rng = np.random.default_rng(3)
    z = rng.choice([-1e4, -50.0, 0.0, 50.0, 1e4], size=(n, 40))
    labels, y = rng.integers(0, n, 40), rng.integers(0, 2, size=(n, 40)).astype(dtype)
    results = []
    for ops in (Ops(), other_ops):
        Z, dZ, losses = matrix(ops, z, dtype), ops.matrix(n, 40, dtype), ops.empty(40, dtype)
        ops.softmax_cross_entropy(Z, ops.asarray(labels), None, None, 0.0, losses, dZ)
        softmax = ops.to_numpy(losses).copy(), ops.to_numpy(dZ).copy()
        ops.elementwise_loss(Z, matrix(ops, y, dtype), "binary_cross_entropy", 1.0, None, losses, dZ)
        results.append((*softmax, ops.to_numpy(losses), ops.to_numpy(dZ)))
    for expected, actual in zip(*results, strict=True):
        assert np.isfinite(actual).all()
        assert_close(actual, expected, "sum")


@pytest.mark.parametrize("update", ["sgd", "adam", "rmsprop", "adagrad"])
def test_a_failed_step_freezes_everything(ops: Ops, update: str) -> None:
    f = flat(ops, np.random.default_rng(0), np.float32, 3, 4)
    ops.assign(f.control.failed_step, np.array([4]))
    arrays = [f.parameters.values, *f.state, f.control.step]
    before = [ops.to_numpy(x).copy() for x in arrays]
    if update == "sgd":
        ops.sgd_update(f.parameters, f.control, 0.9, True, f.state[0])
    elif update == "adam":
        ops.adam_update(f.parameters, f.control, 0.9, 0.999, 1e-8, 0.1, *f.state)
    elif update == "rmsprop":
        ops.rmsprop_update(f.parameters, f.control, 0.9, 1e-8, 0.9, *f.state)
    else:
        ops.adagrad_update(f.parameters, f.control, 0.0, 1e-8, f.state[0])
    ops.finish_step(f.control)
    for x, old in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(ops.to_numpy(x), old)


def test_no_parameters_at_all(ops: Ops) -> None:
    empty = ops.empty(0, np.float32)
    f = flat(ops, np.random.default_rng(0), np.float32, 1, 1, max_norm=1.0)
    nothing = FlatParameters(empty, ops.empty(0, np.float32), ())
    total = ops.asarray(np.array([7.0]))
    ops.penalty(nothing, total)
    ops.gradient_clip(nothing, f.control)
    ops.check_finite(ops.asarray([1.0], np.float32), nothing, f.control)
    ops.sgd_update(nothing, f.control, 0.0, False, None)
    assert ops.to_numpy(total).tolist() == [0.0]
    assert ops.to_numpy(f.control.clip_scale).tolist() == [1.0]
    assert ops.to_numpy(f.control.failed_step).tolist() == [-1]


def test_large_buffers_are_summed_in_several_parts(ops: Ops) -> None:
    n = 4096 * 1024 + 4097  # so that a part is longer than its smallest size
    values, gradients = np.full(n, 0.5, np.float32), np.full(n, 2.0**-8, np.float32)
    segments = (Segment(0, n, l1=0.25, l2=0.5),)
    parameters = FlatParameters(ops.asarray(values), ops.asarray(gradients), segments)
    total = ops.zeros(1, np.float64)
    ops.penalty(parameters, total)
    np.testing.assert_allclose(ops.to_numpy(total), [n * (0.25 * 0.5 + 0.5 * 0.25)], rtol=1e-6)


def test_many_samples_per_chunk(ops: Ops) -> None:
    X = np.ones((3, 64 * 256 + 1), np.float32, order="F")
    out = ops.empty((3, 1), np.float32)
    ops.row_sum(matrix(ops, X, np.float32), out)
    np.testing.assert_array_equal(ops.to_numpy(out), np.full((3, 1), 64 * 256 + 1))


def test_sums_repeat_bit_for_bit_at_any_grid() -> None:
    reason = missing_compiler()
    if reason:
        pytest.skip(reason)
    from ..support.emulated import make_emulated_ops

    rng = np.random.default_rng(5)
    X, G = rng.normal(size=(40, 500)), rng.normal(size=30_000)
    found = []
    for max_blocks in (1, 7, 65_536):
        ops = make_emulated_ops(max_blocks=max_blocks)
        db, norm = ops.empty((40, 1), np.float32), flat(ops, rng, np.float32, 1, 1, max_norm=1.0)
        x = matrix(ops, X, np.float32)
        ops.activation_backward(x, x, "tanh", 0.0, ops.matrix(40, 500, np.float32), db)
        g = ops.asarray(G, np.float32)
        ops.gradient_clip(FlatParameters(g, g, (Segment(0, 30_000),)), norm.control)
        found.append((ops.to_numpy(db).tobytes(), ops.to_numpy(norm.control.clip_scale).tobytes()))
    assert found[0] == found[1] == found[2]


def test_wrong_arrays_are_refused_before_a_launch(device_ops: Ops) -> None:
    Z = matrix(device_ops, np.ones((2, 3)), np.float32)
    with pytest.raises(ValueError, match=r"bias_activation.*: b expects"):
        device_ops.bias_activation(Z, device_ops.zeros((3, 1), np.float32), "relu", 0.0, Z)
    with pytest.raises(TypeError, match="got dtype float64"):
        device_ops.bias_activation(Z, device_ops.zeros((2, 1), np.float64), "relu", 0.0, Z)
    with pytest.raises(ValueError, match="contiguous"):
        device_ops.bias_activation(device_ops.zeros((2, 3), np.float32), None, "relu", 0.0, Z)
    with pytest.raises(TypeError, match=r"got numpy\.ndarray"):
        device_ops.softmax(np.ones((2, 3), np.float32, order="F"), Z)


def test_each_call_runs_on_the_devices_own_device() -> None:
    reason = missing_compiler()
    if reason:
        pytest.skip(reason)
    from ..support.emulated import EmulatedRuntime, make_emulated_ops

    ops = make_emulated_ops(device=1)
    runtime: Any = ops._runtime
    assert ops.name == "cupy:1"
    counter = ops.asarray(np.array([1]))
    assert runtime.switches == 1
    ops.advance(counter, 1)
    ops.zeros(3, np.float32)
    assert runtime.switches == 3
    assert EmulatedRuntime.current == 0
    with runtime.activate():
        ops.advance(counter, 1)
    assert runtime.switches == 4  # the one of this test
    assert ops.to_numpy(counter).tolist() == [3]


def _train(ops: Ops, dtype: Any, steps: int) -> dict[str, HostArray]:
    """784 → 24 (batch norm, ReLU, dropout) → 10 with Adam, L1, L2 and clipping, written on the primitives alone."""
    rng = np.random.default_rng(11)
    n_in, n_hidden, n_out, batch, n_samples = 40, 24, 10, 33, 100
    X = ops.asarray(rng.integers(0, 256, size=(n_samples, n_in)).astype(np.uint8))
    y = ops.asarray(rng.integers(0, n_out, n_samples))
    # No bias before batch normalization: its gradient is zero but for rounding, which Adam would blow up to full steps.
    shapes = [(n_hidden, n_in), (n_out, n_hidden), (n_out, 1), (n_hidden, 1), (n_hidden, 1)]
    ends = np.cumsum([0, *(a * b for a, b in shapes)])
    initial = np.concatenate([rng.normal(size=a * b) * 0.2 for a, b in shapes])
    initial[ends[3] : ends[4]] = 1.0  # γ
    values, gradients = ops.asarray(initial, dtype), ops.zeros(int(ends[-1]), dtype)
    W1, W2, b2, gamma, beta = (values[a:b].reshape(s) for a, b, s in zip(ends, ends[1:], shapes, strict=False))
    dW1, dW2, db2, dgamma, dbeta = (gradients[a:b].reshape(s) for a, b, s in zip(ends, ends[1:], shapes, strict=False))
    segments = (
        Segment(0, int(ends[1]), l1=1e-4, l2=1e-3, decay=1.0),
        Segment(int(ends[1]), int(ends[2]), l2=1e-3, decay=1.0),
        Segment(int(ends[2]), int(ends[-1])),
    )
    parameters = FlatParameters(values, gradients, segments)
    control = StepControl(
        step=ops.zeros(1, np.int64),
        learning_rate=ops.asarray(np.array([1e-2])),
        clip_scale=ops.asarray(np.array([1.0])),
        failed_step=ops.asarray(np.array([-1])),
        max_norm=1.0,
    )
    m, v = ops.zeros(values.size, dtype), ops.zeros(values.size, dtype)
    order, cursor = ops.asarray(rng.permutation(n_samples)), ops.zeros(1, np.int64)
    rows, labels = ops.empty((batch, n_in), dtype), ops.empty(batch, np.int64)
    hidden = [ops.matrix(n_hidden, batch, dtype) for _ in range(6)]
    Z1, x_hat, N1, A1, dropped, dA = hidden
    Z2, dZ2, mask = (
        ops.matrix(n_out, batch, dtype),
        ops.matrix(n_out, batch, dtype),
        ops.matrix(n_hidden, batch, np.uint8),
    )
    inv_std, mean, var = (ops.zeros((n_hidden, 1), dtype) for _ in range(3))
    losses, total, penalty = ops.empty(batch, dtype), ops.zeros(1, np.float64), ops.zeros(1, np.float64)
    curve = []
    for step in range(steps):
        ops.gather_rows(X, order, cursor, rows, 1 / 255)
        ops.gather_rows(y, order, cursor, labels)
        A0 = rows.T
        ops.gemm(W1, A0, Z1)
        ops.batch_norm_forward(Z1, gamma, beta, 1e-5, 0.1, mean, var, x_hat, inv_std, N1)
        ops.bias_activation(N1, None, "silu", 0.0, A1)
        ops.dropout_forward(A1, 0.25, (5, 2**63 + 1), control.step, mask, dropped)
        ops.gemm(W2, dropped, Z2)
        ops.bias_activation(Z2, b2, "identity", 0.0, Z2)
        ops.fill(total, 0.0)
        ops.softmax_cross_entropy(Z2, labels, None, None, 0.1, losses, dZ2)
        ops.accumulate_sum(losses, total)

        ops.gemm(dZ2, dropped.T, dW2)
        ops.row_sum(dZ2, db2)
        ops.gemm(W2.T, dZ2, dA)
        ops.dropout_backward(dA, 0.25, mask, dA)
        ops.activation_backward(dA, N1, "silu", 0.0, dA)
        ops.batch_norm_backward(dA, gamma, x_hat, inv_std, dgamma, dbeta, dA)
        ops.gemm(dA, A0.T, dW1)

        ops.penalty(parameters, penalty)
        ops.check_finite(losses, parameters, control)
        ops.gradient_clip(parameters, control)
        ops.adam_update(parameters, control, 0.9, 0.999, 1e-8, 1e-2, m, v)
        ops.finish_step(control)
        ops.advance(cursor, batch if step % 3 < 2 else -2 * batch)
        curve.append(float(ops.to_numpy(total)[0]) / batch + float(ops.to_numpy(penalty)[0]))
    kept = {"values": values, "mean": mean, "var": var, "logits": Z2, "step": control.step, "mask": mask}
    return {"curve": np.array(curve, dtype), **{name: ops.to_numpy(x).copy() for name, x in kept.items()}}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_training_run_is_the_same_on_both_backends(device_ops: Ops, dtype: Any) -> None:
    expected, actual = _train(Ops(), dtype, 8), _train(device_ops, dtype, 8)
    assert actual["step"].tolist() == [8]
    assert expected["curve"][-1] < expected["curve"][0]
    for name, value in expected.items():
        assert_close(actual[name], value, "training", name)


HALVES = (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))


@pytest.mark.parametrize("half", HALVES, ids=str)
@pytest.mark.parametrize(("n", "batch"), [(5, 8), (5, 600), (64, 300)])
def test_16_bit_activations_with_biases_and_sums_in_float(device_ops: Ops, half: Any, n: int, batch: int) -> None:
    rng = np.random.default_rng(0)
    Z, dA = (rng.normal(size=(n, batch)).astype(half).astype(np.float64) for _ in range(2))
    b = rng.normal(size=(n, 1)).astype(np.float32)
    results = []
    for ops, dtype, wide in ((device_ops, half, np.float32), (Ops(), np.float64, np.float64)):
        A, dZ, total = (ops.matrix(n, batch, dtype) for _ in range(3))
        db, sums = ops.empty((n, 1), wide), ops.empty((n, 1), wide)
        z, slope = matrix(ops, Z, dtype), matrix(ops, dA, dtype)
        ops.bias_activation(z, ops.asarray(b, wide), "tanh", 0.0, A)
        ops.assign(z, Z)  # f′ from the same numbers on both sides
        ops.activation_backward(slope, z, "tanh", 0.0, dZ, db)
        ops.row_sum(slope, sums)
        ops.add(slope, z, total)
        ops.scale(total, 0.75, total)
        results.append([ops.to_numpy(x) for x in (A, dZ, total, db, sums)])
    for name, actual, expected in zip(("A", "dZ", "total", "db", "sums"), *results, strict=True):
        assert actual.dtype == (np.float32 if name in ("db", "sums") else half)
        assert_close(actual, expected, "sum" if name in ("db", "sums") else "elementwise", name)


@pytest.mark.parametrize("half", HALVES, ids=str)
@pytest.mark.parametrize("n", [3, 16])
def test_samples_of_every_type_reach_16_bits_cast_or_gathered(device_ops: Ops, half: Any, n: int) -> None:
    ops, rng = device_ops, np.random.default_rng(1)
    for source in (np.uint8, np.int16, np.float16, half, np.float32, np.float64):
        X = rng.integers(0, 200, size=(9, n)).astype(source)
        order, cursor = ops.asarray(np.arange(9)[::-1].copy()), ops.asarray(np.array([2]))
        batch, cast = ops.empty((5, n), half), ops.empty((9, n), half)
        ops.gather_rows(ops.asarray(X), order, cursor, batch, 1 / 255, -0.5)
        ops.cast(ops.asarray(X), cast, 1 / 255, -0.5)
        exact = X.astype(np.float32) * np.float32(1 / 255) + np.float32(-0.5)
        np.testing.assert_array_equal(ops.to_numpy(cast), exact.astype(half))
        np.testing.assert_array_equal(ops.to_numpy(batch), exact[::-1][2:7].astype(half))
        stored = ops.zeros((9, n), np.float32)
        ops.store_rows(batch, cursor, stored)
        np.testing.assert_array_equal(ops.to_numpy(stored)[2:7], exact[::-1][2:7].astype(half).astype(np.float32))


@pytest.mark.parametrize("name", ["add", "scale", "cast"])
def test_elementwise_primitives_refuse_arrays_that_lie_differently(device_ops: Ops, name: str) -> None:
    ops = device_ops
    x, other, small = ops.zeros((4, 3), np.float32), ops.matrix(4, 3, np.float32), ops.zeros((3, 4), np.float32)
    arguments = {"add": (x,), "scale": (2.0,), "cast": ()}[name]
    for out in (other, small):
        with pytest.raises(ValueError, match=rf"{name} expects contiguous arrays of one shape .* out differs"):
            getattr(ops, name)(x, *arguments, out)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.int64], ids=lambda d: np.dtype(d).name)
def test_a_copy_on_the_device_can_be_captured(device_ops: Ops, dtype: Any) -> None:
    ops = device_ops
    x, out = matrix(ops, np.arange(12).reshape(3, 4), dtype), matrix(ops, np.zeros((3, 4)), dtype)
    replay = ops.capture(lambda: ops.assign(out, x))
    for value in (1.0, 2.0, 3.0):
        ops.assign(x, np.full((3, 4), value))
        replay()
        np.testing.assert_array_equal(ops.to_numpy(out).astype(np.float64), np.full((3, 4), value))
