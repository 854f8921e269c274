"""A stack of small Dense layers in one launch (kernels/fused_mlp.cu)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..._types import Array
from .._autotune import Question
from .._kernel_source import kernels
from .._ops import DenseStack, StackLayer
from .._ops._fused import check_stack
from ._device import DeviceOps

_STEM = "fused_mlp"
_DTYPES = ("float32", "float16", "bfloat16")
_WIDTHS = (64, 128)
"""What the kernel is compiled for: it takes layers of at most so many units."""

_ONE_BY_ONE, _ONE_KERNEL = "layer by layer", "one kernel"

_FEW_SAMPLES = 16
_MANY_SAMPLES = 32
_MANY = 16 * 264
"""A block takes 16 samples, so that small batches occupy many multiprocessors; from here on 32, which share the reading
of the weights: then there are two blocks for each of 132 multiprocessors anyway."""


class FusedKernels(DeviceOps):
    def fusion_obstacle(self, widths: Sequence[int], dtype: Any) -> str | None:
        name = np.dtype(dtype).name
        units, n_layers = max(widths[1:]), len(widths) - 1
        if name not in _DTYPES:
            return f"layers in {name} are no single kernel; that takes {', '.join(_DTYPES)}."
        if units > _WIDTHS[-1]:
            return f"a layer of {units} units is too wide for a single kernel; it takes up to {_WIDTHS[-1]}."
        most = self._launcher.constant(_STEM, "MAX_LAYERS")
        if n_layers > most:
            return f"{n_layers} layers are too many for a single kernel; it takes up to {most}."
        instance = kernels(_STEM)[_STEM].instance((dtype, _width(units), _FEW_SAMPLES))
        if self._runtime.compute_capability() < instance.first_architecture:
            return f"a single kernel in {name} needs a GPU of architecture sm_{instance.first_architecture} or later."
        return None

    def dense_stack(
        self, layers: Sequence[StackLayer], weights: Array, biases: Array, saved: Array | None = None
    ) -> DenseStack:
        check_stack(layers)
        obstacle = self.fusion_obstacle(DenseStack(tuple(layers), weights, biases).widths, weights.dtype)
        if obstacle is not None:
            raise ValueError(f"dense_stack: {obstacle}")
        constant = self._launcher.constant
        table = np.zeros((len(layers), constant(_STEM, "LAYER_FIELDS")), np.int64)
        for i, (row, layer) in enumerate(zip(table, layers, strict=True)):
            fields = {
                "LAYER_IN": layer.W.shape[1],
                "LAYER_OUT": layer.W.shape[0],
                "WEIGHTS": self._place(f"W of layer {i}", layer.W, "weights", weights),
                "BIAS": self._place(f"b of layer {i}", layer.b, "biases", biases),
                "KIND": constant(_STEM, layer.kind.upper()),
                "SAVED_Z": self._place(f"Z of layer {i}", layer.Z, "saved", saved),
                "SAVED_A": self._place(f"A of layer {i}", layer.A, "saved", saved),
            }
            for name, value in fields.items():
                row[constant(_STEM, name)] = value
        alphas = np.array([layer.alpha for layer in layers], np.float32)
        return DenseStack(tuple(layers), weights, biases, saved, (self.asarray(table), self.asarray(alphas)))

    def _place(self, who: str, x: Array | None, of: str, flat: Array | None) -> int:
        """Where in `flat` x begins, in elements; −1 if there is no such array."""
        if x is None or flat is None:
            return -1
        if x.dtype != flat.dtype or not x.flags.f_contiguous:
            raise ValueError(
                f"dense_stack: {who} must be an F-ordered view of {of}, which holds {flat.dtype}; got {x.dtype} with "
                f"strides {x.strides}."
            )
        address = self._runtime.address
        place, rest = divmod(address(x) - address(flat), flat.dtype.itemsize)
        if rest or place < 0 or place + x.size > flat.size:
            raise ValueError(f"dense_stack: {who} does not lie in {of}, the flat buffer of {flat.size} elements.")
        return place

    def fusion_pays(self, stack: DenseStack, A0: Array, out: Array) -> bool:
        if not A0.size:
            return False
        kinds = "-".join(layer.kind for layer in stack.layers)
        has_bias = tuple(int(layer.b is not None) for layer in stack.layers)
        family = ("fused_forward", stack.widths, kinds, has_bias, stack.saved is not None, self._products.tf32)
        ways: dict[str, Callable[..., None]] = {
            _ONE_BY_ONE: self._forward_one_by_one,  # what is taken where nothing is timed
            _ONE_KERNEL: self.fused_forward,
        }
        question = Question(ways, lambda: (stack, A0, out), (((*family, A0.dtype.name), A0.shape[1]),))
        return self._choose((*family, *self._described(A0, out)), lambda: question) == _ONE_KERNEL

    def fused_forward(self, stack: DenseStack, A0: Array, out: Array) -> None:
        batch, saved, widths = A0.shape[1], stack.saved, stack.widths
        samples = _FEW_SAMPLES if batch < _MANY else _MANY_SAMPLES
        width = _width(max(widths[1:]))
        sizes = [batch, len(stack.layers), widths[0], widths[-1], stack.weights.size, stack.biases.size]
        table, alphas = stack.table
        self._launcher.launch(
            _STEM,
            _STEM,
            (stack.weights.dtype, width, samples),
            [*sizes, 0 if saved is None else saved.size, table, alphas, stack.weights, stack.biases, A0, saved, out],
            blocks=-(-batch // samples),
        )


def _width(units: int) -> int:
    return next(width for width in _WIDTHS if units <= width)
