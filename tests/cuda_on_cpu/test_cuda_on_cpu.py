"""The emulation itself: barriers, shuffles, votes, atomics, 16-bit types, and every fault that it must catch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._kernel_source import parse_kernels
from fcnn_gpu.backend._kernels import Argument, KernelCompileError
from tests.cuda_on_cpu import HostDevice, missing_compiler
from tests.cuda_on_cpu.host_device import KernelFault

pytestmark = pytest.mark.skipif(missing_compiler() is not None, reason=str(missing_compiler()))


def run(
    text: str,
    arguments: Sequence[Any],
    *,
    grid: int = 1,
    block: int = 32,
    shared: int = 0,
    seed: int = 1,
    check_races: bool = False,
) -> None:
    """Execute the one kernel in `text`."""
    text = f'#line 1 "text.cu"\n{text}'
    kernel = parse_kernels("text", text)[0]
    device = HostDevice(seed=seed, check_races=check_races, sources={"text": (text, {kernel.name: kernel})})
    checked = [Argument(p, a) for p, a in zip(kernel.parameters, arguments, strict=True)]
    device.run(kernel, kernel.instances[0], grid, block, shared, checked)


REVERSE = """
__global__ void reverse(const int* x /* any (_) */, int* y /* any (_) */) {
    __shared__ int tile[1024];
    const int i = threadIdx.x;
    tile[i] = x[blockIdx.x * blockDim.x + i];
    BARRIER
    y[blockIdx.x * blockDim.x + i] = tile[blockDim.x - 1 - i];
}"""


@pytest.mark.parametrize("block", [1, 32, 100, 1024])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_barrier_makes_shared_memory_visible(block: int, seed: int) -> None:
    x = np.arange(3 * block, dtype=np.int32)
    y = np.zeros_like(x)
    run(REVERSE.replace("BARRIER", "__syncthreads();"), [x, y], grid=3, block=block, seed=seed)
    np.testing.assert_array_equal(y, x.reshape(3, block)[:, ::-1].ravel())


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_missing_barrier_shows(seed: int) -> None:
    x = np.arange(256, dtype=np.int32)
    y = np.zeros_like(x)
    run(REVERSE.replace("BARRIER", ""), [x, y], block=256, seed=seed)
    assert (y == -1).any()  # shared memory starts as poison in every block


def test_a_barrier_that_some_threads_skip_is_an_error() -> None:
    text = """__global__ void early_exit(int n, int* x /* any (n) */) {
        if (threadIdx.x >= 20) return;
        __syncthreads();
        x[threadIdx.x] = 1;
    }"""
    with pytest.raises(KernelFault, match=r"block 0 cannot go on: 12 of its 32 .*barrier of text\.cu:3"):
        run(text, [np.int32(20), np.zeros(20, np.int32)])


def test_different_barriers_do_not_release_each_other() -> None:
    text = """__global__ void two_barriers(int* x /* any (_) */) {
        if (threadIdx.x % 2)
            __syncthreads();
        else
            __syncthreads();
        x[0] = 1;
    }"""
    with pytest.raises(
        KernelFault, match=r"waits at the barrier of text\.cu:[35] while others .* wait at the one of text\.cu:[35]"
    ):
        run(text, [np.zeros(1, np.int32)])


@pytest.mark.parametrize(
    ("c_type", "dtype"), [("int", "int32"), ("float", "float32"), ("double", "float64"), ("long long", "int64")]
)
@pytest.mark.parametrize("width", [32, 8, 1])
def test_shuffles(c_type: str, dtype: str, width: int) -> None:
    text = f"""__global__ void shuffles({c_type}* x /* any (_) */) {{
        const int i = threadIdx.x;
        const {c_type} v = x[i];
        const {c_type} down = __shfl_down_sync(0xffffffffu, v, 3, {width});
        const {c_type} up = __shfl_up_sync(0xffffffffu, v, 3, {width});
        const {c_type} from_lane = __shfl_sync(0xffffffffu, v, 5, {width});
        const {c_type} crossed = __shfl_xor_sync(0xffffffffu, v, 6, {width});
        x[64 + i] = down;
        x[128 + i] = up;
        x[192 + i] = from_lane;
        x[256 + i] = crossed;
    }}"""
    x: HostArray = np.arange(320).astype(dtype)
    run(text, [x], block=64)
    lane = np.arange(64)
    begin = lane - lane % width
    down, up, crossed = lane + 3, lane - 3, lane ^ 6
    np.testing.assert_array_equal(x[64:128], np.where(down >= begin + width, lane, down))
    np.testing.assert_array_equal(x[128:192], np.where(up < begin, lane, up))
    np.testing.assert_array_equal(x[192:256], begin + 5 % width)
    np.testing.assert_array_equal(x[256:320], np.where(crossed >= begin + width, lane, crossed))


def test_a_partial_warp_shuffles_by_itself() -> None:
    """The lower and the upper half run different numbers of rounds."""
    text = """__global__ void halves(int* x /* any (_) */) {
        const bool low = threadIdx.x < 16;
        const unsigned mask = low ? 0x0000ffffu : 0xffff0000u;
        int v = threadIdx.x;
        for (int round = 0; round < (low ? 5 : 2); ++round) v = __shfl_xor_sync(mask, v, 1) + 100;
        x[threadIdx.x] = v;
    }"""
    x = np.zeros(32, np.int32)
    run(text, [x])
    lane = np.arange(32)
    np.testing.assert_array_equal(x, np.where(lane < 16, (lane ^ 1) + 500, lane + 200))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "if (threadIdx.x != 7) __shfl_down_sync(0xffffffffu, 1, 1);",
            r"lane 7 has finished|cannot go on: 1 of its 32",
        ),
        ("__shfl_down_sync(0xfffffffeu, 1, 1);", r"leaves out its own lane 0|cannot go on"),
        ("if (threadIdx.x < 16) __syncwarp(); else __any_sync(0xffffffffu, 1);", r"while lane \d+ waits in"),
        ("__shfl_down_sync(0xffffffffu, 1, 1, 12);", "width 12; it is a power of two"),
    ],
)
def test_wrong_collectives_are_errors(body: str, message: str) -> None:
    with pytest.raises(KernelFault, match=message):
        run(f"__global__ void wrong(int* x /* any (_) */) {{ {body} x[0] = 1; }}", [np.zeros(1, np.int32)])


def test_a_full_mask_in_a_partial_warp_is_an_error() -> None:
    text = "__global__ void partial(int* x /* any (_) */) { x[0] = __any_sync(0xffffffffu, 1); }"
    with pytest.raises(KernelFault, match="does not exist"):
        run(text, [np.zeros(1, np.int32)], block=20)


def test_votes() -> None:
    text = """__global__ void votes(int* x /* any (_) */) {
        const int i = threadIdx.x;
        x[i] = (int)__ballot_sync(0xffffffffu, i % 3 == 0);
        x[64 + i] = __any_sync(0xffffffffu, i == 40);
        x[128 + i] = __all_sync(0xffffffffu, i < 33);
        x[192 + i] = __syncthreads_count(i % 3 == 0);
        x[256 + i] = __syncthreads_and(i < 63);
        x[320 + i] = __syncthreads_or(i == 63);
        x[384 + i] = __syncthreads_and(i < 64);
    }"""
    x = np.full(448, -7, np.int32)
    run(text, [x], block=64)
    low = sum(1 << i for i in range(32) if i % 3 == 0)
    high = sum(1 << i for i in range(32) if (i + 32) % 3 == 0)
    assert x[:64].view(np.uint32).tolist() == [low] * 32 + [high] * 32
    assert x[64:128].tolist() == [0] * 32 + [1] * 32
    assert x[128:192].tolist() == [1] * 32 + [0] * 32
    assert [set(x[i : i + 64].tolist()) for i in range(192, 448, 64)] == [{22}, {0}, {1}, {1}]


def test_atomics() -> None:
    text = """__global__ void atomics(int n, int* count /* any (2) */, double* sum /* any (1) */,
                                     unsigned long long* largest /* any (1) */, int* ticket /* any (n) */) {
        const int i = blockIdx.x * blockDim.x + threadIdx.x;
        if (i >= n) return;
        ticket[i] = atomicAdd(count, 1);
        atomicAdd(sum, 0.5);
        atomicMax(largest, (unsigned long long)i << 40);
        atomicCAS(count + 1, 0, 9);
    }"""
    count, total, largest = np.zeros(2, np.int32), np.zeros(1), np.zeros(1, np.uint64)
    ticket = np.full(100, -1, np.int32)
    run(text, [np.int32(100), count, total, largest, ticket], grid=4)
    assert count.tolist() == [100, 9]
    assert total[0] == 50
    assert int(largest[0]) == 99 << 40
    assert sorted(ticket.tolist()) == list(range(100))


FAULTS = [
    ("x[n] = 1;", "writes? .*past the end of x"),
    ("x[n + 100000] = 1;", r"reads or writes \d+ bytes past the end of x"),
    ("x[-1] = 1;", "writes? .*before the start of x"),
    ("((int*)c)[0] = 1;", "writes to c, a const parameter"),
    ("x[0] = c[-20000];", r"reads or writes \d+ bytes before the start of c"),
    ("x[0] = *missing;", "null pointer"),
    ("__shared__ int tile[4][8]; tile[0][n] = 1; x[0] = tile[0][0];", r"index 8 is outside the array at .*:\d+"),
    ("*(float4*)(x + 1) = make_float4(1, 2, 3, 4);", "misaligned"),
    ("x[0] = n / (int)(blockIdx.x);", "divided by zero"),
    ("x[0] = 1 << (n * 4);", "shifted by its width"),
    ("x[0] = 2147483647 + n;", "signed addition overflows"),
    ("__trap();", "__trap"),
]


@pytest.mark.parametrize(("body", "message"), FAULTS, ids=[body for body, _ in FAULTS])
def test_faults_are_reported_and_the_next_launch_works(body: str, message: str) -> None:
    text = """__global__ void faulty(int n, const int* c /* any (n) */, const int* missing /* any (n), may be null */,
                                      int* x /* any (n) */) { if (threadIdx.x == 3) { BODY } }"""
    x, c = np.zeros(8, np.int32), np.zeros(8, np.int32)
    with pytest.raises(KernelFault, match=message):
        run(text.replace("BODY", body), [np.int32(8), c, None, x])
    assert not x.any()  # a failed launch changes nothing
    run(text.replace("BODY", "x[n - 1] = c[n - 1] + 5;"), [np.int32(8), c, None, x])
    assert x.tolist() == [0] * 7 + [5]


def test_a_read_just_past_the_end_gives_poison() -> None:
    """The bytes that alignment leaves between an array and its guard page are no zeros."""
    text = "__global__ void over(const float* x /* any (_) */, float* y /* any (_) */) { y[0] = x[3]; }"
    y = np.zeros(1, np.float32)
    run(text, [np.ones(3, np.float32), y])
    assert np.isnan(y[0])


def test_a_stack_overflow_is_an_error() -> None:
    text = """__device__ __noinline__ int deep(int n) {
        volatile char space[4096];
        space[n % 4096] = (char)n;
        return n == 0 ? 0 : deep(n - 1) + space[n % 4096];
    }
    __global__ void recursive(int n, int* x /* any (1) */) { x[0] = deep(n); }"""
    with pytest.raises(KernelFault, match="overflows its stack"):
        run(text, [np.int32(100), np.zeros(1, np.int32)])


def test_dynamic_shared_memory() -> None:
    text = """extern __shared__ __align__(16) unsigned char dynamic_shared[];
    __global__ void dynamic(int n, int* x /* any (_) */) {
        int* tile = reinterpret_cast<int*>(dynamic_shared);
        tile[threadIdx.x] = threadIdx.x;
        __syncthreads();
        x[threadIdx.x] = tile[n - 1 - threadIdx.x];
    }"""
    x = np.zeros(64, np.int32)
    run(text, [np.int32(64), x], block=64, shared=256)
    assert x.tolist() == list(range(63, -1, -1))
    with pytest.raises(KernelFault, match="past the end of its dynamic shared memory"):
        run(text, [np.int32(64), x], block=64, shared=252)


def test_the_seed_changes_the_order_of_blocks() -> None:
    text = """__global__ void order(int* next /* any (1) */, int* x /* any (_) */) {
        if (threadIdx.x == 0) x[atomicAdd(next, 1)] = blockIdx.x;
    }"""
    orders = []
    for seed in (0, 1, 2):
        x = np.full(50, -1, np.int32)
        run(text, [np.zeros(1, np.int32), x], grid=50, seed=seed)
        orders.append(x.tolist())
    assert orders[0] == list(range(50))
    assert orders[1] != orders[2]
    assert sorted(orders[1]) == sorted(orders[2]) == orders[0]


def test_views_that_overlap_share_memory() -> None:
    text = (
        "__global__ void shift(const int* x /* any (_) */, int* y /* any (_) */) { if (threadIdx.x == 0) y[0] = x[1]; }"
    )
    whole = np.arange(4, dtype=np.int32)
    run(text, [whole[1:3], whole[:2]])
    assert whole.tolist() == [2, 1, 2, 3]


LAST_BLOCK = """
__global__ void last_block(int* part /* any (_) */, int* total /* any (_) */, unsigned* arrived /* any (_) */) {
    __shared__ bool is_last;
    if (threadIdx.x % 16 == 0) part[2 * blockIdx.x + threadIdx.x / 16] = blockIdx.x;
    BEFORE
    if (threadIdx.x == 0) {
        RELEASE
        is_last = atomicAdd(arrived, 1u) == gridDim.x - 1;
        ACQUIRE
    }
    AFTER
    if (is_last && threadIdx.x == 7)
        for (unsigned b = 0; b < 2 * gridDim.x; ++b) total[0] += part[b];
}"""
"""The last block adds what all have written: in order only with both fences and both barriers."""


def last_block(missing: str = "") -> str:
    """The kernel, without one of its four steps."""
    fence, barrier = "__threadfence();", "__syncthreads();"
    text = LAST_BLOCK
    for step, code in {"BEFORE": barrier, "RELEASE": fence, "ACQUIRE": fence, "AFTER": barrier}.items():
        text = text.replace(step, "" if step == missing else code)
    return text


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_a_ticket_orders_blocks(seed: int) -> None:
    part, total, arrived = np.zeros(1024, np.int32), np.zeros(1, np.int32), np.zeros(1, np.uint32)
    run(last_block(), [part, total, arrived], grid=9, seed=seed, check_races=True)
    assert total.tolist() == [2 * 36]


@pytest.mark.parametrize("missing", ["BEFORE", "RELEASE", "ACQUIRE", "AFTER"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_ticket_without_one_of_its_fences_and_barriers_orders_nothing(missing: str, seed: int) -> None:
    part, total, arrived = np.zeros(1024, np.int32), np.zeros(1, np.int32), np.zeros(1, np.uint32)
    with pytest.raises(KernelFault, match=r"(part, which thread \d+ of block \d|of is_last)"):
        run(last_block(missing), [part, total, arrived], grid=9, seed=seed, check_races=True)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(
    ("text", "grid", "message"),
    [
        (
            REVERSE.replace("BARRIER", ""),
            1,
            r"of tile, (which thread \d+ of the same block wrote|shared memory that nothing)",
        ),
        (
            """__global__ void read_then_write(int* x /* any (_) */) {
                const int other = x[(threadIdx.x + 1) % 32];
                x[threadIdx.x] = other;
            }""",
            1,
            r"(reads|writes) byte \d+ of x, which thread \d+ of the same block (read|wrote) with no barrier between",
        ),
        (
            "__global__ void both(int* x /* any (_) */) { if (threadIdx.x < 2) x[7] = 1; }",
            1,
            "writes byte 28 of x, which thread [01] of the same block wrote",
        ),
        (
            "__global__ void blocks(int* x /* any (_) */) { if (threadIdx.x == 0) x[blockIdx.x] = x[blockIdx.x / 2]; }",
            4,
            r"of x, which thread 0 of block \d (read|wrote) in the same launch",
        ),
        (
            """__global__ void many_readers(int* x /* any (_) */) {
                __shared__ int total;
                if (threadIdx.x == 5) total = 3;
                __syncthreads();
                x[threadIdx.x] = total;
                if (threadIdx.x == 5) total = 4;
            }""",
            1,
            r"byte 0 of total, which thread \d+ of the same block (read|wrote)",
        ),
        (
            """__global__ void write_exchange_read(int* x /* any (_) */) {
                x[threadIdx.x] = 1;
                const int lane = __shfl_xor_sync(0xffffffffu, (int)threadIdx.x, 1);
                x[threadIdx.x + 32] = x[lane];
            }""",
            1,
            r"reads byte \d+ of x, which thread \d+ of the same block wrote",
        ),
        (
            """__global__ void unwritten(int* x /* any (_) */) {
                __shared__ int t[32];
                if (threadIdx.x != 3) t[threadIdx.x] = 1;
                x[threadIdx.x] = t[threadIdx.x];
            }""",
            1,
            "reads byte 12 of t, shared memory that nothing has been written to",
        ),
    ],
)
def test_races_are_reported(text: str, grid: int, message: str, seed: int) -> None:
    with pytest.raises(KernelFault, match=message):
        run(text, [np.zeros(1024, np.int32)] * text.count("/*"), grid=grid, seed=seed, check_races=True)


@pytest.mark.parametrize(
    ("text", "grid"),
    [
        (REVERSE.replace("BARRIER", "__syncthreads();"), 3),
        (
            """__global__ void warp_rounds(int* x /* any (_) */) {
                __shared__ int tile[32];
                for (int round = 0; round < 3; ++round) {
                    tile[threadIdx.x] = round;
                    __syncwarp();
                    x[threadIdx.x] = tile[31 - threadIdx.x] + tile[0];
                    __syncwarp();
                }
            }""",
            1,
        ),
        (
            """__global__ void read_exchange_write(int* x /* any (_) */) {
                const int first = x[0];
                const int sum = __shfl_xor_sync(0xffffffffu, first, 1) + first;
                if (threadIdx.x == 0) x[0] += sum;
            }""",
            1,
        ),
        ("__global__ void tickets(int* x /* any (_) */) { atomicAdd(x, 1); }", 5),
        ("__global__ void own(double* x /* any (_) */) { x[blockIdx.x * blockDim.x + threadIdx.x] *= 2; }", 3),
    ],
)
def test_ordered_accesses_are_no_races(text: str, grid: int) -> None:
    dtype = np.float64 if "double" in text else np.int32
    run(text, [np.zeros(1024, dtype) for _ in range(text.count("/*"))], grid=grid, check_races=True)


def test_a_16_bit_read_of_a_wider_write_is_seen() -> None:
    """Eight elements written at once: the second one counts as written, and as written by another thread."""
    text = """__global__ void wide(int* x /* any (_) */) {
        __shared__ __align__(16) unsigned short tile[256];
        *(uint4*)(tile + 8 * threadIdx.x) = make_uint4(0, 1 << 16, 2, 3);
        BARRIER
        x[threadIdx.x] = tile[(8 * threadIdx.x + 11) % 256];
    }"""
    x = np.zeros(32, np.int32)
    run(text.replace("BARRIER", "__syncthreads();"), [x], check_races=True)
    assert x.tolist() == [1] * 32
    with pytest.raises(KernelFault, match=r"of tile, (which thread|shared memory that nothing)"):
        run(text.replace("BARRIER", ""), [x], check_races=True)


def test_reads_of_an_earlier_block_are_forgotten() -> None:
    """All threads of block 0 read the first element; in block 1 one thread alone reads it and then writes it."""
    text = """__global__ void blocks(int* x /* any (_) */) {
        __shared__ int tile[32];
        tile[threadIdx.x] = threadIdx.x;
        __syncthreads();
        if (threadIdx.x == 0 && blockIdx.x == 1) tile[0] = tile[0] + 1;
        if (blockIdx.x == 0) x[threadIdx.x] = tile[0];
    }"""
    run(text, [np.zeros(32, np.int32)], grid=2, seed=0, check_races=True)


PRODUCT = """
#include <mma.h>
using namespace nvcuda;
__global__ void product(const TYPE* a /* any (_) */, const TYPE* b /* any (_) */, float* c /* any (_) */) {
    __shared__ __align__(32) TYPE tiles[2][16 * 24];
    __shared__ __align__(32) float sums[16 * 20];
    for (int i = threadIdx.x; i < 16 * 24; i += 32) {
        tiles[0][i] = a[i];
        tiles[1][i] = b[i];
    }
    __syncwarp();
    wmma::fragment<wmma::matrix_a, 16, 16, 16, TYPE, wmma::ORDER_A> A;
    wmma::fragment<wmma::matrix_b, 16, 16, 16, TYPE, wmma::ORDER_B> B;
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> C;
    wmma::fill_fragment(C, 0.5f);
    wmma::load_matrix_sync(A, tiles[0], 24);
    wmma::load_matrix_sync(B, tiles[1], 24);
    wmma::mma_sync(C, A, B, C);
    for (int i = 0; i < C.num_elements; ++i) C.x[i] *= 2;
    BODY
    wmma::store_matrix_sync(sums, C, 20, wmma::ORDER_C);
    WAIT
    for (int i = threadIdx.x; i < 256; i += 32) c[i] = sums[i / 16 * 20 + i % 16];
}"""


def product(c_type: str, order_a: str, order_b: str, order_c: str, body: str = "", wait: str = "__syncwarp();") -> str:
    parts = {"TYPE": c_type, "ORDER_A": f"{order_a}_major", "ORDER_B": f"{order_b}_major"}
    parts |= {"ORDER_C": f"mem_{order_c}_major", "BODY": body, "WAIT": wait}
    return re.sub("|".join(parts), lambda match: parts[match[0]], PRODUCT)


@pytest.mark.parametrize(
    ("c_type", "dtype"), [("__half", np.dtype(np.float16)), ("__nv_bfloat16", np.dtype(ml_dtypes.bfloat16))]
)
@pytest.mark.parametrize("orders", ["row row row", "col row col", "row col row", "col col col"])
def test_a_warp_multiplies_tiles(orders: str, c_type: str, dtype: np.dtype[Any]) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-8, 9, (16, 24)).astype(dtype) for _ in "ab")
    c = np.zeros((16, 16), np.float32)
    order_a, order_b, order_c = orders.split()
    run(product(c_type, order_a, order_b, order_c), [a, b, c], check_races=True)
    A, B = (
        (x[:, :16] if order == "row" else x[:, :16].T).astype(np.float64) for x, order in ((a, order_a), (b, order_b))
    )
    expected = 2 * (A @ B + 0.5)
    np.testing.assert_array_equal(c if order_c == "row" else c.T, expected)


def test_elements_of_different_fragments_lie_in_different_lanes() -> None:
    """Code that takes element i of a sum for element i of an operand, or for the i-th of a row, must fail."""
    text = """
    #include <mma.h>
    using namespace nvcuda;
    __global__ void layout(float* places /* any (_) */) {
        __shared__ __align__(32) __half tile[256];
        for (int i = threadIdx.x; i < 256; i += 32) tile[i] = __half(float(i));
        __syncwarp();
        wmma::fragment<wmma::matrix_a, 16, 16, 16, __half, wmma::row_major> A;
        wmma::fragment<wmma::matrix_b, 16, 16, 16, __half, wmma::row_major> B;
        wmma::fragment<wmma::accumulator, 16, 16, 16, float> C;
        wmma::load_matrix_sync(A, tile, 16);
        wmma::load_matrix_sync(B, tile, 16);
        for (int i = 0; i < C.num_elements; ++i) C.x[i] = threadIdx.x * C.num_elements + i;
        wmma::store_matrix_sync(places + 512, C, 16, wmma::mem_row_major);
        for (int i = 0; i < A.num_elements; ++i) places[threadIdx.x * A.num_elements + i] = float(A.x[i]);
        for (int i = 0; i < B.num_elements; ++i) places[256 + threadIdx.x * B.num_elements + i] = float(B.x[i]);
    }"""
    places = np.zeros((3, 256), np.float32)
    run(text, [places])
    in_a, in_b, of_sums = places.astype(int)
    in_c = np.argsort(of_sums)
    for found in (in_a, in_b, in_c):
        assert sorted(found.tolist()) == list(range(256))
    for one, other in [(in_a, in_b), (in_a, in_c), (in_b, in_c), (in_a, np.arange(256)), (in_c, np.arange(256))]:
        assert (one == other).mean() < 0.1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("if (threadIdx.x != 7) wmma::load_matrix_sync(A, tiles[0], 24);", r"while lane \d+ waits in|cannot go on"),
        ("wmma::load_matrix_sync(A, tiles[0] + 8, 24);", r"load_matrix_sync at .*not aligned to 32 bytes"),
        ("wmma::load_matrix_sync(A, a + 8, 24);", r"load_matrix_sync at .*not aligned to 32 bytes"),
        ("wmma::load_matrix_sync(A, tiles[0], 20);", "leading dimension of 20, which is no multiple of 8"),
        ("wmma::store_matrix_sync(sums, C, 18, wmma::mem_col_major);", "leading dimension of 18, .* no multiple of 4"),
        ("wmma::load_matrix_sync(A, tiles[threadIdx.x / 16], 24);", "another pointer or leading dimension than lane"),
        ("wmma::load_matrix_sync(A, a + 256, 24);", "past the end of a"),
        (
            "wmma::store_matrix_sync(sums, C, 20, wmma::mem_row_major); C.x[0] = sums[threadIdx.x];",
            "reads byte .* of sums",
        ),
        ("__shared__ __align__(32) TYPE other[256]; wmma::load_matrix_sync(A, other, 16);", "nothing has been written"),
    ],
)
def test_wrong_tiles_are_errors(body: str, message: str) -> None:
    a, c = np.zeros((16, 24), np.float16), np.zeros(256, np.float32)
    with pytest.raises(KernelFault, match=message):
        run(product("__half", "row", "row", "row", body.replace("TYPE", "__half")), [a, a, c], check_races=True)


def test_a_stored_tile_is_not_visible_before_a_barrier_of_the_warp() -> None:
    a, c = np.zeros((16, 24), np.float16), np.zeros(256, np.float32)
    with pytest.raises(KernelFault, match=r"reads byte \d+ of sums, (which thread \d+ of the same block wrote|shared)"):
        run(product("__half", "row", "row", "row", wait=""), [a, a, c], check_races=True)


HALF_ROUND_TRIP = """
__global__ void round_trip(int n, const FROM* x /* any (n) */, TYPE* y /* any (n) */, float* z /* any (n) */) {
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        y[i] = TYPE(x[i]);
        z[i] = static_cast<float>(y[i]);
    }
}"""


@pytest.mark.parametrize(
    ("c_type", "dtype"), [("__half", np.dtype(np.float16)), ("__nv_bfloat16", np.dtype(ml_dtypes.bfloat16))]
)
def test_16_bit_types_round_to_nearest_even(c_type: str, dtype: np.dtype[Any]) -> None:
    codes = np.arange(65536, dtype=np.uint16).view(dtype).astype(np.float32)
    finite = np.sort(codes[np.isfinite(codes)].astype(np.float64))
    midpoints = ((finite[1:] + finite[:-1]) / 2).astype(np.float32)
    random = np.random.default_rng(0).integers(0, 2**32, 20000, np.uint32).view(np.float32)
    beyond = np.array([65519.9, 65520, 3.4e38, 1e-9, -1e-9, 2.0**-25, -(2.0**-25)], np.float32)
    x = np.concatenate(
        [
            codes,
            midpoints,
            np.nextafter(midpoints, np.float32(np.inf)),
            np.nextafter(midpoints, np.float32(0)),
            random,
            beyond,
        ]
    )
    y, z = np.zeros(x.size, dtype), np.zeros(x.size, np.float32)
    text = HALF_ROUND_TRIP.replace("TYPE", c_type)
    run(text.replace("FROM", "float"), [np.int32(x.size), x, y, z])
    with np.errstate(over="ignore", invalid="ignore"):
        expected = x.astype(dtype)
    assert_same(y, expected)
    assert_same(z, expected.astype(np.float32))


def test_double_to_half_rounds_once() -> None:
    x = np.array([1 + 2.0**-11 + 2.0**-30, 1 + 2.0**-11 - 2.0**-30, 1 + 2.0**-11])
    y, z = np.zeros(3, np.float16), np.zeros(3, np.float32)
    run(HALF_ROUND_TRIP.replace("TYPE", "__half").replace("FROM", "double"), [np.int32(3), x, y, z])
    assert y.tolist() == [1 + 2.0**-10, 1.0, 1.0]


def assert_same(actual: HostArray, expected: HostArray) -> None:
    """Equal bits, any NaN for a NaN."""
    both = np.isnan(actual) & np.isnan(expected)
    assert (both | (actual.view(f"u{actual.itemsize}") == expected.view(f"u{expected.itemsize}"))).all()


def test_umul64hi() -> None:
    text = """
    __global__ void high(const unsigned long long* a /* any (32) */, const unsigned long long* b /* any (32) */,
                         unsigned long long* c /* any (32) */) {
        c[threadIdx.x] = __umul64hi(a[threadIdx.x], b[threadIdx.x]);
    }"""
    a, b = np.random.default_rng(0).integers(0, 2**64, (2, 32), np.uint64)
    c = np.zeros_like(a)
    run(text, [a, b, c])
    assert c.tolist() == [(int(x) * int(y)) >> 64 for x, y in zip(a, b, strict=True)]


def test_the_portable_context_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXXFLAGS", "-DCUDA_ON_CPU_UCONTEXT")
    from tests.cuda_on_cpu import host_device

    for cached in (host_device._load, host_device._part):
        cached.cache_clear()
    try:
        x = np.arange(256, dtype=np.int32)
        y = np.zeros_like(x)
        run(REVERSE.replace("BARRIER", "__syncthreads();  // portable"), [x, y], block=256)
        assert y.tolist() == x[::-1].tolist()
        with pytest.raises(KernelFault, match="past the end of y"):
            run(REVERSE.replace("BARRIER", "y[4096 * 16] = 1;"), [x, y], block=256)
    finally:
        for cached in (host_device._load, host_device._part):
            cached.cache_clear()


def test_names_that_the_run_time_compiler_lacks_do_not_compile() -> None:
    with pytest.raises(KernelCompileError, match="INFINITY"):
        run("__global__ void endless(float* x /* any (_) */) { x[0] = INFINITY; }", [np.zeros(1, np.float32)])
