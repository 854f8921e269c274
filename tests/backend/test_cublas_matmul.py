"""Products with an epilogue through cuBLASLt's interface: bias, activation, Z kept, sums for a bias gradient."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._cublas import CublasError, CublasLibrary, CublasProducts, Status
from fcnn_gpu.backend._cublas import _products as _products_module
from fcnn_gpu.backend._cublas._lt import alignment

from ..cublas_on_cpu import NumpyHost, cublas_on_cpu
from ..cuda_on_cpu import missing_compiler
from .test_gemm import DTYPES, LAYOUTS, assert_rounded, laid_out, reference

pytestmark = pytest.mark.skipif(missing_compiler() is not None, reason=str(missing_compiler()))


@pytest.fixture(name="products")
def _products() -> CublasProducts:
    return CublasProducts(cublas_on_cpu(), NumpyHost())


def gelu_tanh(z: HostArray) -> HostArray:
    return 0.5 * z * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))


ACTIVATIONS: dict[str, Any] = {"identity": lambda z: z, "relu": lambda z: np.maximum(z, 0), "gelu_tanh": gelu_tanh}


@given(
    m=st.integers(1, 9),
    k=st.integers(1, 7),
    n=st.integers(1, 7),
    layouts=st.lists(st.sampled_from(LAYOUTS), min_size=2, max_size=2),
    out_layout=st.sampled_from([layout for layout in LAYOUTS if layout.startswith("F")]),
    dtypes=st.sampled_from(DTYPES),
    activation=st.sampled_from(list(ACTIVATIONS)),
    with_bias=st.booleans(),
    choice=st.integers(0, 1),
)
@settings(deadline=None, max_examples=300)
def test_any_product_with_bias_and_activation(
    m: int,
    k: int,
    n: int,
    layouts: list[str],
    out_layout: str,
    dtypes: tuple[Any, Any],
    activation: str,
    with_bias: bool,
    choice: int,
) -> None:
    rng = np.random.default_rng(m + 10 * k + 100 * n)
    dtype, out_dtype = dtypes
    A, B = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
    bias = rng.normal(size=(m, 1)).astype(out_dtype) if with_bias else None
    out = laid_out(np.full((m, n), np.nan, out_dtype), out_layout)
    Z = reference(A, B) + (0 if bias is None else bias.astype(np.float64))
    found = CublasProducts(cublas_on_cpu(), NumpyHost())
    found.matmul(laid_out(A, layouts[0]), laid_out(B, layouts[1]), out, bias=bias, activation=activation, choice=choice)
    assert_rounded(out, ACTIVATIONS[activation](Z))
    if out.base is not None:  # nothing beside a slice was written
        assert np.isnan(out.base).sum() == out.base.size - out.size


@pytest.mark.parametrize(("dtype", "out_dtype"), DTYPES)
@pytest.mark.parametrize("with_bias", [False, True])
def test_gelu_keeps_its_input(products: CublasProducts, with_bias: bool, dtype: Any, out_dtype: Any) -> None:
    rng = np.random.default_rng(0)
    for m, n in [(8, 3), (16, 1), (24, 7)]:
        A, B = rng.normal(size=(m, 5)).astype(dtype), rng.normal(size=(5, n)).astype(dtype)
        b = rng.normal(size=(m, 1)).astype(out_dtype) if with_bias else None
        Z, out = (np.full((m, n), np.nan, out_dtype, order="F") for _ in range(2))
        products.matmul(A, B, out, bias=b, activation="gelu_tanh", pre_activation=Z)
        expected = reference(A, B) + (0 if b is None else b.astype(np.float64))
        assert_rounded(Z, expected)
        assert_rounded(out, gelu_tanh(expected))


@given(
    m=st.integers(1, 9),
    k=st.integers(1, 7),
    n=st.integers(1, 7),
    layouts=st.lists(st.sampled_from(LAYOUTS), min_size=3, max_size=3),
    dtypes=st.sampled_from(DTYPES),
)
@settings(deadline=None, max_examples=200)
def test_sums_of_rows_come_with_the_product(
    m: int, k: int, n: int, layouts: list[str], dtypes: tuple[Any, Any]
) -> None:
    rng = np.random.default_rng(m + 10 * k + 100 * n)
    dtype, out_dtype = dtypes
    A, B = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
    out, sums = laid_out(np.full((m, n), np.nan, out_dtype), layouts[2]), np.full((m, 1), np.nan, out_dtype)
    found = CublasProducts(cublas_on_cpu(), NumpyHost())
    found.matmul(laid_out(A, layouts[0]), laid_out(B, layouts[1]), out, row_sums=sums)
    assert_rounded(out, reference(A, B))
    assert_rounded(sums, A.astype(np.float64).sum(axis=1, keepdims=True))


def test_a_problem_is_asked_about_once_and_serves_other_arrays(products: CublasProducts) -> None:
    rng = np.random.default_rng(0)
    memory = np.zeros(8 * 32 + 32)
    aligned = memory[-memory.ctypes.data % 256 // 8 :]
    biases, outs = [], []
    for i in range(0, 128, 64):  # all are aligned alike
        biases.append(aligned[i : i + 3])
        biases[-1][:] = rng.normal(size=3)
        outs.append(aligned[i + 32 : i + 38].reshape(2, 3).T)
    A, B = rng.normal(size=(3, 4)), rng.normal(size=(4, 2))
    for b, out in zip(biases, outs, strict=True):
        products.matmul(A, B, out, bias=b)
    for b, out in zip(biases, outs, strict=True):
        assert_rounded(out, A @ B + b[:, None])
    assert len(products._contexts.current().problems) == 1


def test_alignment_is_part_of_the_problem(products: CublasProducts) -> None:
    buffer = np.empty(4096, np.float32)
    first = -buffer.ctypes.data % 256 // 4
    A, B = np.ones((4, 4), np.float32), np.ones((4, 4), np.float32)
    for offset in (0, 1, 2, 4, 8):
        out = buffer[first + offset :][:16].reshape(4, 4, order="F")
        products.matmul(A, B, out)
        np.testing.assert_array_equal(out, np.full((4, 4), 4.0))
    found = {problem.alignments[2] for problem in products._contexts.current().problems}
    assert found == {4, 8, 16}
    assert [alignment(x) for x in (0, 1, 2, 24, 1024)] == [16, 1, 2, 8, 16]


def test_descriptors_are_freed(products: CublasProducts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_products_module, "_KEPT_PROBLEMS", 2)
    made: dict[str, int] = {}
    library = products._library
    call = library.call

    def count(name: str, *arguments: Any) -> None:
        call(name, *arguments)
        for suffix, step in (("Create", 1), ("Destroy", -1)):
            if name.endswith(suffix):
                made[name.removesuffix(suffix)] = made.get(name.removesuffix(suffix), 0) + step

    monkeypatch.setattr(library, "call", count)
    for n in range(1, 6):
        products.matmul(np.ones((2, 3)), np.ones((3, n)), np.ones((2, n)))
    per_problem = {"cublasLtMatmulDesc": 2, "cublasLtMatrixLayout": 6, "cublasLtMatmulPreference": 2}
    assert {name: n for name, n in made.items() if name in per_problem} == per_problem
    with pytest.raises(CublasError):
        refused(products, bias=np.ones(3, np.float32))  # which makes room for itself first
    assert made["cublasLtMatmulDesc"] == 1


def test_relu_of_nan_is_zero_as_in_the_library(products: CublasProducts) -> None:
    A, B, out = np.full((1, 1), np.nan), np.ones((1, 1)), np.ones((1, 1))
    products.matmul(A, B, out, activation="relu")
    assert out[0, 0] == 0.0


def refused(products: CublasProducts, **options: Any) -> None:
    A, B, out = np.ones((3, 4)), np.ones((4, 2)), np.ones((3, 2), order="F")
    products.matmul(A, B, options.pop("out", out), **options)


def test_a_bias_of_another_type_is_not_supported(products: CublasProducts) -> None:
    with pytest.raises(CublasError, match="cublasLtMatmulAlgoGetHeuristic: CUBLAS_STATUS_NOT_SUPPORTED") as caught:
        refused(products, bias=np.ones(3, np.float32))
    assert caught.value.unsupported


class Refusing:
    """A library whose heuristics answer with a status, as NVIDIA's of some versions do with INVALID_VALUE."""

    def __init__(self, library: CublasLibrary, status: int) -> None:
        self._library, self._status = library, status

    def __getattr__(self, name: str) -> Any:
        return getattr(self._library, name)

    def function(self, name: str) -> Any:
        if name == "cublasLtMatmulAlgoGetHeuristic":
            return lambda *arguments: self._status
        return self._library.function(name)


