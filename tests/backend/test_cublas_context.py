"""Handles and workspaces: one for each thread and stream, one for graphs, none allocated while one is recorded."""

from __future__ import annotations

import gc
import threading
from typing import Any

import numpy as np
import pytest

from fcnn_gpu.backend._cublas import CublasError, CublasLibrary, CublasProducts
from fcnn_gpu.backend._cublas._context import Contexts

from ..cublas_on_cpu import NumpyHost, cublas_on_cpu
from ..cuda_on_cpu import missing_compiler

pytestmark = pytest.mark.skipif(missing_compiler() is not None, reason=str(missing_compiler()))


class Watched:
    """A library that notes the calls it passes on."""

    def __init__(self, library: CublasLibrary) -> None:
        self.library = library
        self.calls: list[str] = []

    def call(self, name: str, *arguments: Any) -> None:
        self.calls.append(name)
        self.library.call(name, *arguments)

    def make(self, name: str, *arguments: Any) -> int:
        self.calls.append(name)
        return self.library.make(name, *arguments)


def contexts(host: NumpyHost) -> tuple[Contexts, Watched]:
    library: Any = Watched(cublas_on_cpu())
    return Contexts(library, host), library


def test_a_handle_is_made_once_and_given_stream_and_workspace_only_when_they_change() -> None:
    host = NumpyHost([5])
    found, library = contexts(host)
    context, stream, workspace = found.bind()
    assert stream == 5
    assert library.calls == [
        "cublasCreate_v2",
        "cublasLtCreate",
        "cublasSetPointerMode_v2",
        "cublasSetMathMode",
        "cublasSetStream_v2",
        "cublasSetWorkspace_v2",
    ]
    library.calls.clear()
    assert found.bind() == (context, 5, workspace)
    assert library.calls == []
    host.stream[0] = 6
    _, stream, other = found.bind()
    assert (stream, library.calls) == (6, ["cublasSetStream_v2", "cublasSetWorkspace_v2"])
    assert other is not workspace
    host.stream[0] = 5
    assert found.bind()[2] is workspace


def test_recorded_calls_have_a_workspace_of_their_own_that_exists_already() -> None:
    host = NumpyHost()
    found, _ = contexts(host)
    _, _, eager = found.bind()
    n_allocated = len(host.allocated)
    host.recording, host.stream[0] = True, 99
    _, stream, recorded = found.bind()
    assert (stream, len(host.allocated)) == (99, n_allocated)
    assert recorded is not eager
    host.recording, host.stream[0] = False, 0
    assert found.bind()[2] is eager


def test_a_thread_that_records_before_it_has_computed_is_told_so() -> None:
    host = NumpyHost()
    host.recording = True
    found, _ = contexts(host)
    with pytest.raises(RuntimeError, match="allocated while a graph was being recorded"):
        found.bind()


def test_many_streams_do_not_pile_up_workspaces() -> None:
    host = NumpyHost()
    found, _ = contexts(host)
    for host.stream[0] in range(20):
        context, _, _ = found.bind()
    assert sorted(context.by_stream) == [16, 17, 18, 19]


def test_no_stream_of_a_workspace_is_destroyed_and_none_that_the_handle_names() -> None:
    """A new stream may get the address of one that is destroyed while its work goes on: in the same workspace."""
    host = NumpyHost()
    found, library = contexts(host)
    alive: list[list[int]] = []
    call = library.call

    def watching(name: str, *arguments: Any) -> None:
        if name == "cublasSetStream_v2":  # the handle still names the stream before this one
            alive.append(sorted(host.streams))
        call(name, *arguments)

    library.call = watching  # type: ignore[method-assign]
    used = [1, 2, 3, 4, 1, 5]
    for host.stream[0] in used:
        found.bind()
    assert all(before in held for before, held in zip(used, alive[1:], strict=False))
    assert sorted(host.streams) == [2, 3, 4, 5]


@pytest.mark.parametrize(("capability", "mib"), [(75, 4), (89, 4), (90, 32), (120, 32)])
def test_workspaces_are_of_the_size_that_nvidia_recommends(capability: int, mib: int) -> None:
    host = NumpyHost(compute_capability=capability)
    found, _ = contexts(host)
    found.bind()
    assert set(host.allocated) == {mib * 2**20}
    assert found.workspace_bytes == mib * 2**20


def test_threads_have_a_context_each_and_hand_it_on_when_they_end() -> None:
    found, library = contexts(NumpyHost())
    seen: list[int] = []
    both = threading.Barrier(2)

    def work(meet: bool) -> None:
        context, _, _ = found.bind()
        seen.append(context.blas)
        if meet:
            both.wait()

    first, second = (threading.Thread(target=work, args=(True,)) for _ in range(2))
    first.start()
    second.start()
    first.join()
    second.join()
    assert len(set(seen)) == 2
    gc.collect()
    third = threading.Thread(target=work, args=(False,))
    third.start()
    third.join()
    assert seen[2] in seen[:2]
    assert library.calls.count("cublasCreate_v2") == 2
    assert "cublasDestroy_v2" not in library.calls


def test_a_failure_while_switching_streams_is_not_taken_for_a_switch() -> None:
    host = NumpyHost()
    found, library = contexts(host)
    context, _, _ = found.bind()
    right, context.blas = context.blas, 0  # a handle that the library does not know
    host.stream[0] = 1
    with pytest.raises(CublasError, match="cublasSetStream_v2: CUBLAS_STATUS_NOT_INITIALIZED"):
        found.bind()
    context.blas = right
    library.calls.clear()
    found.bind()
    assert library.calls == ["cublasSetStream_v2", "cublasSetWorkspace_v2"]


def test_a_thread_multiplies_on_many_streams() -> None:
    host = NumpyHost()
    products = CublasProducts(cublas_on_cpu(), host)
    A, B, out = np.full((2, 3), 2.0), np.full((3, 2), 0.5), np.empty((2, 2))
    for host.stream[0] in (0, 1, 2, 0):
        products.gemm(A, B, out)
        np.testing.assert_array_equal(out, np.full((2, 2), 3.0))
        out.fill(np.nan)
