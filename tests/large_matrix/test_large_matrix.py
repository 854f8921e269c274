"""Products in chunks against the same product in one piece, on each backend, wherever the matrices lie."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._ops import ELEMENTWISE, Ops
from fcnn_gpu.large_matrix import Rates
from fcnn_gpu.large_matrix._host_product import accumulate_product, can_multiply_in_place
from tests.conftest import emulated_ops

RATES = Rates(arithmetic=1e10, to_device=1e9, from_device=1e9)
BIASED = pytest.mark.parametrize("bias", [False, True], ids=["no-bias", "bias"])
TINY_KINDS = (
    "host C",
    "host F",
    "host strided",
    "host reversed",
    "file C",
    "file F",
    "file slice",
    "file strided",
    "path",
)


def stored(values: HostArray, kind: str, folder: Path, name: str) -> Any:
    """The same numbers, lying as `kind` says."""
    place, _, order = kind.partition(" ")
    rows, columns = values.shape
    if order == "C" or kind == "path":
        array = np.ascontiguousarray(values)
    elif order == "F":
        array = np.asfortranarray(values)
    elif order == "slice":
        array = np.full((rows + 3, columns + 2), np.nan, values.dtype)
        array[2:-1, 1:-1] = values
    elif order == "reversed":
        array = np.ascontiguousarray(values[::-1, ::-1])
    else:
        array = np.full((3 * rows + 1, 2 * columns + 1), np.nan, values.dtype)
        array[1::3, 1::2] = values
    if place in ("file", "path"):
        path = folder / f"{name}.npy"
        np.save(path, array)
        array = np.load(path, mmap_mode="r+")
        if kind == "path":
            return path
    if order == "slice":
        return array[2:-1, 1:-1]
    if order == "strided":
        return array[1::3, 1::2]
    return array[::-1, ::-1] if order == "reversed" else array


def drawn(m: int, n: int, k: int, dtype: Any = np.float32, seed: int = 0) -> tuple[HostArray, HostArray, HostArray]:
    """A, B and bias."""
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(size=shape).astype(dtype) for shape in ((m, k), (k, n), (m,)))  # type: ignore[return-value]


def expected(
    A: HostArray, B: HostArray, bias: HostArray | None, kind: str = "identity", slope: float = 0.0
) -> HostArray:
    """f(A·B + bias) in float64, by the primitives."""
    out = A.astype(np.float64) @ B.astype(np.float64)
    Z = np.asfortranarray(out)
    column = None if bias is None else bias.astype(np.float64).reshape(-1, 1)
    Ops().bias_activation(Z, column, kind, slope, Z)
    return Z


def assert_near(found: Any, wanted: HostArray, dtype: Any = np.float32) -> None:
    tolerance = 1e-5 if np.dtype(dtype) == np.float32 else 1e-12
    scale = float(np.abs(wanted).max(initial=1.0))
    np.testing.assert_allclose(np.asarray(found), wanted, rtol=0, atol=30 * tolerance * scale)


def limits(A: Any, B: Any, out: Any, ops: Ops, **options: Any) -> list[int]:
    """The smallest, some more, and as much as there is use for."""
    plan = fcnn.plan_chunked_matmul(A, B, out, memory_limit="1 GB", rates=RATES, backend=ops, **options)
    return sorted({plan.minimum, plan.minimum + 1500, (plan.minimum + plan.memory_used) // 2, plan.memory_used})


class TestEverywhere:
    @pytest.mark.parametrize("kind", TINY_KINDS)
    def test_operands_that_lie_so(self, ops: Ops, tmp_path: Path, kind: str) -> None:
        A, B, bias = drawn(13, 9, 11)
        a, b = stored(A, kind, tmp_path, "A"), stored(B, kind, tmp_path, "B")
        for limit in limits(a, b, None, ops, bias=bias):
            found = fcnn.chunked_matmul(a, b, bias=bias, memory_limit=limit, rates=RATES, backend=ops)
            assert found.flags.c_contiguous
            assert found.dtype == np.float32
            assert_near(found, expected(A, B, bias))

    @pytest.mark.parametrize("kind", [kind for kind in TINY_KINDS if kind != "path"])
    def test_results_that_lie_so(self, ops: Ops, tmp_path: Path, kind: str) -> None:
        A, B, bias = drawn(13, 9, 11)
        out = stored(np.full((13, 9), np.nan, np.float32), kind, tmp_path, "out")
        options: dict[str, Any] = {"bias": bias, "activation": "tanh"}
        for limit in limits(A, B, out, ops, **options):
            out[...] = np.nan
            found = fcnn.chunked_matmul(A, B, out, memory_limit=limit, rates=RATES, backend=ops, **options)
            assert found is out
            assert_near(out, expected(A, B, bias, "tanh"))
        if "slice" in kind or "strided" in kind:
            base = np.load(tmp_path / "out.npy") if kind.startswith("file") else out.base
            assert np.isnan(base).sum() == base.size - out.size, "what lies between stays as it is"

    def test_a_path_is_a_new_file(self, ops: Ops, tmp_path: Path) -> None:
        A, B, _ = drawn(13, 9, 11)
        found = fcnn.chunked_matmul(
            A, B, tmp_path / "out.npy", memory_limit=500_000, rates=RATES, backend=ops, activation="relu"
        )
        assert isinstance(found, np.memmap)
        wanted = expected(A, B, None, "relu")
        assert_near(found, wanted)
        assert_near(np.load(tmp_path / "out.npy"), wanted)

    @pytest.mark.parametrize("kind", sorted(ELEMENTWISE))
    @pytest.mark.parametrize("order", "CF")
    def test_activations(self, ops: Ops, kind: str, order: Any) -> None:
        A, B, bias = drawn(17, 12, 5)
        activation = fcnn.activations.ACTIVATIONS[kind]()
        out = np.empty((17, 12), np.float32, order)
        strided = np.empty((34, 24), np.float32)[::2, ::2]
        wanted = expected(A, B, bias, kind, activation.slope)
        for place in (out, strided):
            for limit in limits(A, B, place, ops, bias=bias, activation=activation)[1:2]:
                place[...] = np.nan
                fcnn.chunked_matmul(
                    A, B, place, bias=bias, activation=activation, memory_limit=limit, rates=RATES, backend=ops
                )
                assert_near(place, wanted)

    @pytest.mark.parametrize(
        "shape", [(0, 3, 4), (3, 0, 4), (3, 4, 0), (0, 0, 0), (1, 1, 1), (1, 7, 1), (7, 1, 30), (1, 1, 50)]
    )
    @pytest.mark.parametrize("kind", ["host C", "host strided", "file F"])
    def test_empty_and_narrow_matrices(self, ops: Ops, tmp_path: Path, shape: tuple[int, int, int], kind: str) -> None:
        m, n, k = shape
        A, B, bias = drawn(m, n, k)
        on_file = kind.startswith("file") and m * n * k  # no map has no bytes
        a, b = (stored(x, kind if on_file else "host F", tmp_path, name) for name, x in (("A", A), ("B", B)))
        out = stored(np.full((m, n), np.nan, np.float32), kind if on_file else "host C", tmp_path, "out")
        fcnn.chunked_matmul(a, b, out, bias=bias, activation="sigmoid", memory_limit=500_000, rates=RATES, backend=ops)
        assert_near(out, expected(A, B, bias, "sigmoid"))

    def test_float64(self, ops: Ops, tmp_path: Path) -> None:
        A, B, bias = drawn(13, 9, 11, np.float64)
        a, b = stored(A, "file C", tmp_path, "A"), stored(B, "host F", tmp_path, "B")
        for limit in limits(a, b, None, ops, bias=bias):
            found = fcnn.chunked_matmul(a, b, bias=bias, memory_limit=limit, rates=RATES, backend=ops)
            assert found.dtype == np.float64
            assert_near(found, expected(A, B, bias), np.float64)

    def test_a_result_of_many_tiles_and_chunks(self, ops: Ops, tmp_path: Path) -> None:
        """Every way to keep an operand, with buffers that are used again and again."""
        A, B, bias = drawn(60, 50, 70)
        a, b = stored(A, "file C", tmp_path, "A"), stored(B, "file C", tmp_path, "B")
        out = stored(np.full((60, 50), np.nan, np.float32), "file F", tmp_path, "out")
        wanted = expected(A, B, bias, "relu")
        least = limits(a, b, out, ops, bias=bias, activation="relu")[0]
        ways = set()
        for extra in (2_000, 6_000, 12_000, 20_000, 30_000, 100_000):
            out[...] = np.nan
            _, report = fcnn.chunked_matmul(
                a, b, out, bias=bias, activation="relu", memory_limit=least + extra, rates=RATES, backend=ops,
                return_report=True,
            )  # fmt: skip
            assert_near(out, wanted)
            plan = report.plan
            assert report.products == plan.n_products
            assert (report.bytes_read, report.bytes_written) == (sum(plan.costs.moved[:2]), plan.costs.moved[2])
            ways.add((plan.cut.kept, plan.cut.buffers[2]))
        assert len(ways) >= 3, ways
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("fcnn_gpu read")]

    def test_the_same_limit_gives_the_same_bits_and_another_limit_the_same_up_to_rounding(
        self, ops: Ops, tmp_path: Path
    ) -> None:
        A, B, _ = drawn(60, 50, 700)
        a, b = stored(A, "file C", tmp_path, "A"), stored(B, "file C", tmp_path, "B")
        for limit in (20_000, 60_000, 10**7):
            found = [fcnn.chunked_matmul(a, b, memory_limit=limit, rates=RATES, backend=ops) for _ in range(2)]
            np.testing.assert_array_equal(*found)
            assert_near(found[0], expected(A, B, None))

    def test_the_report(self, ops: Ops) -> None:
        A, B, _ = drawn(40, 30, 20)
        found, report = fcnn.chunked_matmul(A, B, memory_limit=10_000, rates=RATES, backend=ops, return_report=True)
        assert_near(found, expected(A, B, None))
        assert report.seconds > 0
        assert report.flops_per_second == pytest.approx(48_000 / report.seconds)
        assert report.share == pytest.approx(report.plan.ceiling_seconds / report.seconds)
        assert report.bytes_per_second == (report.bytes_read + report.bytes_written) / report.seconds
        for word in ("predicted", "achieved", "what the rates allow", "bound by"):
            assert word in str(report)

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        shape=st.tuples(*[st.integers(1, 15)] * 3),
        kinds=st.tuples(*[st.sampled_from([k for k in TINY_KINDS if k != "path"])] * 3),
        share=st.floats(0, 1),
        bias=st.booleans(),
    )
    def test_any_shape_residence_and_budget(
        self, ops: Ops, tmp_path: Path, shape: tuple[int, int, int], kinds: Any, share: float, bias: bool
    ) -> None:
        m, n, k = shape
        A, B, b = drawn(m, n, k)
        a, b_ = stored(A, kinds[0], tmp_path, "A"), stored(B, kinds[1], tmp_path, "B")
        out = stored(np.full((m, n), np.nan, np.float32), kinds[2], tmp_path, "out")
        options: dict[str, Any] = {"bias": b if bias else None, "activation": "relu"}
        low, high = (found := limits(a, b_, out, ops, **options))[0], found[-1]
        limit = low + round(share * (high - low))
        fcnn.chunked_matmul(a, b_, out, memory_limit=limit, rates=RATES, backend=ops, **options)
        assert_near(out, expected(A, B, b if bias else None, "relu"))


class TestOnADevice:
    """Operands and results in the device's memory."""

    @pytest.mark.parametrize("order", "CF")
    @BIASED
    def test_operands_of_the_device(self, device_ops: Ops, order: Any, bias: bool) -> None:
        ops = device_ops
        A, B, b = drawn(33, 21, 17)
        on_device = ops.asarray(A.T).T if order == "F" else ops.asarray(A)
        for limit in (3_000, 20_000, 10**6):
            found = fcnn.chunked_matmul(
                on_device, B, bias=b if bias else None, memory_limit=limit, rates=RATES, backend=ops
            )
            assert type(found) is np.ndarray
            assert_near(found, expected(A, B, b if bias else None))

    @BIASED
    def test_what_is_all_there_stays_there(self, device_ops: Ops, bias: bool) -> None:
        ops = device_ops
        A, B, b = drawn(33, 21, 17)
        there = ops.asarray(b) if bias else None
        found = fcnn.chunked_matmul(
            ops.asarray(A), ops.asarray(B), bias=there, activation="gelu", memory_limit=10**5, rates=RATES, backend=ops
        )
        assert ops.adopt(found, "out") is not None
        assert_near(ops.to_numpy(found), expected(A, B, b if bias else None, "gelu"))

    @pytest.mark.parametrize("how", ["C", "F", "rows", "columns", "strided"])
    @BIASED
    def test_results_on_the_device(self, device_ops: Ops, how: str, bias: bool) -> None:
        ops = device_ops
        A, B, b = drawn(33, 21, 17)
        whole = ops.zeros((70, 50), np.float32)
        out = {
            "C": ops.zeros((33, 21), np.float32),
            "F": ops.zeros((21, 33), np.float32).T,
            "rows": whole[1:34, :21],
            "columns": whole[:21, 3:36].T,
            "strided": whole[2:68:2, 1:43:2],
        }[how]
        for limit in (4_000, 30_000, 10**6):
            found = fcnn.chunked_matmul(
                A, B, out, bias=b if bias else None, activation="elu", memory_limit=limit, rates=RATES, backend=ops
            )
            assert found is out
            assert_near(ops.to_numpy(out), expected(A, B, b if bias else None, "elu", 1.0))

    def test_slices_of_device_arrays_are_multiplied_in_place(self, device_ops: Ops) -> None:
        ops = device_ops
        A, B, _ = drawn(33, 21, 17)
        large = ops.zeros((40, 30), np.float32)
        ops.assign(large[2:35, 5:22], A)
        plan = fcnn.plan_chunked_matmul(large[2:35, 5:22], B, memory_limit=10**6, rates=RATES, backend=ops)
        assert plan.cut.buffers[0] == 0
        found = fcnn.chunked_matmul(large[2:35, 5:22], B, memory_limit=5000, rates=RATES, backend=ops)
        assert_near(found, expected(A, B, None))
        with pytest.raises(ValueError, match=r"chunked_matmul\(A\) on a device lies in C or F order"):
            fcnn.chunked_matmul(large[::2, ::2], B[:15], memory_limit=5000, rates=RATES, backend=ops)

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    def test_16_bits_are_added_up_in_float32(self, device_ops: Ops, dtype: str) -> None:
        ml_dtypes = pytest.importorskip("ml_dtypes")
        short = np.dtype(getattr(ml_dtypes, dtype, dtype))
        A, B, bias = drawn(24, 16, 200)
        A, B = A.astype(short), B.astype(short)
        for limit in (4_000, 10**6):
            found = fcnn.chunked_matmul(A, B, bias=bias, memory_limit=limit, rates=RATES, backend=device_ops)
            assert found.dtype == np.float32
            assert_near(found, expected(A.astype(np.float32), B.astype(np.float32), bias))

    def test_the_device_takes_no_more_than_the_limit(self, device_ops: Ops, monkeypatch: pytest.MonkeyPatch) -> None:
        ops = device_ops
        A, B, bias = drawn(90, 80, 70)
        taken = []
        real = ops.empty

        def noted(shape: Any, dtype: Any) -> Any:
            taken.append(int(np.prod(shape)) * np.dtype(dtype).itemsize)
            return real(shape, dtype)

        monkeypatch.setattr(ops, "empty", noted)
        _, report = fcnn.chunked_matmul(
            A, B, bias=bias, activation="relu", memory_limit=20_000, rates=RATES, backend=ops, return_report=True
        )
        assert sum(taken) + -(-90 * 4 // 512) * 512 == report.plan.memory_used <= 20_000


class TestOnTheHost:
    def test_products_accumulate_in_place(self) -> None:
        rng = np.random.default_rng(0)
        for dtype in (np.float32, np.float64):
            arrays: list[Any] = [rng.normal(size=(20, 20)).astype(dtype) for _ in range(3)]
            whole_a, whole_b, whole_out = arrays
            for a in (whole_a[1:8, 2:13], whole_a[2:13, 1:8].T):
                for b in (whole_b[3:14, 4:10], whole_b[4:10, 3:14].T):
                    for out in (whole_out[5:12, 6:12], whole_out[6:12, 5:12].T):
                        before, outside = out.copy(), whole_out.sum() - out.sum()
                        accumulate_product(a, b, out, 1.0)
                        np.testing.assert_allclose(out, before + a @ b, rtol=1e-4, atol=1e-4)
                        accumulate_product(a, b, out, 0.0)
                        np.testing.assert_allclose(out, a @ b, rtol=1e-4, atol=1e-4)
                        np.testing.assert_allclose(whole_out.sum() - out.sum(), outside, rtol=1e-3, atol=1e-3)

    def test_what_can_be_multiplied_in_place(self) -> None:
        x = np.zeros((6, 8), np.float32)
        for view in (
            x,
            x.T,
            x[1:4, 2:5],
            x[1:4, 2:5].T,
            x[:1],
            x[:, :1],
            x[:, 3:4],
            x[::2],
            x[:, ::2].T[:0],
            x[2:3, ::3],
        ):
            assert can_multiply_in_place(view)
        for view in (
            x[::2, ::2],
            x[::-1],
            x[:, ::-1],
            x[:, ::2],
            np.broadcast_to(x[0], (3, 8)),
            x.astype(">f4"),
            x.view("i4"),
        ):
            assert not can_multiply_in_place(view)
        unaligned = np.zeros(4 * 6 + 1, np.uint8)[1:].view(np.float32).reshape(2, 3)
        assert not can_multiply_in_place(unaligned)

    def test_what_lies_in_memory_is_multiplied_where_it_lies(self) -> None:
        A, B, bias = drawn(30, 20, 10)
        out = np.empty((20, 30), np.float32).T
        plan = fcnn.plan_chunked_matmul(A, B, out, memory_limit="1 MB", rates=RATES, backend="numpy")
        assert plan.cut.buffers == (0, 0, 0)
        assert plan.n_products == 1
        assert plan.memory_used == plan.minimum < 1000
        fcnn.chunked_matmul(A, B, out, bias=bias, memory_limit="1 MB", rates=RATES, backend="numpy")
        assert_near(out, expected(A, B, bias))

    def test_subtypes_and_shared_operands(self, tmp_path: Path) -> None:
        A, _, _ = drawn(12, 12, 12)
        np.save(tmp_path / "A.npy", A)
        mapped = np.load(tmp_path / "A.npy", mmap_mode="r")
        found = fcnn.chunked_matmul(mapped, mapped.T, memory_limit=2000, rates=RATES, backend="numpy")
        assert_near(found, expected(A, A.T, None))

    def test_a_private_map_is_read_as_it_is_in_memory(self, tmp_path: Path) -> None:
        A, B, _ = drawn(6, 5, 4)
        np.save(tmp_path / "A.npy", np.zeros_like(A))
        private = np.load(tmp_path / "A.npy", mmap_mode="c")
        private[...] = A
        found = fcnn.chunked_matmul(private, B, memory_limit=2000, rates=RATES, backend="numpy")
        assert_near(found, expected(A, B, None))


class TestMistakes:
    """Each is found before out is touched."""

    def refused(self, kind: type[Exception], match: str, *arguments: Any, **options: Any) -> None:
        out = arguments[2] if len(arguments) > 2 else None
        before = np.array(out) if isinstance(out, np.ndarray) else None
        options = {"memory_limit": "1 MB", "rates": RATES, "backend": "numpy", **options}
        for function in (fcnn.chunked_matmul, fcnn.plan_chunked_matmul):
            with pytest.raises(kind, match=match):
                function(*arguments, **options)
        if before is not None:
            np.testing.assert_array_equal(out, before)

    def test_shapes(self) -> None:
        A, B = np.ones((4, 3), np.float32), np.ones((3, 5), np.float32)
        self.refused(
            ValueError, r"A \(m, k\) and B \(k, n\), got \(4, 3\) and \(5, 3\)\. Is one of them transposed", A, B.T
        )
        self.refused(ValueError, r"chunked_matmul\(A\) expects a matrix, got shape \(3,\)", A[0], B)
        self.refused(ValueError, r"out\) expects shape \(4, 5\), got \(5, 4\)", A, B, np.zeros((5, 4), np.float32))
        self.refused(ValueError, r"bias\) expects shape \(4,\) or \(4, 1\)", A, B, bias=np.ones(5, np.float32))
        self.refused(ValueError, r"bias\) expects shape", A, B, bias=np.ones((1, 4), np.float32))

    def test_dtypes(self) -> None:
        A, B = np.ones((4, 3), np.float32), np.ones((3, 5), np.float32)
        self.refused(TypeError, "one dtype, got float32 and float64", A, B.astype(np.float64))
        self.refused(TypeError, "float32, float64 on the CPU, got int64", A.astype(int), B.astype(int))
        self.refused(TypeError, "float32, float64 on the CPU, got float16", A.astype("f2"), B.astype("f2"))
        self.refused(TypeError, "byte order of another machine", A.astype(">f4"), B.astype(">f4"))
        self.refused(TypeError, r"out\) expects float32, got float64", A, B, np.zeros((4, 5)))
        self.refused(TypeError, r"bias\) expects real numbers", A, B, bias=np.array(["a"] * 4))
        self.refused(TypeError, r"chunked_matmul\(B\) expects a NumPy array.*got list", A, B.tolist())
        self.refused(TypeError, r"out\) expects a NumPy array.*got list", A, B, [[0.0]])

    def test_a_read_only_result(self, tmp_path: Path) -> None:
        A, B = np.ones((4, 3), np.float32), np.ones((3, 5), np.float32)
        np.save(tmp_path / "out.npy", np.zeros((4, 5), np.float32))
        self.refused(ValueError, "cannot be written to", A, B, np.load(tmp_path / "out.npy", mmap_mode="r"))
        shared = np.lib.stride_tricks.as_strided(np.zeros(5, np.float32), (4, 5), (0, 4))
        self.refused(ValueError, "elements that share memory", A, B, shared)

    def test_overlap(self, tmp_path: Path) -> None:
        x = np.ones((8, 8), np.float32)
        self.refused(ValueError, "out overlaps A, which is still read", x, np.ones_like(x), x)
        self.refused(ValueError, "out overlaps B", np.ones_like(x), x, x.T)
        np.save(tmp_path / "x.npy", x)
        maps = [np.load(tmp_path / "x.npy", mmap_mode="r+") for _ in range(2)]
        self.refused(ValueError, r"out overlaps A \(.*x\.npy\)", maps[0], np.ones_like(x), maps[1])
        self.refused(ValueError, r"out overlaps A", maps[0][:4, :4], x[:4, :4], maps[0][2:6, 2:6])

    @pytest.mark.parametrize("order", ["C", "F"])
    def test_a_private_map_of_the_file_that_is_written(self, order: str, tmp_path: Path) -> None:
        path = tmp_path / "x.npy"
        np.save(path, np.ones((8, 8)))
        private, shared = np.load(path, mmap_mode="c"), np.load(path, mmap_mode="r+")
        out = shared if order == "C" else shared.T
        self.refused(ValueError, "out overlaps A", private, np.ones((8, 8)), out)
        self.refused(ValueError, "out overlaps B", np.ones((4, 8)), private[:, 4:], out[:4, 4:])
        np.testing.assert_array_equal(np.load(path), 1)
        fcnn.chunked_matmul(shared, np.ones((8, 8)), private, backend="numpy")  # the file stays as it is
        np.testing.assert_array_equal(private, 8)
        np.testing.assert_array_equal(np.load(path), 1)

    def test_halves_of_one_matrix_do_not_overlap(self, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", np.ones((8, 8), np.float32))
        mapped = np.load(tmp_path / "x.npy", mmap_mode="r+")
        for x in (np.ones((8, 8), np.float32), mapped):
            fcnn.chunked_matmul(x[:, :4], x[:4, :4], x[:, 4:], memory_limit="1 MB", rates=RATES, backend="numpy")
            np.testing.assert_array_equal(x[:, 4:], 4.0)
            np.testing.assert_array_equal(x[:, :4], 1.0)

    def test_options(self, tmp_path: Path) -> None:
        A, B = np.ones((4, 3), np.float32), np.ones((3, 5), np.float32)
        out = np.zeros((4, 5), np.float32)
        self.refused(ValueError, "Did you mean 'relu'", A, B, out, activation="rleu")
        self.refused(ValueError, "element by element, got Softmax", A, B, out, activation="softmax")
        self.refused(TypeError, r"rates\) expects fcnn\.Rates", A, B, out, rates=1e9)
        self.refused(ValueError, "bytes or text", A, B, out, memory_limit="much")
        with pytest.raises(TypeError, match="return_report"):
            fcnn.chunked_matmul(A, B, return_report=1)  # type: ignore[call-overload]
        path = tmp_path / "out.npy"
        path.touch()
        self.refused(FileExistsError, "exists. Name another file", A, B, path)
        self.refused(FileNotFoundError, "there is no folder", A, B, tmp_path / "no" / "out.npy")
        self.refused(OSError, r"chunked_matmul\(A\): .*absent\.npy cannot be read", tmp_path / "absent.npy", B)
        (tmp_path / "text.npy").write_text("hello")
        self.refused(ValueError, "is no .npy file", tmp_path / "text.npy", B)

    def test_too_small_a_budget(self, tmp_path: Path) -> None:
        np.save(tmp_path / "A.npy", np.ones((40, 30), np.float32))
        A, B, out = (
            np.load(tmp_path / "A.npy", mmap_mode="r"),
            np.ones((30, 20), np.float32),
            np.zeros((40, 20), np.float32),
        )
        with pytest.raises(ValueError, match=r"too little") as refusal:
            fcnn.chunked_matmul(A, B, out, memory_limit=10, rates=RATES, backend="numpy")
        least = int(str(refusal.value).split("memory_limit=")[2].split(",")[0])
        self.refused(ValueError, f"memory_limit={least}", A, B, out, memory_limit=least - 1)
        fcnn.chunked_matmul(A, B, out, memory_limit=least, rates=RATES, backend="numpy")
        np.testing.assert_array_equal(out, 30.0)

    def test_arrays_of_a_device_on_the_cpu(self) -> None:
        class OnCuda:
            __cuda_array_interface__ = {"version": 3}  # noqa: RUF012

        self.refused(
            TypeError, "computes on the CPU, and a tests.OnCuda lies on a CUDA device", OnCuda(), np.ones((2, 2))
        )

    def test_overlap_on_a_device_is_found(self) -> None:
        ops = emulated_ops()
        x = ops.zeros((8, 8), np.float32)
        with pytest.raises(ValueError, match="out overlaps A"):
            fcnn.chunked_matmul(x, np.ones((8, 8), np.float32), x, memory_limit="1 MB", rates=RATES, backend=ops)