EPILOGUES: dict[str, dict[str, Any]] = {
    "plain": {},
    "relu": {"activation": "relu"},
    "bias": {"bias": np.ones(8, np.float32)},
    "sums": {"row_sums": np.ones(8, np.float32)},
    "16 bits": {},
}


@pytest.mark.parametrize("status", [Status.NOT_SUPPORTED, Status.INVALID_VALUE], ids=lambda status: status.name)
@pytest.mark.parametrize("problem", EPILOGUES)
def test_either_status_means_that_there_is_no_algorithm_but_for_plain_products(problem: str, status: Status) -> None:
    library: Any = Refusing(cublas_on_cpu(), status)
    dtype = np.float16 if problem == "16 bits" else np.float32
    A, B, out = np.ones((8, 4), dtype, "F"), np.ones((4, 8), dtype, "F"), np.zeros((8, 8), np.float32, "F")
    with pytest.raises(CublasError, match=f"cublasLtMatmulAlgoGetHeuristic: CUBLAS_STATUS_{status.name}") as caught:
        CublasProducts(library, NumpyHost()).matmul(A, B, out, **EPILOGUES[problem])
    is_ours = problem == "plain" and status == Status.INVALID_VALUE
    assert caught.value.unsupported is not is_ours
    assert ("please report" in str(caught.value)) is is_ours


