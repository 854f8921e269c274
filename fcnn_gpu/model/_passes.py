"""Forward and backward passes of a network, over arrays made before."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from .._arrays import quietly, refuse_masked
from .._types import Array, HostArray
from ..backend import CapturedOver, SparseColumns, SparseRows, StepControl, called
from ..data import features_of
from ..datasets import BlockSource
from ..layers import BatchNorm, Layer, backward_layers
from ..memory import explains_out_of_memory
from ._fusion import FusedPass
from ._network import Network
from ._out_of_memory import explain_forward, explain_inference
from ._workspace import BatchArrays, CapturedRest

_COPIED = 2**15
"""Bytes of samples that are copied in less time than the calls of a first layer take: a captured pass has none of them.
"""


class Passes(Network):
    """A network that computes: outputs from samples, gradients from those of the outputs. See `Sequential`."""

    @quietly
    @explains_out_of_memory(explain_forward)
    def forward(self, X: Any, training: bool = False) -> Array:
        """Raw outputs (n_samples, n_outputs) for X (n_samples, n_in), on the device.

        The result is a view of the workspace: it lasts until the next pass. It is without `output_center`, which the
        dtype could not hold: a loss compares it with y − output_center. With `training`, dropout is active, batch
        norm uses the batch's statistics, and `backward` may follow. All of X is one batch.
        """
        self.refresh_low_precision()
        if isinstance(X, BlockSource):
            raise TypeError(f"model.forward takes one batch, an array; model(X) and predict go through {X!r}.")
        X = self.signature.prepared(X, "model.forward")
        if not training:
            outputs = self.directly(X, "model.forward")
            if outputs is not None:
                return outputs.T
        X = features_of(self, X, "model.forward", prepared=True).on_model()
        if not training:
            self._trained_arrays = None
            return self.outputs_of(X).T
        A0 = self.input_map.apply(self.ops, X).T
        arrays = self.batch_arrays(len(X), training, is_sparse=isinstance(A0, SparseColumns))
        Z = self.forward_pass(A0, arrays, training)
        self._trained_arrays = arrays
        return Z.T

    @quietly
    def backward(self, output_gradient: Array, input_gradient: bool = False) -> Array | None:
        """Fill every parameter's gradient from ∂L/∂outputs (n_samples, n_outputs) of the last training pass.

        Returns ∂L/∂X (n_samples, n_in) with `input_gradient`, a view of the workspace; otherwise None.
        """
        arrays = self._trained_arrays
        if arrays is None:
            raise RuntimeError("model.backward needs model.forward(X, training=True) right before it.")
        if input_gradient and self._workspace.is_sparse:
            raise ValueError(
                "model.backward(input_gradient=True): X was sparse, and ∂L/∂X is not. Give model.forward a dense X."
            )
        refuse_masked(output_gradient, "model.backward: ∂L/∂outputs")
        expected = (arrays.batch, self.n_out)
        if output_gradient.shape != expected:
            raise ValueError(f"model.backward expects ∂L/∂outputs of shape {expected}, got {output_gradient.shape}.")
        self.ops.assign(arrays.output_gradient, output_gradient.T)
        dA0 = self.backward_pass(arrays, input_gradient)
        self._trained_arrays = None
        if dA0 is None:
            return None
        if self.input_scale != 1.0:
            self.ops.scale(dA0, self.input_scale, dA0)  # ∂L/∂X = input_scale·∂L/∂A₀
        return dA0.T

    @quietly
    @explains_out_of_memory(explain_forward)
    def initialize(self, X: Any) -> None:
        """Make the initial values that wait for samples ("std", "he+5"), layer by layer, on X (n_samples, n_in).

        Of each layer they are made on what the layers before it give for X in training. `Trainer.fit` does this on its
        first batch, once, where it has not been done; `awaits_data` says so. Called again, it makes new ones of the
        weights as they are. Nothing else changes: neither running statistics nor the masks to come.
        """
        samples = features_of(self, X, "model.initialize")
        self.initialize_on(self.input_map.apply(self.ops, samples.on_model()).T)

    def initialize_on(self, A0: Array) -> None:
        """`initialize` for checked samples A0 (n_in, batch) of the device."""
        self.forget_forward()
        self.check_batch(A0.shape[1])
        statistics = {name: self.ops.copy(array) for name, array in self.statistics().items()}
        workspace = self.make_workspace(self.ops, self.layers, recompute=False)
        arrays = workspace.batch(A0.shape[1], True, is_sparse=isinstance(A0, SparseColumns))
        A = A0
        for layer, cache in zip(self.layers, arrays.caches, strict=True):
            layer.initialize(A, cache)
            A = called(layer, layer.forward, A, cache, True)
        for name, array in self.statistics().items():
            self.ops.assign(array, statistics[name])
        self.awaits_data = False

    @quietly
    @explains_out_of_memory(explain_forward)
    def layer_outputs(self, X: Any) -> list[tuple[Layer, HostArray]]:
        """Each layer with its output (n_samples, n_out) at inference for X (n_samples, n_in), on the host: copies."""
        self.refresh_low_precision()
        X = features_of(self, X, "model.layer_outputs").on_model()
        A = self.input_map.apply(self.ops, X).T
        workspace = self.make_workspace(self.ops, self.layers, recompute=False)
        arrays = workspace.batch(A.shape[1], False, is_sparse=isinstance(A, SparseColumns))
        found = []
        for layer, cache in zip(self.layers, arrays.caches, strict=True):
            A = called(layer, layer.forward, A, cache, False)
            found.append((layer, np.array(self.ops.to_numpy(A.T))))
        return found

    def forget_forward(self) -> None:
        """What the last `forward` left for `backward` is about to be overwritten."""
        self._trained_arrays = None

    def forward_pass(self, A0: Array, arrays: BatchArrays, training: bool, counted: bool = False) -> Array:
        """A_L (n_outputs, batch) for A0 (n_in, batch), on checked arrays of the device: what `Trainer` calls.

        `counted`: the caller has added this training pass to `random_step` already.
        """
        if not training:
            return self._inference_pass(A0, arrays)
        self.forget_forward()
        if self.stored is not None and arrays.part.first == 0:
            self.stored.begin_step(counted)
        if not counted:
            self.ops.advance(self.random_step, 1)
        Z = A0
        with self._whole_steps():
            if arrays.segmented is None:
                return self._pass_from(0, A0, arrays, training)
            for _, A in arrays.segmented.forward(A0):
                Z = A
        return Z

    def each_output(self, A0: Array, arrays: BatchArrays) -> Iterator[tuple[Layer, Array]]:
        """`forward_pass` in training, counted already, layer by layer: each with its output."""
        if arrays.segmented is not None:
            yield from arrays.segmented.forward(A0)
            return
        A = A0
        for layer, cache in zip(self.layers, arrays.caches, strict=True):
            A = called(layer, layer.forward, A, cache, True)
            yield layer, A

    def _pass_from(self, first: int, A: Array, arrays: BatchArrays, training: bool) -> Array:
        """The last layer's A for A, the input of layer `first`."""
        if first == 0 and not isinstance(A, SparseColumns):
            outputs = self._fused(arrays, training).run(A)
            if outputs is not None:
                return outputs
        for layer, cache in itertools.islice(zip(self.layers, arrays.caches, strict=True), first, None):
            A = called(layer, layer.forward, A, cache, training)
        return A

    def _fused(self, arrays: BatchArrays, training: bool) -> FusedPass:
        """All layers as one launch, by their present settings."""
        if arrays.fused is None or arrays.fused.n_changes != self.n_changes:
            layers = self.layers if self.consists_of_primitives else ()
            caches = arrays.caches if layers else ()
            arrays.fused = FusedPass(self.ops, layers, caches, self.flat, training, arrays.kept, self.n_changes)
        return arrays.fused

    def directly(self, X: Any, who: str) -> Array | None:
        """Raw outputs (n_outputs, batch) at inference, where X lies as the network reads it and all is one program.

        None for any other X, and for one that holds numbers which are not finite: `features` says what is wrong.
        """
        if not (self.ops.captures_over and self._lies_ready(X)):
            return None
        self.signature.check_scale(X, who)
        self._trained_arrays = None
        over = self._over(X, len(X), None, checks=True)
        return over.result if over is not None and over(X) else None

    @explains_out_of_memory(explain_inference)
    def all_directly(self, X: Any, link: str | None, size: int, who: str) -> HostArray | None:
        """Outputs (n_samples, n_outputs) through a link, `size` samples at a time; None where `directly` gives None."""
        if not (self.ops.captures_over and self._lies_ready(X)):
            return None
        self.signature.check_scale(X, who)
        self._trained_arrays = None
        outputs = np.empty((len(X), self.n_out), self.dtype)
        whole = len(X) // size * size
        for first, last in ((0, whole), (whole, len(X))):
            n = min(size, last - first)
            over = self._over(X[first : first + n], n, link, checks=True) if n else None
            if n and (over is None or not over.sweep(X[first:last], outputs[first:last])):
                return None
        return outputs

    def _lies_ready(self, X: Any) -> bool:
        """Whether X, as a user gives it, is what the first layer reads, in memory of its own."""
        if type(X) is not np.ndarray or X.dtype != self.dtype or self.input_center is not None:
            return False
        base = X.base
        while base is not None:  # what is mapped from a file has its pages let go of on the way
            if type(base) is not np.ndarray:
                return False
            base = base.base
        if not (X.ndim == 2 and X.shape[1] == self.n_in and X.size and X.flags.c_contiguous):
            return False
        return self.categories is None or not self.categories.wrong(X).any()

    def _over(self, X: Array, batch: int, link: str | None, checks: bool) -> CapturedOver | None:
        """The pass over samples wherever they lie as one program, made on X; None where it cannot be had."""
        arrays = self._workspace.batch(batch, False)
        if arrays.is_shared or not self.ops.captures_over:
            return None
        key = X.dtype, (link, self.members), checks
        made, over = arrays.over.get(key, (-1, None))
        if made != self.n_changes:
            known = self.consists_of_primitives and X.flags.c_contiguous

            def run(X: Array) -> Array:
                A0 = X.T
                if not self.input_map.leaves(X):
                    A0 = self._workspace.inputs(arrays)
                    self.ops.cast(X, A0.T, self.input_map.scale, self.input_map.shift)
                Z = self._pass_from(0, A0, arrays, False)
                if Z is not A0:
                    self.apply_link(Z, link)
                return Z

            over = self.ops.capture_over(run, X, checks) if known else None
            arrays.over[key] = self.n_changes, over
        return over

    def apply_link(self, Z: Array, link: str | None) -> None:
        """Turn raw outputs into predictions, in place: those of each member, where there are several."""
        if link == "softmax":
            of_members = Z.T.reshape(Z.shape[1] * self.members, self.n_predictions).T
            self.ops.softmax(of_members, of_members)
        elif link in ("sigmoid", "exp"):
            self.ops.bias_activation(Z, None, link, 0.0, Z)

    def outputs_of(self, X: Array) -> Array:
        """Raw outputs (n_outputs, batch) at inference, for stored samples X (batch, n_in) of the device.

        The result may be written to. It is a view of the workspace and lasts until the next pass of this thread.
        """
        arrays = self._workspace.batch(len(X), False)
        if arrays.is_shared:  # what the last training pass has left for the backward pass is overwritten
            self.forget_forward()
            if self.stored is not None:
                self.stored.forget_gradients()
        if isinstance(X, SparseRows):
            return self.forward_pass(self.input_map.apply(self.ops, X).T, arrays, False)
        over = self._over(X, len(X), None, checks=False)
        if over is not None and over(X):
            return over.result
        if self.ops.asynchronous or X.nbytes <= _COPIED or not self.input_map.leaves(X):
            # A copy to one place makes the whole pass one that can be captured.
            A0 = self._workspace.inputs(arrays)
            self.ops.cast(X, A0.T, self.input_map.scale, self.input_map.shift)
        else:
            A0 = X.T
        Z = self.forward_pass(A0, arrays, False)
        return self.ops.copy(Z) if Z is A0 else Z  # dropout alone passes its input through, and links work in place

    def _inference_pass(self, A0: Array, arrays: BatchArrays) -> Array:
        """`forward_pass` at inference. What does not depend on where A0 lies is captured.

        That is all of it for the workspace's own inputs, and what comes after the first layer for others.
        """
        first = 0 if A0 is arrays.inputs else 1
        A = A0 if first == 0 else self.layers[0].forward(A0, arrays.caches[0], False)
        rest = arrays.rest
        if rest is None or rest.inputs is not A or rest.n_changes != self.n_changes:
            outputs = [A]

            def run() -> None:
                outputs[0] = self._pass_from(first, A, arrays, False)

            fixed = A is arrays.inputs or A is not A0
            known = fixed and self.can_be_recorded
            rest = CapturedRest(A, self.n_changes, self.ops.capture(run) if known else run, outputs)
            if known:
                arrays.rest = rest
        rest.run()
        return rest.outputs[0]

    def backward_pass(self, arrays: BatchArrays, input_gradient: bool = False) -> Array | None:
        """The chain rule from `arrays.output_gradient`, which it overwrites, through all layers."""
        first = 0 if input_gradient else self._first_learned
        with self._whole_steps():
            if arrays.segmented is not None:
                return arrays.segmented.backward(arrays.output_gradient, first, input_gradient)
            return backward_layers(self.layers, arrays.caches, arrays.output_gradient, first, input_gradient)

    def _whole_steps(self) -> AbstractContextManager[None]:
        """Within, an error leaves a network with weights on disk as it was before the training step."""
        return nullcontext() if self.stored is None else self.stored.undoing()

    def check_finite(self, losses: Array, control: StepControl, total: Array) -> None:
        """`ops.check_finite` over all gradients, those of stored weights included."""
        self.ops.check_finite(losses, self.flat, control, total)
        if self.stored is not None:
            with self._whole_steps():
                self.stored.check_finite(self.flat, control)

    def release_training(self, batch: int) -> None:
        """Let go of arrays of training for more samples than `batch` at a time, if there are any."""
        self.forget_forward()
        self._workspace.release_training(batch)

    def inference_batch(self, batch: int) -> int:
        """The largest batch up to this size that inference goes through at once: with `share_workspace` what fits."""
        return self._workspace.inference_batch(batch)

    def batch_arrays(
        self, batch: int, training: bool, whole: int | None = None, is_sparse: bool = False
    ) -> BatchArrays:
        """The preallocated arrays for a batch size, or for parts of a `whole` batch: what `Trainer` computes in.

        `is_sparse`: training is on sparse samples.
        """
        if training:
            self.check_batch(batch)
        return self._workspace.batch(batch, training, whole, is_sparse)

    def check_batch(self, batch: int) -> None:
        """A ValueError if no training pass over a batch of this size is possible."""
        if batch == 1 and any(isinstance(layer, BatchNorm) and not layer.is_frozen for layer in self.walk()):
            raise ValueError(
                "Batch normalization cannot train on a batch of one sample: its variance is 0. "
                "Use a batch_size that does not leave one sample over, or drop_last=True."
            )
