"""fcnn_gpu itself, and what bounds it: its matrix products alone, and its step on layers of one unit."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from ..._types import Array, DType, HostArray
from ...backend import LossScaling, Ops, choose_backend, quiet_arithmetic
from ...data import DeviceData
from ...losses import CrossEntropy
from ...optimizers import Adam
from ...training import TrainingStep
from ..results import OURS, Job
from ..settings import Settings
from ._base import BETA1, BETA2, EPS, LEARNING_RATE, Batches, Contestant, Library, Problem, Unavailable, weights_of

CPU_BACKENDS = ("numpy", "cpu")
"""Each is a variant of ours. The first is the reference, with which all others are compared before they are timed."""


def backends_here() -> tuple[str, ...]:
    """Those of `CPU_BACKENDS` that can be had; "cpu" stands for NumPy where there are no compiled kernels."""
    return tuple(name for name in CPU_BACKENDS if choose_backend(name, "backend")[0].name == name)


Repeat = Callable[[int], None]


class OurNet(Contestant):
    """The program that `Trainer` repeats, on a GPU several steps in one graph, and `model(X, batch_size)`.

    A training step here gathers its batch from the data set in the visits' order and checks that loss and gradients
    are finite, as every step of `Trainer` does. Most peers are given their batches ready made, and check nothing.
    On a GPU, `model(X)` takes host arrays, so inference on data that is there already takes the pass beneath it.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        batch = problem.batch
        self.model = model = problem.net.model(problem.backend, problem.seed, problem.dtype, problem.precision)
        self.ops = ops = model.ops
        self._loss = CrossEntropy()
        self._optimizer = Adam(LEARNING_RATE, BETA1, BETA2, EPS).bind(model)
        if problem.precision == "float16":  # as Trainer does
            self._optimizer.control.loss_scaling = LossScaling.start(ops)
        self._initial = model.snapshot()
        X, y = problem.data()
        X = X.astype(model.compute_dtype, copy=False)  # in 16 bits too, as the peers' batches
        self._order = problem.order()
        loss = self._loss
        targets = loss.prepare_targets(y, model.n_out, model.dtype)
        self._data = DeviceData(ops, X, targets, None, batch, model.input_map)
        self._data.start_epoch(self._order)
        self._step = TrainingStep(model, loss, self._optimizer, self._data)
        self._single = self._step.program(batch)
        self._at_once = min(ops.steps_per_capture, problem.n_batches)
        self._several = self._step.program(batch, self._at_once)
        self._visits = Batches(problem.n_batches)
        self._reads = Batches(problem.n_batches)
        self._ordered = X[self._order]
        self._host_inputs = [inputs.copy() for inputs in np.split(self._ordered, problem.n_batches)]
        self._host_targets = np.split(targets[self._order], problem.n_batches)
        self._inputs: list[Array] = self._host_inputs
        self._one_batch: tuple[DeviceData, TrainingStep, Callable[[], None]] | None = None
        if ops.asynchronous:
            self._inputs = [ops.asarray(inputs) for inputs in self._host_inputs]
            alone = DeviceData(ops, self._host_inputs[0], self._host_targets[0], None, batch, model.input_map)
            alone.start_epoch(np.arange(batch))
            step = TrainingStep(model, loss, self._optimizer, alone)
            self._one_batch = alone, step, step.program(batch)

    def train(self, n_steps: int) -> None:
        visits, single, several, at_once = self._visits, self._single, self._several, self._at_once
        with quiet_arithmetic():
            while n_steps > 0:
                if visits.at_start:
                    self.restart_data()
                n = min(n_steps, visits.left)
                if at_once <= n:
                    n_times = min(n // at_once, self.ops.steps_per_call)
                    several(n_times)
                    n = at_once * n_times
                else:
                    single(n)
                visits.skip(n)
                n_steps -= n

    @property
    def n_batches(self) -> int:
        """In the data set: so many steps there are before its end."""
        return self._problem.n_batches

    def program(self, n_steps: int, capture: bool = True) -> Callable[[], None]:
        """So many training steps as one program, from where the data's cursor is; `restart_data` before its end."""
        if capture:
            return self._step.program(self._problem.batch, n_steps)
        step = TrainingStep(self.model, self._loss, self._optimizer, self._data, capture=False)
        return step.program(self._problem.batch, n_steps)

    def restart_data(self) -> None:
        """Go through the samples again in the same order: peers' batches lie ready made."""
        self.ops.fill(self._data.cursor, 0)

    def infer(self, n_batches: int) -> None:
        model, inputs, reads = self.model, self._inputs, self._reads
        if self.ops.asynchronous:
            for _ in range(n_batches):
                model.outputs_of(inputs[reads.next()])
        else:
            batch, n_all = self._problem.batch, self._problem.n_batches
            while n_batches > 0:
                first, n = n_all - reads.left, min(n_batches, reads.left)
                model(self._ordered[first * batch : (first + n) * batch], batch_size=batch)
                reads.skip(n)
                n_batches -= n

    def train_from_host(self, n_steps: int) -> None:
        """The same steps with each batch copied from the host and its losses copied back."""
        assert self._one_batch is not None
        data, step, program = self._one_batch
        ops = self.ops
        with quiet_arithmetic():
            for _ in range(n_steps):
                k = self._visits.next()
                ops.assign(data.X, self._host_inputs[k])
                ops.assign(data.targets, self._host_targets[k])
                ops.fill(data.cursor, 0)
                program()
                ops.to_numpy(step.losses)

    def infer_from_host(self, n_batches: int) -> None:
        """The same batches copied from the host, and their outputs copied back."""
        for _ in range(n_batches):
            self.model(self._host_inputs[self._reads.next()])

    def outputs(self) -> HostArray:
        return self.model(self._host_inputs[0])

    def weights(self) -> dict[str, HostArray]:
        return weights_of(self.model)

    def reset(self) -> None:
        ops, control = self.ops, self._optimizer.control
        self.model.restore(self._initial)
        for moment in self._optimizer.state.values():
            ops.fill(moment, 0.0)
        ops.fill(control.step, 0)
        if control.loss_scaling is not None:
            start, now = LossScaling.start(ops), control.loss_scaling
            for there, first in (
                (now.scale, start.scale),
                (now.good_steps, start.good_steps),
                (now.skipped, start.skipped),
                (now.skip, start.skip),
            ):
                ops.assign(there, first)
        self._visits.restart()
        self._reads.restart()

    def wait(self) -> None:
        self.ops.synchronize()

    def check(self) -> None:
        failed = int(self.ops.to_numpy(self._optimizer.control.failed_step)[0])
        if failed >= 0:  # from there on a step leaves its update out
            raise ArithmeticError(f"training step {failed} met a loss or a gradient that is not finite")

    def stopwatch(self) -> Callable[[], float] | None:
        return self.ops.stopwatch() if self.ops.asynchronous else None


class OurContestant(OurNet):
    """Our net with the two references that explain its time: see `products` and `hollow`."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self._hollow = OurNet(problem.hollow())
        dtype = self.model.compute_dtype
        self._products = {
            job: self._captured(matrix_products(self.ops, problem, job, dtype)) for job in ("train", "infer")
        }

    def _captured(self, calls: list[Callable[[], None]]) -> Repeat:
        """The calls as a step has them: replayed, so that they are a floor of it."""

        def all_calls() -> None:
            for call in calls:
                call()

        replay = self.ops.capture(all_calls)

        def repeat(n: int) -> None:
            with quiet_arithmetic():
                replay(n)

        return repeat

    def jobs(self) -> dict[str, Repeat]:
        jobs = super().jobs()
        if self.ops.asynchronous:
            jobs |= {"train from host": self.train_from_host, "infer from host": self.infer_from_host}
        return jobs | {
            "products of train": self._products["train"],
            "products of infer": self._products["infer"],
            "hollow train": self._hollow.train,
            "hollow infer": self._hollow.infer,
        }


def matrix_products(ops: Ops, problem: Problem, job: Job, dtype: DType | None = None) -> list[Callable[[], None]]:
    """The products of one step, in its order, on arrays in the orders that Dense uses: the floor of everything else.

    `dtype`: of the activations, None for the problem's. Gradients of weights have the problem's.
    """
    dtype = np.dtype(problem.dtype) if dtype is None else dtype
    rng = np.random.default_rng([problem.seed, 3])

    def filled(array: Array) -> Array:  # not zeros: memory that was never written shares one page
        ops.assign(array, rng.standard_normal(array.shape, np.float32))
        return array

    forward: list[Callable[[], None]] = []
    backward: list[Callable[[], None]] = []
    A0 = filled(ops.matrix(problem.net.n_in, problem.batch, dtype))
    for i, (n_in, n_out) in enumerate(itertools.pairwise(problem.net.widths)):
        W = filled(ops.matrix(n_out, n_in, dtype))
        Z = filled(ops.matrix(n_out, problem.batch, dtype))
        forward.append(partial(ops.gemm, W, A0, out=Z))  # Z = W A₀
        dW = filled(ops.matrix(n_out, n_in, problem.dtype))
        dA0 = filled(ops.matrix(n_in, problem.batch, dtype))
        layer: list[Callable[[], None]] = [partial(ops.gemm, Z, A0.T, out=dW)]  # ∂L/∂W = dZ A₀ᵀ, with Z's memory for dZ
        if i:
            layer.append(partial(ops.gemm, W.T, Z, out=dA0))  # ∂L/∂A₀ = Wᵀ dZ
        backward = layer + backward
        A0 = Z
    return forward + backward if job == "train" else forward


class Ours(Library):
    key, name, module, package = OURS, OURS, OURS, OURS

    def variants(self, problem: Problem, settings: Settings) -> dict[str, str | None]:
        return dict.fromkeys(CPU_BACKENDS if problem.gpu is None else ("",))

    def build(self, problem: Problem, variant: str) -> OurContestant:
        if not variant:
            return OurContestant(problem)
        ops, why = choose_backend(variant, "backend")
        if ops.name != variant:
            raise Unavailable(f"this backend cannot be had: {why}")
        return OurContestant(replace(problem, backend=variant))
