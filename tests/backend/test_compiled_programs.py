"""Programs: whatever calls are joined, threads that go through them in phases leave what the calls leave one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fcnn_gpu as fcnn
from fcnn_gpu.backend import quiet_arithmetic
from fcnn_gpu.backend._compiled import Call, Program
from fcnn_gpu.backend._compiled._program import phases_of
from fcnn_gpu.backend._ops import _numpy
from fcnn_gpu.data import DeviceData
from fcnn_gpu.training._step import TrainingStep

from ..conftest import compiled_ops

BATCH, N = 6, 4
_PLACES = st.integers(0, 7)


def _memory() -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray], np.ndarray]:
    """A buffer, matrices in it that overlap by half, the columns of each, and counters."""
    whole = np.zeros(9 * BATCH * N // 2)
    matrices = [whole[i * BATCH * N // 2 :][: BATCH * N].reshape(BATCH, N).T for i in range(8)]
    vectors = [whole[i * BATCH * N // 2 :][:N].reshape(N, 1) for i in range(8)]
    return whole, matrices, vectors, np.zeros(4, np.int64)


@st.composite
def _plans(draw: st.DrawFn) -> list[tuple[str, int, int]]:
    kinds = st.sampled_from(["copy", "add b", "row_sum", "product", "accumulate", "advance"])
    return draw(st.lists(st.tuples(kinds, _PLACES, _PLACES), min_size=1, max_size=14))


@settings(deadline=None, max_examples=80)
@given(plan=_plans())
def test_phases_keep_the_order_that_matters(plan: list[tuple[str, int, int]]) -> None:
    ops: Any = compiled_ops()
    whole, matrices, vectors, counters = _memory()
    W = np.eye(N)[::-1].copy()
    calls: list[Call] = []
    with _numpy.recorded_calls() as tape:
        for kind, i, j in plan:
            x, y = matrices[i], matrices[j]
            apart = abs(i - j) >= 2
            if kind == "copy" and apart:
                ops._issue("copy_rows", whole.dtype, batch=BATCH, row_bytes=8 * N, x=x.T, out=y.T)
            elif kind == "add b" and not 0 <= i - j < 2:
                ops.bias_activation(y, vectors[i], "relu", 0.0, y)
            elif kind == "row_sum" and not 0 <= j - i < 2:
                ops.row_sum(x, vectors[j])
            elif kind in ("product", "accumulate") and apart:
                ops.gemm(W, x, y, beta=float(kind == "accumulate"))
            elif kind == "advance":
                ops.advance(counters[i % 4 : i % 4 + 1], j)
    calls = [call for call in tape.calls if isinstance(call, Call)]
    if not calls:
        return
    start = np.arange(whole.size) % 7.0
    whole[...], counters[...] = start, 0
    for _ in range(3):
        for call in calls:
            call()
    expected = whole.copy(), counters.copy()
    program = Program(calls)
    program._table[:, 3] = program._most_parts = 3
    whole[...], counters[...] = start, 0
    program.run(3, 3)
    np.testing.assert_array_equal(whole, expected[0])
    np.testing.assert_array_equal(counters, expected[1])


def _recorded_step(layers: list[Any], n_in: int, batch: int, **options: Any) -> list[Any]:
    """What the tape of a training step holds."""
    ops = compiled_ops()
    model = fcnn.Sequential(layers, n_in, seed=0, backend=ops)
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((2 * batch, n_in)).astype(np.float32), rng.integers(0, model.n_out, 2 * batch)
    data = DeviceData(ops, X, y, None, batch)
    step = TrainingStep(model, fcnn.losses.CrossEntropy(), fcnn.Adam(**options).bind(model), data, capture=False)
    data.start_epoch(np.arange(2 * batch))
    program = step.program(batch)
    with _numpy.recorded_calls() as tape, quiet_arithmetic():
        program()
    return list(tape.calls)


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_a_step_of_dense_layers_has_three_phases(depth: int) -> None:
    layers = [*(fcnn.Dense(16, activation="relu") for _ in range(depth)), fcnn.Dense(4)]
    calls = _recorded_step(layers, n_in=12, batch=8)
    assert all(isinstance(call, Call) for call in calls)
    phases = [[call.name for call in shared] for shared, _ in Program(calls).phases if shared]
    assert len(phases) == 3
    assert phases[2] == ["adam"]
    assert not any("check_gradients" in phase for phase in phases)


@pytest.mark.parametrize(("units", "n_phases"), [(16, 3), (600, 4)])
def test_a_step_of_many_samples_has_three_phases_where_layers_are_narrow(units: int, n_phases: int) -> None:
    """Samples go by blocks through all calls; where weights are many, what goes by blocks waits."""
    layers = [fcnn.Dense(units, activation="relu"), fcnn.Dense(units), fcnn.Dense(4)]
    program = Program(_recorded_step(layers, n_in=12, batch=2100))
    shared = [phase for phase, _ in program.phases if phase]
    assert len(shared) == n_phases
    in_blocks = [
        (call.name, int(n_blocks))
        for (_, n, _, _, n_in_blocks, n_blocks, _), (calls, _) in zip(program._table, program.phases, strict=True)
        for call in calls[n - n_in_blocks :]
        if n_in_blocks
    ]
    assert {n for _, n in in_blocks} == {16}
    names = {name for name, _ in in_blocks}
    assert "gradient_of_blocks" in names
    assert ("product_of_samples" in names) == (units == 16)


def test_sums_over_other_blocks_are_in_other_phases() -> None:
    ops: Any = compiled_ops()
    calls = []
    for batch in (2048, 8193, 2048):
        A0, dZ, dW = (np.ones(shape, np.float32, "F") for shape in ((3, batch), (2, batch), (2, 3)))
        with _numpy.recorded_calls() as tape:
            ops.dense_backward(dZ, dZ, "identity", 0.0, dW, A0, dZ, dW)
        calls.append([call for call in tape.calls if isinstance(call, Call)])
        assert (dW == batch).all()
    order = [calls[i][0] for i in range(3)]
    assert phases_of(order) == [0, 1, 0]
    table = Program(order)._table
    assert [tuple(row[4:]) for row in table.tolist()] == [(2, 16, 1), (1, 32, 1)]


@pytest.mark.parametrize("n_blocks", [1, 3])
@pytest.mark.parametrize(("layer", "n_more"), [(fcnn.BatchNorm, 4), (fcnn.LayerNorm, 2)])
def test_sums_over_samples_between_layers_add_phases(layer: Any, n_more: int, n_blocks: int) -> None:
    """One for the sums, one for the rows that need them: batch norm's forward and backward, layer norm's backward."""
    layers: list[Any] = []
    for _ in range(n_blocks):
        layers += [fcnn.Dense(16), layer(), fcnn.Activation("relu"), fcnn.Dropout(0.5)]
    calls = _recorded_step([*layers, fcnn.Dense(4)], n_in=12, batch=8)
    assert all(isinstance(call, Call) for call in calls)
    phases = [[call.name for call in shared] for shared, _ in Program(calls).phases if shared]
    assert len(phases) == 3 + n_more * n_blocks
    assert not any("check_gradients" in phase for phase in phases)


def test_layers_by_samples_stay_in_the_phases_of_their_neighbours() -> None:
    layers = [fcnn.Dense(16), fcnn.Residual([fcnn.Dense(16, activation="gelu"), fcnn.Dropout(0.5)]), fcnn.Dense(4)]
    calls = _recorded_step(layers, n_in=12, batch=8)
    assert all(isinstance(call, Call) for call in calls)
    assert len([shared for shared, _ in Program(calls).phases if shared]) == 3


def test_a_program_of_many_times_comes_back_between_two() -> None:
    """So that Python sees Ctrl-C: C is called several times for what takes longer than a moment."""
    ops: Any = compiled_ops()
    counter, n_calls = np.zeros(1, np.int64), 0
    with _numpy.recorded_calls() as tape:
        ops.advance(counter, 1)
    program = Program([call for call in tape.calls if isinstance(call, Call)])
    program._execution.budget = 0
    execute = program._library.execute

    def counted(address: int) -> int:
        nonlocal n_calls
        n_calls += 1
        return int(execute(address))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program._library, "execute", counted)
        program.run(50, 1)
    assert (int(counter[0]), n_calls) == (51, 50)


def test_a_product_over_samples_waits_for_all_of_them() -> None:
    """Rows of its operand are as long as samples are, and are not theirs: both matrices are square."""
    ops: Any = compiled_ops()
    rng = np.random.default_rng(0)
    W, A0, Z, M, out = (np.asfortranarray(rng.standard_normal((64, 64))) for _ in range(5))
    with _numpy.recorded_calls() as tape:
        ops.gemm(W, A0, Z)
        ops.gemm(M, Z.T, out)
    assert phases_of([call for call in tape.calls if isinstance(call, Call)]) == [0, 1]
    with _numpy.recorded_calls() as tape:
        ops.gemm(W, A0, Z)
        ops.gemm(W, Z, out)
    assert phases_of([call for call in tape.calls if isinstance(call, Call)]) == [0, 0]
