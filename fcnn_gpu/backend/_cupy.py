"""The primitives on a CUDA device: our kernels for everything that moves bytes, cuBLAS for matrix products.

`CupyOps` only decides which kernel runs with which sizes. What touches CuPy itself (memory, copies, the current
device) is `CupyRuntime`; what launches and checks is `_kernels.Launcher`; what multiplies is `_gemm.CublasGemm`. The
three have counterparts in the tests that work on NumPy arrays, so every line of `CupyOps` runs on any machine.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import numpy as np

from .._types import Array, DType, HostArray
from ._kernels import CudaDevice, Launcher
from ._ops import ELEMENTWISE, FlatParameters, Ops, Segment, StepControl
from ._ops._dropout import dropout_scale, dropout_threshold
from ._probe import failing_link, probe_links

_WARP = 32
_UNITS_PER_WARP = 1024
"""Samples of up to this many units are worked on by one warp each, wider ones by a whole block."""

_SAMPLES_PER_CHUNK = 64
_CHUNKS = 256
_PARAMETERS_PER_PART = 4096
_PARTS = 1024
"""Sums run over chunks of at least 64 samples, at most about 256 chunks, and parts of at least 4096 parameters, at most
about 1024 parts. The sizes depend on the data alone: a sum has the same bits on every device."""

_BLOCKS_WORTH_LARGE_TILES = 256

_ELEMENTS_PER_THREAD = 4
_SMALL = 2**18
"""From this many elements on a thread takes four, so that what it sets up (one remainder, one table row) pays."""

_ACTIVATION_NUMBER = {kind: number for number, kind in enumerate(ELEMENTWISE)}

Method = TypeVar("Method", bound=Callable[..., Any])


class Runtime(Protocol):
    """What `CupyOps` needs of the library that owns the device's memory."""

    xp: Any
    name: str

    def is_current(self) -> bool:
        """Whether calls of this thread go to the device."""

    def activate(self) -> Any:
        """A context in which they do."""

    def is_device_array(self, x: Any) -> bool:
        """Whether x lies in device memory, in this library's arrays or another's."""

    def to_device(self, x: Any) -> Array:
        """x in an array of the device, copied only if it is elsewhere; dtype and order are kept."""

    def to_host(self, x: Array) -> HostArray:
        """A copy of x on the host, in x's order."""

    def synchronize(self) -> None:
        """Wait until the device has done what it was given."""

    def describe(self) -> str:
        """Device, memory and library in one phrase."""


class CupyRuntime:
    """CuPy on one device."""

    def __init__(self, cupy: Any, device: int) -> None:
        self.xp = cupy
        self.name = f"cupy:{device}"
        self._number = device
        self._device = cupy.cuda.Device(device)
        self._current: Callable[[], int] = cupy.cuda.runtime.getDevice

    def is_current(self) -> bool:
        return self._current() == self._number

    def activate(self) -> Any:
        return self._device

    def is_device_array(self, x: Any) -> bool:
        return hasattr(x, "__cuda_array_interface__")

    def to_device(self, x: Any) -> Array:
        return self.xp.asarray(x)

    def to_host(self, x: Array) -> HostArray:
        return self.xp.asnumpy(x, order="A")

    def synchronize(self) -> None:
        self._device.synchronize()

    def describe(self) -> str:
        properties = self.xp.cuda.runtime.getDeviceProperties(self._number)
        gib = properties["totalGlobalMem"] / 2**30
        return f"{properties['name'].decode()} (device {self._number}, {gib:.0f} GiB, CuPy {self.xp.__version__})"


def _on_device(method: Method) -> Method:
    """`method`, run while the ops' own device is the current one: threads and other models may have switched it."""

    @functools.wraps(method)
    def call(self: CupyOps, *args: Any, **kwargs: Any) -> Any:
        if self._runtime.is_current():
            return method(self, *args, **kwargs)
        with self._runtime.activate():
            return method(self, *args, **kwargs)

    return call  # type: ignore[return-value]


