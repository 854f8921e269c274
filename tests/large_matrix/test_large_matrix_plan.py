"""Plans of products larger than memory: tiles cover everything once and stay within any budget down to the smallest."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fcnn_gpu as fcnn
from fcnn_gpu.large_matrix import MatmulPlan, Rates
from fcnn_gpu.large_matrix._placement import Layout, Order, Place
from fcnn_gpu.large_matrix._plan import Problem, buffer_bytes
from fcnn_gpu.large_matrix._planner import ALIGN, NotEnoughMemory, estimate, make_plan, page_locked_buffers
from fcnn_gpu.large_matrix._rates import measure_rates
from fcnn_gpu.large_matrix._schedule import bytes_to_move, steps_of

from ..conftest import emulated_ops
from ..support.emulated import make_emulated_ops

RATES = Rates(arithmetic=1e11, read=2e9, write=1e9)
BUS = replace(RATES, arithmetic=2e13, to_device=2e10, from_device=2e10)
SIZES = st.one_of(st.integers(1, 40), st.integers(0, 3), st.sampled_from([64, 97, 128, 200]))


@st.composite
def problems(draw: Any, sizes: st.SearchStrategy[int] = SIZES) -> Problem:
    """Any shape, dtype, order and residence, on the host and on a device."""
    on_device = draw(st.booleans())
    dtype = np.dtype(draw(st.sampled_from(["float16", "float32", "float64"] if on_device else ["float32", "float64"])))
    sums = np.dtype(np.float32) if dtype.itemsize == 2 else dtype
    m, n, k = (draw(sizes) for _ in range(3))

    def layout(rows: int, columns: int, dtype: np.dtype[Any], is_out: bool = False) -> Layout:
        place: Place = draw(st.sampled_from(get_args(Place) if on_device else ("host", "file")))
        order: Order = draw(st.sampled_from(get_args(Order)))
        if place == "device" and not is_out:
            order = order or "F"  # what is neither is refused
        whole = bool(order) and draw(st.booleans())
        in_place = (
            place == ("device" if on_device else "host") and bool(order) and (whole or not on_device or not is_out)
        )
        return Layout(rows, columns, dtype, place, order, whole, streams=not in_place)

    return Problem(
        A=layout(m, k, dtype),
        B=layout(k, n, dtype),
        out=layout(m, n, sums, is_out=True),
        bias=draw(st.booleans()),
        on_device=on_device,
        fixed=draw(st.sampled_from([0, 192, 100_000])),
        cores=0 if on_device else 2,
    )


def minimum_of(problem: Problem) -> int:
    """As the refusal of one byte says it."""
    try:
        return make_plan(problem, RATES, 1).minimum
    except NotEnoughMemory as error:
        found = re.search(r"memory_limit=(\d+), or", str(error))
        assert found is not None
        return int(found[1])


def check(plan: MatmulPlan) -> None:
    """What holds for every plan."""
    problem, cut, (m, n, k) = plan.problem, plan.cut, plan.problem.shape
    tm, tn, tk = plan.tile
    # The budget, from the buffers' sizes.
    used = problem.fixed + buffer_bytes(problem, cut, ALIGN[problem.on_device])
    assert used == plan.memory_used <= plan.memory_limit
    assert plan.minimum <= plan.memory_used
    assert plan.page_locked <= plan.memory_limit
    locked = page_locked_buffers(problem, cut)
    for name, layout in problem.operands().items():
        number = cut.buffers[("A", "B", "out").index(name)]
        assert (number > 0) == (layout.streams and layout.nbytes > 0), "a buffer for what streams, and none beside"
        assert (name in locked) == (problem.on_device and number > 0 and layout.place != "device")
    # Every element of out, at every place of the inner dimension, once; and every buffer holds what is used.
    count = np.zeros((m, n, max(k, 1)), np.int8)
    finished = np.zeros((m, n), np.int8)
    holds: dict[tuple[str, int], Any] = {}
    last_use: dict[tuple[str, int], int] = {}
    tiles = set()
    for number, step in enumerate(steps_of(plan)):
        rows, columns, inner = step.rows, step.columns, step.inner
        assert 0 < rows.stop - rows.start <= tm
        assert 0 < columns.stop - columns.start <= tn
        assert inner.stop - inner.start <= tk
        count[rows, columns, inner] += 1
        if step.is_first:
            assert step.tile not in tiles
            tiles.add(step.tile)
            holds["out", step.buffers[2]] = step.tile
        assert holds["out", step.buffers[2]] == step.tile
        parts = {"A": (rows, inner), "B": (inner, columns)}
        for load in step.loads:
            assert number >= load.after >= last_use.get((load.operand, load.buffer), 0)
            holds[load.operand, load.buffer] = parts[load.operand]
        for name, buffer in zip("AB", step.buffers, strict=False):
            if buffer >= 0:
                assert buffer < cut.buffers["AB".index(name)]
                assert holds[name, buffer] == parts[name]
                last_use[name, buffer] = number + 1
        if step.is_last:
            finished[rows, columns] += 1
    assert (finished == 1).all()
    assert (count == 1).all() if k else not count.any()
    assert plan.costs.moved == bytes_to_move(plan)


@settings(max_examples=150, deadline=None)
@given(problem=problems(), share=st.floats(0, 1))
def test_tiles_cover_everything_once_within_any_budget(problem: Problem, share: float) -> None:
    least = minimum_of(problem)
    everything = problem.fixed + 4 * sum(layout.nbytes + 4096 for layout in problem.operands().values())
    limit = least + round(share**3 * max(0, everything - least))
    plan = make_plan(problem, BUS if problem.on_device else RATES, limit)
    assert plan.minimum == least
    if plan.n_products <= 20_000:
        check(plan)


@settings(max_examples=100, deadline=None)
@given(problem=problems(st.integers(1, 7)))
def test_the_smallest_budget_works_and_one_byte_less_is_refused_with_it(problem: Problem) -> None:
    least = minimum_of(problem)
    if least > 0:
        plan = make_plan(problem, RATES, least)
        assert plan.memory_used == least
        check(plan)
    if least > 1:
        with pytest.raises(ValueError, match=rf"too little.*memory_limit={least}\b"):
            make_plan(problem, RATES, least - 1)


@settings(max_examples=60, deadline=None)
@given(
    problem=problems(st.sampled_from([1, 1000, 50_000, 150_528, 3_000_000])),
    limit=st.sampled_from([2**20, 2**27, 2**36]),
)
def test_huge_products_are_planned_within_the_budget(problem: Problem, limit: int) -> None:
    limit = max(limit, minimum_of(problem))  # a row of ones for three million columns is 12 MB
    plan = make_plan(problem, BUS if problem.on_device else RATES, limit)
    assert plan.problem.fixed + buffer_bytes(problem, plan.cut, ALIGN[problem.on_device]) == plan.memory_used <= limit
    assert all(1 <= step <= size for step, size in zip(plan.tile, problem.shape, strict=True))
    assert plan.costs == estimate(problem, plan.rates, plan.cut)
    assert plan.seconds > 0


def square(size: int, place: Place = "file", **changes: Any) -> Problem:
    layout = Layout(size, size, np.dtype(np.float32), place)
    return replace(Problem(layout, layout, layout, cores=2), **changes)


def test_more_memory_never_means_more_time() -> None:
    times = [make_plan(square(8192), RATES, 2**e).seconds for e in range(20, 31)]
    assert all(later <= 1.05 * earlier for earlier, later in itertools.pairwise(times)), times


def test_what_fits_is_read_once() -> None:
    problem = square(4096)
    plan = make_plan(problem, RATES, 2**29)
    assert plan.costs.moved == (problem.A.nbytes, problem.B.nbytes, problem.out.nbytes)
    assert plan.bound == "arithmetic"


def test_a_narrow_operand_is_kept_and_the_wide_one_read_once() -> None:
    """150,528 inputs into 4,096 units for 32 samples: the weights pass by once."""
    A, B = Layout(4096, 150_528, np.dtype(np.float32), "file"), Layout(150_528, 32, np.dtype(np.float32), "file")
    out = Layout(4096, 32, np.dtype(np.float32), "host", "F", streams=False)
    plan = make_plan(Problem(A, B, out, cores=2), RATES, 2**28)
    assert plan.costs.moved[:2] == (A.nbytes, B.nbytes)
    assert plan.bound == "transfer"


def test_tiles_that_hide_the_transfer_are_as_large_as_the_bound_says() -> None:
    """2mn/(m + n) ≥ bytes per number · FLOP/s over bytes/s, where both operands stream to a device."""
    host = Layout(60_000, 60_000, np.dtype(np.float32), "host")
    problem = Problem(host, host, host, on_device=True, cores=0)
    rates = Rates(arithmetic=5e13, copy=1e11, to_device=2.5e10, from_device=2.5e10)
    plan = make_plan(problem, rates, 2**34)
    m, n, _ = plan.tile
    assert plan.bound == "arithmetic"
    assert 2 * m * n / (m + n) >= 4 * rates.arithmetic / rates.to_device
    slow = make_plan(problem, rates, 2**24)
    m, n, _ = slow.tile
    assert slow.bound == "transfer"
    assert 2 * m * n / (m + n) < 4 * rates.arithmetic / rates.to_device


def test_chunks_are_contiguous_where_that_is_possible() -> None:
    plan = make_plan(square(8192), replace(RATES, read=2e10, write=1e10), 2**29)
    tm, tn, tk = plan.tile
    assert tk == 8192 or tn == 8192, "whole rows of A, or of B"
    assert plan.problem.A.pieces(tm, 8192) == 1
    assert plan.problem.A.pieces(tm, 4096) == tm


def test_the_table_says_what_a_user_wants_to_know() -> None:
    plan = make_plan(square(8192, bias=True, activation="relu"), RATES, 2**27)
    text = str(plan)
    for expected in (
        "out = relu(A*B + bias)",
        "(8,192 x 8,192)*(8,192 x 8,192) on the CPU",
        "file, C-ordered",
        "128.0 MiB",
        f"the smallest that works: {plan.minimum:,} bytes",
        "1,099.5 GFLOP at 100 GFLOP/s",
        f"bound by {plan.bound}",
        f"{plan.tile[0]:,} x {plan.tile[2]:,}",
    ):
        assert expected in text, text
    assert max(map(len, text.splitlines())) <= 120


def test_the_table_of_a_device_and_of_empty_matrices() -> None:
    host = Layout(600, 500, np.dtype(np.float64), "host")
    kept = Layout(500, 400, np.dtype(np.float64), "device", streams=False)
    out = Layout(600, 400, np.dtype(np.float64), "device", streams=False)
    problem = Problem(host, kept, out, on_device=True, cores=0, device="NVIDIA H100")
    text = str(make_plan(problem, BUS, 2**20))
    assert "page-locked host memory" in text
    assert "in place" in text
    assert "A streams" in text
    assert "NVIDIA H100" in text
    for m, n, k in ((0, 3, 4), (3, 0, 4), (3, 4, 0), (0, 0, 0)):
        A, B, C = (Layout(r, c, np.dtype(np.float32), "file") for r, c in ((m, k), (k, n), (m, n)))
        plan = make_plan(Problem(A, B, C), RATES, 10_000)
        check(plan)
        assert str(plan)


@pytest.mark.parametrize(
    ("name", "value"), [("arithmetic", 0), ("read", -1.0), ("write", "fast"), ("copy", float("nan"))]
)
def test_rates_are_positive_numbers(name: str, value: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=rf"Rates\({name}\)"):
        Rates(**{"arithmetic": 1e9, name: value})


def test_a_plan_computes_and_writes_nothing(tmp_path: Any) -> None:
    out = np.full((5, 6), 7.0, np.float32)
    A, B = np.ones((5, 4), np.float32), np.ones((4, 6), np.float32)
    plan = fcnn.plan_chunked_matmul(A, B, out, memory_limit="1 MB", rates=RATES, backend="numpy")
    assert plan.tile == (5, 6, 4)
    assert (out == 7.0).all()
    fcnn.plan_chunked_matmul(A, B, tmp_path / "new.npy", memory_limit="1 MB", rates=RATES, backend="numpy")
    assert not list(tmp_path.iterdir())


def test_rates_are_measured_where_none_are_given(tmp_path: Any) -> None:
    np.save(tmp_path / "A.npy", np.ones((300, 400), np.float32))
    B = np.ones((400, 200), np.float32)
    plans = [
        fcnn.plan_chunked_matmul(tmp_path / "A.npy", B, tmp_path / "C.npy", memory_limit="1 MB", backend="numpy")
        for _ in range(2)
    ]
    assert plans[0].rates == plans[1].rates, "measured once"
    rates = plans[0].rates
    assert min(rates.arithmetic, rates.read, rates.write, rates.copy) > 1e5
    assert rates.to_device == float("inf")
    assert [path.name for path in tmp_path.iterdir()] == ["A.npy"]


@pytest.mark.parametrize("free", [2**21, 2**24])
def test_measuring_takes_little_of_what_is_free(free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    emulated_ops()  # skips without a compiler
    ops: Any = make_emulated_ops()
    monkeypatch.setattr(ops._runtime, "free", free)
    measured: dict[str, list[int]] = {"device": [], "host": []}
    side, empty, zeros = ops.side_stream, ops.xp.empty, ops.xp.zeros

    def noting(kind: str, make: Any) -> Any:
        def call(*arguments: Any) -> Any:
            made = make(*arguments)
            measured[kind].append(made.nbytes)
            return made

        return call

    def stream() -> Any:
        made = side()
        made.host_buffer = noting("host", made.host_buffer)
        return made

    ops.side_stream = stream
    ops.xp.empty, ops.xp.zeros = noting("device", empty), noting("device", zeros)
    rates = measure_rates(ops, np.dtype(np.float32), [], None)
    assert min(rates.arithmetic, rates.copy, rates.to_device, rates.from_device) > 0
    assert max(measured["host"]) <= free // 8
    workspaces = ops._products.workspace_bytes + 256
    assert max(n for n in measured["device"] if n != workspaces) <= free // 8