def test_z_whose_rows_are_no_multiple_of_8_is_not_supported(products: CublasProducts) -> None:
    with pytest.raises(CublasError, match="multiple of 8 rows") as caught:
        refused(products, activation="gelu_tanh", pre_activation=np.ones((3, 2), order="F"))
    assert caught.value.unsupported


def test_epilogues_that_do_not_exist(products: CublasProducts) -> None:
    with pytest.raises(ValueError, match="no epilogue for activation='tanh' without bias"):
        refused(products, activation="tanh")
    with pytest.raises(ValueError, match="no epilogue for activation='relu' with bias, keeping Z"):
        refused(products, activation="relu", bias=np.ones(3), pre_activation=np.ones((3, 2), order="F"))
    with pytest.raises(ValueError, match="row_sums beside a plain product only"):
        refused(products, bias=np.ones(3), row_sums=np.ones(3))


def test_vectors_and_matrices_that_do_not_fit(products: CublasProducts) -> None:
    with pytest.raises(ValueError, match="bias of 3 contiguous elements, got shape"):
        refused(products, bias=np.ones(4))
    with pytest.raises(ValueError, match="row_sums of 3 contiguous elements"):
        refused(products, row_sums=np.ones(6)[::2])
    with pytest.raises(ValueError, match=r"where out is F-ordered, got a C-ordered out"):
        refused(products, bias=np.ones(3), out=np.ones((3, 2)))
    with pytest.raises(ValueError, match=r"pre_activation \(3, 2\) of float64, got \(2, 3\) of float64"):
        refused(products, activation="gelu_tanh", pre_activation=np.ones((2, 3)))
    with pytest.raises(CublasError, match=r"NOT_SUPPORTED\. Algorithm 3 of 2 was asked for"):
        refused(products, choice=2)
    with pytest.raises(ValueError, match="the caller writes an empty result"):
        products.matmul(np.ones((3, 0)), np.ones((0, 2)), np.ones((3, 2)))


def test_an_output_that_is_an_operand_is_refused(products: CublasProducts) -> None:
    A = np.ones((3, 3), order="F")
    with pytest.raises(CublasError, match="cublasLtMatmul: CUBLAS_STATUS_INVALID_VALUE"):
        products.matmul(A, np.ones((3, 3)), A)


def test_each_queue_has_a_library_of_its_own() -> None:
    """Tests that compute at once must not turn the queue of the emulated device off, whichever run first."""
    kept: list[Any] = []
    library = cublas_on_cpu(kept.append)
    products = CublasProducts(library, NumpyHost())
    A, B, out = (np.ones((2, 2), np.float32, order="F") for _ in range(3))
    out[...] = 0
    cublas_on_cpu()
    products.gemm(A, B, out)
    assert not out.any()
    kept.pop()()
    np.testing.assert_array_equal(out, 2)