class CupyOps(Ops):
    """All primitives on one CUDA device. `make_cupy_ops` makes one after probing the device.

    Args:
        runtime: the device's memory.
        launcher: launches kernels on it.
        gemm: gemm(A, B, out, accumulate) on it.
    """

    def __init__(self, runtime: Runtime, launcher: Launcher, gemm: Callable[[Array, Array, Array, bool], None]) -> None:
        super().__init__()
        self.name = runtime.name
        self.xp = runtime.xp
        self._runtime = runtime
        self._launcher = launcher
        self._gemm = gemm
        self._segment_table = functools.lru_cache(maxsize=128)(self._make_segment_table)

    def describe(self) -> str:
        return self._runtime.describe()

    # Arrays

    def asarray(self, x: Any, dtype: Any = None) -> Array:
        """`x` on this device, C-ordered; x is a host array, a sequence, or an array of any CUDA library."""
        if self._runtime.is_device_array(x):
            x = self._runtime.to_device(x)
            return self.xp.ascontiguousarray(x, dtype)
        return self._runtime.to_device(np.ascontiguousarray(x, dtype))

    def to_numpy(self, x: Array) -> HostArray:
        """`x` on the host: a copy if it was on the device, in the same order."""
        return self._runtime.to_host(x) if self._runtime.is_device_array(x) else np.asarray(x)

    def assign(self, out: Array, x: Any) -> None:
        if self._runtime.is_device_array(x):
            x = self._runtime.to_device(x)
        elif np.ndim(x):
            x = self._runtime.to_device(np.asarray(x, out.dtype))
        out[...] = x

    def advance(self, counter: Array, by: int) -> None:
        self._launcher.launch("check_finite", "advance", (), [by, counter], threads=1)

    # Execution

    def synchronize(self) -> None:
        self._runtime.synchronize()

    def capture(self, fn: Callable[[], None]) -> Callable[[], None]:
        """`fn` itself: in this version every launch is made anew.

        CuPy's cuBLAS handle refuses to be captured into a CUDA graph; a replay needs a handle of our own.
        """
        return fn

    # Matrix products and sums

    def gemm(self, A: Array, B: Array, out: Array, accumulate: bool = False) -> None:
        self._gemm(A, B, out, accumulate)

    def tiled_matmul(
        self,
        A: Array,
        B: Array,
        out: Array,
        bias: Array | None = None,
        kind: str = "identity",
        alpha: float = 0.0,
        accumulate: bool = False,
        last: bool = True,
    ) -> None:
        (m, k), n = A.shape, B.shape[1]
        tile = _tile(m, n, out.dtype)
        item = out.dtype.itemsize
        lda = A.strides[0] // item if m > 1 else max(1, k)
        ldb = B.strides[1] // item if n > 1 else max(1, k)
        ldc = out.strides[1] // item if n > 1 else max(1, m)
        self._launcher.launch(
            "matmul",
            "matmul",
            (A.dtype, out.dtype, tile, "C_ORDER", "F_ORDER"),
            [
                *(m, n, k, lda, ldb, ldc),
                _ACTIVATION_NUMBER[kind if last else "identity"],
                alpha,
                A,
                B,
                out if accumulate else None,
                bias if last else None,
                out,
            ],
            blocks=-(-m // tile) * -(-n // tile),
        )

    def row_sum(self, X: Array, out: Array) -> None:
        n, batch = X.shape
        chunk, n_chunks = _chunks(batch)
        partial = out if n_chunks == 1 else self._partial("partial", out, n_chunks)
        self._launcher.launch(
            "row_sum",
            "row_sum",
            (X.dtype, partial.dtype),
            [n, batch, chunk, n_chunks, X, partial],
            blocks=_unit_tiles(n, n_chunks),
        )
        self._sum_chunks(partial, n_chunks, out)

    # Activations

    def bias_activation(self, Z: Array, b: Array | None, kind: str, alpha: float, out: Array) -> None:
        n, batch = Z.shape
        if kind == "identity" and b is None and out is Z:
            return
        self._launcher.launch(
            "bias_activation",
            "bias_activation",
            (Z.dtype, kind.upper()),
            [n, batch, alpha, b, Z, out],
            threads=_threads(Z.size),
        )

    def activation_backward(
        self, dA: Array, saved: Array, kind: str, alpha: float, dZ: Array, db: Array | None = None
    ) -> None:
        n, batch = dA.shape
        template = (dA.dtype, kind.upper())
        if kind == "identity" and dZ is dA:
            if db is not None:
                self.row_sum(dZ, db)
        elif db is None:
            self._launcher.launch(
                "activation_backward",
                "activation_backward",
                template,
                [n, batch, alpha, dA, saved, dZ],
                threads=_threads(dA.size),
            )
        else:
            chunk, n_chunks = _chunks(batch)
            partial = self._partial("partial", db, n_chunks)
            self._launcher.launch(
                "activation_backward",
                "activation_backward_bias",
                template,
                [n, batch, chunk, n_chunks, alpha, dA, saved, dZ, partial],
                blocks=_unit_tiles(n, n_chunks),
            )
            self._sum_chunks(partial, n_chunks, db)

    def softmax(self, Z: Array, out: Array) -> None:
        self._per_sample("softmax", "softmax_forward", (Z.dtype,), Z, [Z, out])

    def softmax_backward(self, dA: Array, A: Array, dZ: Array) -> None:
        self._per_sample("softmax", "softmax_backward", (dA.dtype,), dA, [dA, A, dZ])

    # Dropout

    def dropout_forward(self, A: Array, p: float, key: tuple[int, int], step: Array, mask: Array, out: Array) -> None:
        self._launcher.launch(
            "dropout",
            "dropout_forward",
            (A.dtype,),
            [A.size, key[0], key[1], dropout_threshold(p), dropout_scale(p), step, A, out, mask],
            threads=-(-A.size // 16),
        )

    def dropout_backward(self, dA: Array, p: float, mask: Array, out: Array) -> None:
        self._launcher.launch(
            "dropout",
            "dropout_backward",
            (dA.dtype,),
            [dA.size, dropout_scale(p), dA, mask, out],
            threads=_threads(dA.size),
        )

    # Normalization

    def batch_norm_forward(
        self,
        X: Array,
        gamma: Array,
        beta: Array,
        eps: float,
        momentum: float,
        running_mean: Array,
        running_var: Array,
        x_hat: Array,
        inv_std: Array,
        out: Array,
    ) -> None:
        n, batch = X.shape
        chunk, n_chunks = _chunks(batch)
        chunk_mean = self.scratch("chunk_mean", n * n_chunks, X.dtype)
        chunk_square = self.scratch("chunk_square", n * n_chunks, X.dtype)
        mean = self.scratch("mean", n, X.dtype)
        self._launcher.launch(
            "batch_norm",
            "batch_norm_chunks",
            (X.dtype,),
            [n, batch, chunk, n_chunks, X, chunk_mean, chunk_square],
            blocks=_unit_tiles(n, n_chunks),
        )
        self._launcher.launch(
            "batch_norm",
            "batch_norm_statistics",
            (X.dtype,),
            [
                n,
                batch,
                chunk,
                n_chunks,
                eps,
                momentum,
                chunk_mean,
                chunk_square,
                mean,
                inv_std,
                running_mean,
                running_var,
            ],
            threads=n,
        )
        self._launcher.launch(
            "batch_norm",
            "batch_norm_normalize",
            (X.dtype,),
            [n, batch, X, gamma, beta, mean, inv_std, x_hat, out],
            threads=_threads(X.size),
        )

    def batch_norm_inference(
        self,
        X: Array,
        gamma: Array,
        beta: Array,
        eps: float,
        running_mean: Array,
        running_var: Array,
        out: Array,
    ) -> None:
        n, batch = X.shape
        self._launcher.launch(
            "batch_norm",
            "batch_norm_inference",
            (X.dtype,),
            [n, batch, eps, X, gamma, beta, running_mean, running_var, out],
            threads=_threads(X.size),
        )

    def batch_norm_backward(
        self, dY: Array, gamma: Array, x_hat: Array, inv_std: Array, dgamma: Array, dbeta: Array, dX: Array
    ) -> None:
        n, batch = dY.shape
        self._affine_gradient(dY, x_hat, dgamma, dbeta)
        self._launcher.launch(
            "batch_norm",
            "batch_norm_backward",
            (dY.dtype,),
            [n, batch, dY, gamma, x_hat, inv_std, dgamma, dbeta, dX],
            threads=_threads(dY.size),
        )

    def layer_norm_forward(
        self, X: Array, gamma: Array, beta: Array, eps: float, x_hat: Array, inv_std: Array, out: Array
    ) -> None:
        arguments = [X, gamma, beta, x_hat, inv_std, out]
        self._per_sample("layer_norm", "layer_norm_forward", (X.dtype,), X, arguments, scalars=[eps])

    def layer_norm_backward(
        self, dY: Array, gamma: Array, x_hat: Array, inv_std: Array, dgamma: Array, dbeta: Array, dX: Array
    ) -> None:
        self._affine_gradient(dY, x_hat, dgamma, dbeta)  # before dX, which may be dY
        self._per_sample("layer_norm", "layer_norm_backward", (dY.dtype,), dY, [dY, gamma, x_hat, inv_std, dX])

    # Losses

    def softmax_cross_entropy(
        self,
        Z: Array,
        targets: Array,
        class_weight: Array | None,
        sample_weight: Array | None,
        label_smoothing: float,
        losses: Array,
        dZ: Array,
    ) -> None:
        labels, matrix = (targets, None) if targets.ndim == 1 else (None, targets)
        arguments = [Z, labels, matrix, class_weight, sample_weight, losses, dZ]
        stem = "softmax_cross_entropy"
        self._per_sample(stem, stem, (Z.dtype,), Z, arguments, scalars=[label_smoothing])

    def elementwise_loss(
        self,
        Z: Array,
        Y: Array,
        kind: str,
        delta: float,
        sample_weight: Array | None,
        losses: Array,
        dZ: Array,
    ) -> None:
        arguments = [Z, Y, sample_weight, losses, dZ]
        stem = "elementwise_loss"
        self._per_sample(stem, stem, (Z.dtype, kind.upper()), Z, arguments, scalars=[delta])

    def accumulate_sum(self, x: Array, total: Array) -> None:
        self._launcher.launch("check_finite", "accumulate_sum", (x.dtype,), [x.size, x, total], blocks=1)

    # Penalties, clipping and the health of a step

    def penalty(self, flat: FlatParameters, total: Array) -> None:
        n, part, n_parts, partial = self._parts(flat)
        dtype = flat.values.dtype
        self._launcher.launch(
            "penalty",
            "penalty_parts",
            (dtype,),
            [n, part, n_parts, *self._segments(flat), flat.values, partial],
            blocks=n_parts,
        )
        self._launcher.launch("penalty", "penalty_total", (dtype,), [n_parts, partial, total], blocks=1)

    def penalized_gradient(self, flat: FlatParameters, out: Array) -> None:
        self._launcher.launch(
            "penalty",
            "penalized_gradient",
            (flat.values.dtype,),
            [flat.values.size, *self._segments(flat), flat.values, flat.gradients, out],
            threads=_threads(flat.values.size),
        )

    def gradient_clip(self, flat: FlatParameters, control: StepControl) -> None:
        if control.max_norm is None:
            return
        n_parts, partial = self._squares(flat, penalized=flat.penalized)
        self._launcher.launch(
            "gradient_clip",
            "clip_scale",
            (partial.dtype,),
            [n_parts, control.max_norm, partial, control.clip_scale],
            blocks=1,
        )

    def check_finite(self, losses: Array, flat: FlatParameters, control: StepControl) -> None:
        n_parts, partial = self._squares(flat, penalized=False)
        self._launcher.launch(
            "check_finite",
            "check_finite",
            (partial.dtype,),
            [losses.size, n_parts, losses, partial, control.step, control.failed_step],
            blocks=1,
        )

    def finish_step(self, control: StepControl) -> None:
        arguments = [control.failed_step, control.step]
        self._launcher.launch("check_finite", "finish_step", (), arguments, threads=1)

    # Optimizers

    def sgd_update(
        self,
        flat: FlatParameters,
        control: StepControl,
        momentum: float,
        nesterov: bool,
        velocity: Array | None,
    ) -> None:
        self._update("sgd", flat, control, [momentum, nesterov], [velocity], counts_steps=False)

    def adam_update(
        self,
        flat: FlatParameters,
        control: StepControl,
        beta1: float,
        beta2: float,
        eps: float,
        weight_decay: float,
        m: Array,
        v: Array,
    ) -> None:
        scalars = [beta1, beta2, _log(beta1), _log(beta2), eps, weight_decay]
        self._update("adam", flat, control, scalars, [m, v], counts_steps=True)

    def rmsprop_update(
        self,
        flat: FlatParameters,
        control: StepControl,
        rho: float,
        eps: float,
        momentum: float,
        v: Array,
        velocity: Array | None,
    ) -> None:
        self._update("rmsprop", flat, control, [rho, eps, momentum], [v, velocity], counts_steps=False)

    def adagrad_update(self, flat: FlatParameters, control: StepControl, lr_decay: float, eps: float, s: Array) -> None:
        self._update("adagrad", flat, control, [lr_decay, eps], [s], counts_steps=True)

    # Batches

    def gather_rows(
        self, X: Array, order: Array, cursor: Array, out: Array, scale: float = 1.0, shift: float = 0.0
    ) -> None:
        n_samples, batch = X.shape[0], out.shape[0]
        n_columns = math.prod(X.shape[1:])
        arrays = [X.reshape(n_samples, n_columns), order, cursor, out.reshape(batch, n_columns)]
        sizes: list[Any] = [n_samples, n_columns, order.size, batch]
        if X.dtype == out.dtype and scale == 1.0 and shift == 0.0:
            self._launcher.launch("gather", "gather_rows", (X.dtype,), [*sizes, *arrays], threads=out.size)
        else:
            arguments = [*sizes, scale, shift, *arrays]
            template = (X.dtype, out.dtype)
            self._launcher.launch("gather", "gather_rows_scaled", template, arguments, threads=out.size)

    def store_rows(self, rows: Array, cursor: Array, out: Array) -> None:
        batch, n_samples = rows.shape[0], out.shape[0]
        n_columns = math.prod(out.shape[1:])
        self._launcher.launch(
            "store_rows",
            "store_rows",
            (rows.dtype, out.dtype),
            [
                batch,
                n_columns,
                n_samples,
                cursor,
                rows.reshape(batch, n_columns),
                out.reshape(n_samples, n_columns),
            ],
            threads=_threads(rows.size),
        )

    # What several of them share

    def _per_sample(
        self,
        stem: str,
        kernel: str,
        template: tuple[Any, ...],
        Z: Array,
        arrays: list[Array | None],
        scalars: list[float] | None = None,
    ) -> None:
        """Launch a kernel that gives each sample (column of Z) a warp or, where it is wide, a block."""
        n, batch = Z.shape
        arguments = [n, batch, *(scalars or []), *arrays]
        if n <= _UNITS_PER_WARP:
            group = "WARP_PER_SAMPLE"
            self._launcher.launch(stem, kernel, (*template, group), arguments, threads=batch * _WARP)
        else:
            self._launcher.launch(stem, kernel, (*template, "BLOCK_PER_SAMPLE"), arguments, blocks=batch)

    def _partial(self, tag: str, out: Array, n_chunks: int) -> Array:
        """Where the chunks' sums of `out` go: out itself where there is one chunk and nothing to round."""
        if n_chunks == 1 and _accumulator(out.dtype) == out.dtype:
            return out
        return self.scratch(tag, out.size * n_chunks, _accumulator(out.dtype))

    def _sum_chunks(self, partial: Array, n_chunks: int, out: Array) -> None:
        if partial is not out:
            self._launcher.launch(
                "sum_chunks", "sum_chunks", (out.dtype,), [out.size, n_chunks, partial, out], threads=out.size
            )

    def _affine_gradient(self, dY: Array, x_hat: Array, dgamma: Array, dbeta: Array) -> None:
        """dγ = Σ_j dY ⊙ x̂ and dβ = Σ_j dY, over the samples."""
        n, batch = dY.shape
        chunk, n_chunks = _chunks(batch)
        partial_dgamma = self._partial("partial", dgamma, n_chunks)
        partial_dbeta = self._partial("partial2", dbeta, n_chunks)
        self._launcher.launch(
            "affine_gradient",
            "affine_gradient",
            (dY.dtype,),
            [n, batch, chunk, n_chunks, dY, x_hat, partial_dgamma, partial_dbeta],
            blocks=_unit_tiles(n, n_chunks),
        )
        self._sum_chunks(partial_dgamma, n_chunks, dgamma)
        self._sum_chunks(partial_dbeta, n_chunks, dbeta)

    def _segments(self, flat: FlatParameters) -> list[Any]:
        return [len(flat.segments), self._segment_table(flat.segments)]

    def _make_segment_table(self, segments: tuple[Segment, ...]) -> Array:
        """The rows that flat_parameters.cuh describes: stop, λ₁, λ₂, decays."""
        rows = [(float(s.stop), s.l1, s.l2, float(s.decays)) for s in segments]
        return self._runtime.to_device(np.array(rows, np.float64).reshape(-1, 4))

    def _parts(self, flat: FlatParameters) -> tuple[int, int, int, Array]:
        """(parameters, parameters per part, parts, scratch for the parts' sums)."""
        n = flat.values.size
        part = max(_PARAMETERS_PER_PART, -(-n // _PARTS))
        n_parts = max(1, -(-n // part))
        return n, part, n_parts, self.scratch("partial", n_parts, flat.values.dtype)

    def _squares(self, flat: FlatParameters, penalized: bool) -> tuple[int, Array]:
        """(parts, Σ g² of each), g the penalized or the bare gradient."""
        n, part, n_parts, partial = self._parts(flat)
        segments = self._segments(flat) if penalized else [0, None]
        self._launcher.launch(
            "gradient_clip",
            "square_parts",
            (partial.dtype,),
            [n, part, n_parts, *segments, flat.values, flat.gradients, partial],
            blocks=n_parts,
        )
        return n_parts, partial

    def _update(
        self,
        kernel: str,
        flat: FlatParameters,
        control: StepControl,
        scalars: list[float],
        state: list[Array | None],
        counts_steps: bool,
    ) -> None:
        """Launch an optimizer's kernel, which is named like its file, over the flat buffer."""
        n_segments, table = self._segments(flat)
        max_value = math.inf if control.max_value is None else control.max_value
        step = [control.step] if counts_steps else []
        clip_scale = None if control.max_norm is None else control.clip_scale
        self._launcher.launch(
            kernel,
            kernel,
            (flat.values.dtype,),
            [
                flat.values.size,
                n_segments,
                *scalars,
                max_value,
                table,
                *step,
                control.learning_rate,
                clip_scale,
                control.failed_step,
                flat.gradients,
                flat.values,
                *state,
            ],
            threads=_threads(flat.values.size),
        )


def _bind_device(cls: type[CupyOps]) -> None:
    """Let every public method of `cls` that touches the device, inherited ones included, run on its own device."""
    for name in dir(cls):
        method = getattr(cls, name)
        if callable(method) and not name.startswith("_") and name not in ("xp", "describe", "capture"):
            setattr(cls, name, _on_device(method))


_bind_device(CupyOps)


def _threads(size: int) -> int:
    return size if size < _SMALL else -(-size // _ELEMENTS_PER_THREAD)


def _chunks(batch: int) -> tuple[int, int]:
    """(samples per chunk, chunks)"""
    chunk = max(_SAMPLES_PER_CHUNK, -(-batch // _CHUNKS))
    return chunk, max(1, -(-batch // chunk))


def _unit_tiles(n: int, n_chunks: int) -> int:
    return -(-n // _WARP) * n_chunks


def _tile(m: int, n: int, dtype: DType) -> int:
    """Side of the square of `out` that a block computes: 128 where that leaves every multiprocessor a few, else 64."""
    if dtype == np.float64:
        return 64
    return 128 if dtype.itemsize < 4 or -(-m // 128) * -(-n // 128) >= _BLOCKS_WORTH_LARGE_TILES else 64


def _accumulator(dtype: DType) -> DType:
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def _log(beta: float) -> float:
    return math.log(beta) if beta > 0.0 else -math.inf


def make_cupy_ops(device: int) -> CupyOps:
    """The primitives on CUDA device number `device`.

    Probes the device from the package to a kernel's answer. Raises BackendError with one line that names the first
    link that fails and what mends it.
    """
    from ._select import BackendError

    failed = failing_link(probe_links(device))
    if failed is not None:
        raise BackendError(failed.sentence())

    import cupy
    from cupy_backends.cuda.libs import cublas

    from ._gemm import CublasGemm

    runtime = CupyRuntime(cupy, device)
    kernels = CudaDevice(cupy)
    gemm = CublasGemm(cublas, cupy.cuda.device.get_cublas_handle, kernels.address)
    return CupyOps(runtime, Launcher(kernels), gemm)
