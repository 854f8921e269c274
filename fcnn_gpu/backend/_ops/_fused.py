"""The forward pass of a stack of Dense layers as one primitive."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..._checks import suggest
from ..._types import Array
from ._activation import ELEMENTWISE
from ._matrix import MatrixOps


@dataclass(frozen=True)
class StackLayer:
    """One layer of a stack: A = f(W·A₀ + b), and where its results go.

    W (n_out, n_in) F-ordered, b (n_out, 1) or None. Z and A (n_out, batch) F-ordered, or None for scratch memory. The
    backward pass needs A where f′ is computed from it (`ELEMENTWISE[kind].from_output`), else Z, and A as the next
    layer's input. The last layer's A goes to the pass's own output and is None here.
    """

    W: Array
    b: Array | None
    kind: str = "identity"
    alpha: float = 0.0
    Z: Array | None = None
    A: Array | None = None


@dataclass(frozen=True, eq=False)
class DenseStack:
    """Layers that `fused_forward` goes through at once; `Ops.dense_stack` makes it.

    `weights` and `biases` are the flat buffers that the layers' W and b are views of, `saved` the one of Z and A. Where
    `saved` is None, Z and A need not be left by a pass. `table` is what the device needs to know of the layers.
    """

    layers: tuple[StackLayer, ...]
    weights: Array
    biases: Array
    saved: Array | None = None
    table: tuple[Array, ...] = field(default=(), repr=False)

    @property
    def widths(self) -> tuple[int, ...]:
        """The inputs of the first layer, then the units of each."""
        return self.layers[0].W.shape[1], *(layer.W.shape[0] for layer in self.layers)


class FusedOps(MatrixOps):
    def fusion_obstacle(self, widths: Sequence[int], dtype: Any) -> str | None:
        """Why Dense layers of these widths are never one launch here, or None if they may be.

        widths: the inputs of the first layer, then the units of each. dtype: that of weights and activations.
        """
        return "NumPy has no launches to save: it goes through the layers one by one."

    def dense_stack(
        self, layers: Sequence[StackLayer], weights: Array, biases: Array, saved: Array | None = None
    ) -> DenseStack:
        """Layers made ready for `fused_forward`: once for each set of arrays.

        weights, biases and saved are the flat, contiguous buffers that every W, every b, and every Z and A lie in.
        saved is None where nobody reads Z and A after a pass: at inference.

        Raises ValueError where the layers do not follow each other, and on a GPU also where an array lies outside its
        buffer, and with `fusion_obstacle`'s reason.
        """
        check_stack(layers)
        return DenseStack(tuple(layers), weights, biases, saved)

    def fusion_pays(self, stack: DenseStack, A0: Array, out: Array) -> bool:
        """Whether `fused_forward` was timed to be faster than the layers one by one, for these sizes on this device.

        The first call times them, and overwrites what is kept of the layers, and out. Without autotuning: no.
        """
        return False

    def fused_forward(self, stack: DenseStack, A0: Array, out: Array) -> None:
        """A_l = f_l(W_l·A_(l−1) + b_l) for every layer of the stack; the last A goes to out.

        A0 (n_in, batch) and out (n_out, batch) F-ordered. With `stack.saved`, Z and A of the layers are left where they
        have a place. On a GPU this is one launch, in which no other activations leave the chip's own memory. In 16
        bits, Z is rounded where it is left; f takes the sum as it is.
        """
        self._forward_one_by_one(stack, A0, out)

    def _forward_one_by_one(self, stack: DenseStack, A0: Array, out: Array) -> None:
        A = A0
        batch = A0.shape[1]
        for i, layer in enumerate(stack.layers):
            n = layer.W.shape[0]
            if i + 1 == len(stack.layers):
                B = out
            elif layer.A is not None:
                B = layer.A
            else:
                B = self.scratch(f"fused {i % 2}", n * batch, out.dtype).reshape(batch, n).T
            Z = layer.Z
            if Z is None and ELEMENTWISE[layer.kind].from_output:
                Z = B
            elif Z is None:
                Z = self.scratch("fused Z", n * batch, out.dtype).reshape(batch, n).T
            self.dense_forward(layer.W, A, layer.b, layer.kind, layer.alpha, Z, B)
            A = B


def check_stack(layers: Sequence[StackLayer]) -> None:
    """ValueError unless each layer has a known activation and takes the outputs of the one before it."""
    if not layers:
        raise ValueError("dense_stack expects at least one layer, got none.")
    for layer in layers:
        if layer.kind not in ELEMENTWISE:
            raise ValueError(f"dense_stack knows no activation {layer.kind!r}. {suggest(layer.kind, ELEMENTWISE)}")
    for i, (before, layer) in enumerate(itertools.pairwise(layers), start=1):
        if layer.W.shape[1] != before.W.shape[0]:
            raise ValueError(
                f"dense_stack: W of layer {i} has shape {layer.W.shape}, but layer {i - 1} has "
                f"{before.W.shape[0]} units. Each layer takes the outputs of the one before it."
            )
    if layers[-1].A is not None:
        raise ValueError("dense_stack: the last layer's A goes to fused_forward's out; give it A=None.")
