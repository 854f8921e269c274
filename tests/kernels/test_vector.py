"""vector.cuh: every element once, in 16-byte accesses where arrays allow it, with the same bits where they do not."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend import _nvrtc
from fcnn_gpu.backend._kernel_ops._device import vector_threads, vector_width
from fcnn_gpu.backend._kernel_source import C_TYPES, Instance, _with_includes, kernel_folder, parse_kernels, source
from fcnn_gpu.backend._kernels import Argument
from tests.cuda_on_cpu import HostDevice, missing_compiler

from .conftest import ExpectFault
from .helpers import BFLOAT16, BLOCKS, poisoned

FLOAT32, FLOAT64, FLOAT16, UINT8 = (np.dtype(t) for t in (np.float32, np.float64, np.float16, np.uint8))
PAIRS = [
    (FLOAT32, FLOAT32),
    (FLOAT64, FLOAT64),
    (FLOAT16, FLOAT16),
    (BFLOAT16, FLOAT32),
    (FLOAT32, BFLOAT16),
    (UINT8, FLOAT32),
    (UINT8, FLOAT16),
    (UINT8, FLOAT64),
]
SIZES = [0, 1, 3, 4, 7, 8, 64, 1001, 4096]

HALVED = """
// instances: INSTANCES
template <typename S, typename T>
__global__ void halved(long long n, const S* x /* any (n) */, T* y /* any (n) */, int* width /* any (n) */) {
    constexpr int elements = vector_width<S, T>;
    for_each_place<elements>(n, is_aligned<elements>(x, y), [&](auto place) {
        const auto a = place.load(x);
        Vector<T, place.size> half;
        #pragma unroll
        for (int k = 0; k < place.size; ++k) {
            half[k] = from_accumulator<T>(to_accumulator(a[k]) / 2);
            width[place.index(k)] = place.width;
        }
        place.store(y, half);
    });
}
"""


def text(pairs: list[tuple[np.dtype[Any], np.dtype[Any]]]) -> str:
    """The header and a kernel that uses it, for these pairs of types."""
    header = _with_includes(kernel_folder() / "vector.cuh", set())
    lines = [f"// instances: S in {C_TYPES[s.name]}; T in {C_TYPES[t.name]}" for s, t in pairs]
    return header + HALVED.replace("// instances: INSTANCES", "\n".join(lines))


@pytest.fixture(scope="module")
def device() -> HostDevice:
    reason = missing_compiler()
    if reason:
        pytest.skip(reason)
    program = text(PAIRS)
    return HostDevice(sources={"vector": (program, {k.name: k for k in parse_kernels("vector", program)})})


def halved(
    device: HostDevice, x: HostArray, y: HostArray, grid: int = 3, block: int = 64
) -> tuple[HostArray, HostArray]:
    """x/2 into y; also the vector width that each element was worked on with."""
    kernel = parse_kernels("vector", text(PAIRS))[0]
    width = np.zeros(x.size, np.int32)
    values = (np.int64(x.size), x, y, width)
    arguments = [Argument(p, v) for p, v in zip(kernel.parameters, values, strict=True)]
    device.run(kernel, kernel.instance((x.dtype, y.dtype)), grid, block, 0, arguments)
    return y, width


def whole(n: int, dtype: np.dtype[Any]) -> HostArray:
    return np.random.default_rng(n).integers(0, 200, n).astype(dtype)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda p: f"{p[0]}-{p[1]}")
def test_every_element_once_in_vectors(device: HostDevice, pair: tuple[np.dtype[Any], np.dtype[Any]]) -> None:
    for n in SIZES:
        x = whole(n, pair[0])
        y, width = halved(device, x, poisoned(n, pair[1]))
        np.testing.assert_array_equal(y.astype(np.float64), (x.astype(np.float32) / 2).astype(pair[1]))
        widest = 16 // max(d.itemsize for d in pair)
        assert vector_width(*pair) == widest
        assert (width[: n // widest * widest] == widest).all()
        assert (width[n // widest * widest :] == 1).all()


@pytest.mark.parametrize("pair", PAIRS, ids=lambda p: f"{p[0]}-{p[1]}")
@pytest.mark.parametrize(("before_x", "before_y"), [(1, 0), (0, 1), (3, 3), (8, 1)])
def test_views_between_two_boundaries_give_the_same_bits(
    device: HostDevice, pair: tuple[np.dtype[Any], np.dtype[Any]], before_x: int, before_y: int
) -> None:
    x = whole(100, pair[0])
    expected, _ = halved(device, x, poisoned(100, pair[1]))
    shifted, y = np.concatenate([x[:before_x], x])[before_x:], poisoned(100 + before_y, pair[1])[before_y:]
    y, width = halved(device, shifted, y)
    np.testing.assert_array_equal(y.view(np.uint8), expected.view(np.uint8))
    assert (width == 1).all()


@pytest.mark.parametrize(("block", "grid"), list(itertools.product(BLOCKS, [1, 2, 7])))
def test_any_grid(device: HostDevice, block: int, grid: int) -> None:
    x = whole(4097, FLOAT32)
    y, width = halved(device, x, poisoned(4097, FLOAT32), grid, block)
    np.testing.assert_array_equal(y, x / 2)
    assert (width[:-1] == 4).all()


def test_in_place(device: HostDevice) -> None:
    x = whole(1001, FLOAT32)
    expected = x / 2
    halved(device, x, x)
    np.testing.assert_array_equal(x, expected)


def test_a_vector_between_two_boundaries_is_a_fault(expect_fault: ExpectFault) -> None:
    program = text(PAIRS).replace("is_aligned<elements>(x, y)", "true")
    careless = HostDevice(sources={"vector": (program, {k.name: k for k in parse_kernels("vector", program)})})
    with expect_fault("misaligned", careless):
        halved(careless, whole(9, FLOAT32)[1:], poisoned(8, FLOAT32))


@pytest.mark.usefixtures("nvrtc")
@pytest.mark.parametrize(
    ("pair", "load", "store"),
    [
        ((FLOAT32, FLOAT32), 16, 16),
        ((FLOAT64, FLOAT64), 16, 16),
        ((FLOAT16, FLOAT16), 16, 16),
        ((BFLOAT16, FLOAT32), 8, 16),
        ((FLOAT32, BFLOAT16), 16, 8),
        ((UINT8, FLOAT32), 4, 16),
        ((UINT8, FLOAT64), 2, 16),
    ],
    ids=str,
)
def test_the_compiler_makes_one_access_of_each_vector(
    pair: tuple[np.dtype[Any], np.dtype[Any]], load: int, store: int
) -> None:
    """Two vectors per thread, one, and one element: three loads and three stores in all, the widest of 16 bytes."""
    names = tuple(C_TYPES[d.name] for d in pair)
    program = text([pair]).replace("width[place.index(k)] = place.width;", "")
    compiled = _nvrtc.compile_instances("vector", program, [Instance("halved", names)], "sm_90")
    assert access_bytes(compiled.ptx, "ld")[:3] == [load] * 3
    assert set(access_bytes(compiled.ptx, "ld")[3:]) == {pair[0].itemsize}
    assert access_bytes(compiled.ptx, "st")[:3] == [store] * 3
    assert set(access_bytes(compiled.ptx, "st")[3:]) == {pair[1].itemsize}


# A pass over arrays is compiled for two vectors, for one and for single elements: three vector accesses of each array.
# A sum over samples holds four samples or one: five.
KERNELS = [
    # kernels/<stem>.cu, the instance, 16-byte loads, 16-byte stores
    ("bias_activation", ("bias_activation", "float", "RELU"), 3 + 3, 6),
    ("bias_activation", ("bias_activation", "__half", "GELU"), 3 + 6, 6),  # a bias of 32 bytes for each vector
    ("activation_backward", ("activation_backward", "double", "TANH"), 6, 3),
    ("activation_backward", ("activation_backward_bias", "float", "RELU"), 10, 5),
    ("activation_backward", ("activation_backward_bias", "__nv_bfloat16", "RELU"), 10, 5),
    ("row_sum", ("row_sum", "float"), 5, 0),
    ("row_sum", ("row_sum", "__half"), 5, 0),
    ("add", ("add", "__half"), 6, 3),
    ("scale", ("scale", "double"), 3, 3),
    ("gather", ("gather_rows", "float"), 3, 3),
    ("gather", ("gather_rows_scaled", "unsigned char", "__nv_bfloat16"), 0, 3),  # eight bytes of X, sixteen of out
    ("cast", ("cast", "unsigned char", "__half"), 0, 3),
    ("store_rows", ("store_rows", "__half", "float"), 0, 3),
    ("dropout", ("dropout_forward", "float", "false"), 4, 4),
    ("dropout", ("dropout_forward", "__half", "true"), 2, 2),
    ("dropout", ("dropout_backward", "__nv_bfloat16", "false"), 3, 3),
]


@pytest.mark.usefixtures("nvrtc")
@pytest.mark.parametrize(("stem", "names", "loads", "stores"), KERNELS)
def test_kernels_move_16_bytes_at_once(stem: str, names: tuple[str, ...], loads: int, stores: int) -> None:
    """What the CPU cannot show: it gives the right numbers whatever the width of an access."""
    instance = Instance(names[0], names[1:])
    ptx = _nvrtc.compile_instances(stem, source(stem), [instance], "sm_90").ptx
    assert access_bytes(ptx, "ld").count(16) >= loads  # more where the compiler copies code into two branches
    assert access_bytes(ptx, "st").count(16) == stores


def access_bytes(ptx: str, kind: str) -> list[int]:
    """How many bytes each load or store of global memory moves, in the order of the text."""
    found = re.findall(rf"\b{kind}\.global(?:\.\w+)*?(?:\.v(\d))?\.[a-z](\d+)\s", ptx)
    return [int(count or 1) * int(bits) // 8 for count, bits in found]


def test_threads_for_a_pass() -> None:
    """A thread per vector of a small array, one per two vectors of a large one."""
    assert vector_threads(0, FLOAT32) == 0
    assert vector_threads(1001, FLOAT32) == 251
    assert vector_threads(1001, FLOAT16, FLOAT32) == 251
    assert vector_threads(2**20, FLOAT16) == 2**20 // 16
    assert vector_threads(2**20 + 1, BFLOAT16, FLOAT64) == 2**18 + 1
