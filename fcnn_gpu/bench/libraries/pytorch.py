"""PyTorch: eager with foreach or fused Adam; torch.compile of the module, on a CPU of the whole step; CUDA graphs."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from ..._types import HostArray
from ..settings import Settings
from ._base import (
    BATCH_NORM_EPS,
    BATCH_NORM_MOMENTUM,
    BETA1,
    BETA2,
    EPS,
    LEARNING_RATE,
    Batches,
    Contestant,
    Library,
    Problem,
    Unavailable,
)

CUDA_GRAPH, REDUCE_OVERHEAD = "CUDA graph", "compile reduce-overhead"
COMPILED_STEP, AUTOTUNED_STEP = "compile step", "compile step, max-autotune"
_MODES = {
    "compile": "default",
    REDUCE_OVERHEAD: "reduce-overhead",
    COMPILED_STEP: "default",
    AUTOTUNED_STEP: "max-autotune",
}
"""Of `torch.compile`. "reduce-overhead" puts what it compiled into CUDA graphs; on a CPU it is "default"."""
_WARM_UP_STEPS = 3
"""Steps on a side stream before a capture, as PyTorch's notes on CUDA graphs ask for."""


class TorchNet(Contestant):
    """torch.nn layers with `zero_grad(set_to_none=True)`, and `inference_mode` for inference.

    TF32 is the global switch; 16 bits are `torch.autocast` over float32 parameters, with float16 a `GradScaler` too.
    The batches lie on the device in 16 bits then, so that autocast need not convert them.
    """

    def __init__(self, problem: Problem, variant: str) -> None:
        import torch

        if problem.gpu is not None and not torch.cuda.is_available():
            raise Unavailable("this PyTorch sees no CUDA device")
        self._torch = torch
        torch.set_num_threads(problem.threads)
        self._on_gpu = problem.gpu is not None
        if variant in _MODES and not self._on_gpu:
            _check_compiler()
        self._device = torch.device("cpu" if problem.gpu is None else f"cuda:{problem.gpu}")
        if self._on_gpu:
            torch.cuda.set_device(self._device)
        torch.set_float32_matmul_precision("high" if problem.precision == "tf32" else "highest")
        self._half = None if problem.half is None else getattr(torch, problem.half)
        self._caches_casts = variant != CUDA_GRAPH  # a cache of converted weights must not outlive a capture
        self._scaler = self._new_scaler()
        self._initial = problem.initial_weights()
        self._model = self._build(problem).to(self._device)
        self._load()
        options: dict[str, Any] = {"foreach": True} if variant == "foreach" else {"fused": True}
        self._optimizer = torch.optim.Adam(
            self._model.parameters(), LEARNING_RATE, (BETA1, BETA2), EPS, capturable=variant == CUDA_GRAPH, **options
        )
        mode = _MODES.get(variant)
        self._forward: Callable[[Any], Any] = self._model if mode is None else torch.compile(self._model, mode=mode)
        self._begin_step = torch.compiler.cudagraph_mark_step_begin if variant == REDUCE_OVERHEAD else _nothing
        self._loss = torch.nn.functional.cross_entropy
        X, y = (torch.from_numpy(array) for array in problem.ordered_data())
        batch = problem.batch
        if self._on_gpu:
            X, y = X.pin_memory(), y.pin_memory()
        self._host_X, self._host_y = X.split(batch), y.split(batch)
        X, y = X.to(self._device), y.to(self._device)
        self._X, self._y = (X if self._half is None else X.to(self._half)).split(batch), y.split(batch)
        self._visits, self._reads = Batches(problem.n_batches), Batches(problem.n_batches)

    def _build(self, problem: Problem) -> Any:
        nn, net = self._torch.nn, problem.net
        activation = {"relu": nn.ReLU, "tanh": nn.Tanh}[net.activation]
        layers: list[Any] = []
        for n_in, n_out in pairwise(net.widths[:-1]):
            layers.append(nn.Linear(n_in, n_out))
            if net.batch_norm:
                layers.append(nn.BatchNorm1d(n_out, BATCH_NORM_EPS, BATCH_NORM_MOMENTUM))
            layers.append(activation())
            if net.dropout:
                layers.append(nn.Dropout(net.dropout))
        layers.append(nn.Linear(net.widths[-2], net.n_out))
        return nn.Sequential(*layers).to(getattr(self._torch, problem.dtype))

    def _named(self) -> dict[str, Any]:
        """The module's tensors by our names."""
        named: dict[str, Any] = {}
        dense = -1
        for module in self._model:
            if isinstance(module, self._torch.nn.Linear):
                dense += 1
                named |= {f"W{dense}": module.weight, f"b{dense}": module.bias}
            elif isinstance(module, self._torch.nn.BatchNorm1d):
                named |= {f"gamma{dense}": module.weight, f"beta{dense}": module.bias}
                named |= {f"{name}{dense}": getattr(module, name) for name in ("running_mean", "running_var")}
        return named

    def _load(self) -> None:
        with self._torch.no_grad():
            for name, tensor in self._named().items():
                tensor.copy_(self._torch.from_numpy(self._initial[name]))

    def _new_scaler(self) -> Any:
        """float16's loss scale; None where no gradient is lost without one."""
        return self._torch.amp.GradScaler(self._device.type) if self._half is self._torch.float16 else None

    def _autocast(self) -> Any:
        if self._half is None:
            return contextlib.nullcontext()
        return self._torch.autocast(self._device.type, self._half, cache_enabled=self._caches_casts)

    def _one_step(self, X: Any, y: Any) -> Any:
        self._begin_step()
        self._optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            loss = self._loss(self._forward(X), y)
        if self._scaler is None:
            loss.backward()
            self._optimizer.step()
        else:
            self._scaler.scale(loss).backward()
            self._scaler.step(self._optimizer)
            self._scaler.update()
        return loss

    def train(self, n_steps: int) -> None:
        self._model.train()
        X, y, visits = self._X, self._y, self._visits
        for _ in range(n_steps):
            k = visits.next()
            self._one_step(X[k], y[k])

    def infer(self, n_batches: int) -> None:
        self._model.eval()
        X, forward, reads = self._X, self._forward, self._reads
        with self._torch.inference_mode(), self._autocast():
            for _ in range(n_batches):
                self._begin_step()
                forward(X[reads.next()])

    def train_from_host(self, n_steps: int) -> None:
        """The same steps with each batch copied from page-locked host memory and the loss fetched."""
        self._model.train()
        for _ in range(n_steps):
            k = self._visits.next()
            self._one_step(self._to_device(self._host_X[k]), self._to_device(self._host_y[k])).item()

    def infer_from_host(self, n_batches: int) -> None:
        """The same batches copied from page-locked host memory, and their outputs copied back."""
        self._model.eval()
        with self._torch.inference_mode(), self._autocast():
            for _ in range(n_batches):
                self._begin_step()
                self._forward(self._to_device(self._host_X[self._reads.next()])).cpu()

    def _to_device(self, tensor: Any) -> Any:
        there = tensor.to(self._device, non_blocking=True)
        return there if self._half is None or not tensor.is_floating_point() else there.to(self._half)

    def outputs(self) -> HostArray:
        self._model.eval()
        with self._torch.inference_mode(), self._autocast():
            self._begin_step()
            outputs = self._forward(self._X[0]).cpu()
        return (outputs if self._half is None else outputs.float()).numpy().copy()

    def weights(self) -> dict[str, HostArray]:
        return {name: tensor.detach().cpu().numpy().copy() for name, tensor in self._named().items()}

    def reset(self) -> None:
        self._load()
        with self._torch.no_grad():
            for state in self._optimizer.state.values():
                for tensor in state.values():  # step, exp_avg, exp_avg_sq: in place, because a graph refers to them
                    tensor.zero_()
        self._scaler = self._new_scaler()
        self._visits.restart()
        self._reads.restart()

    def wait(self) -> None:
        if self._on_gpu:
            self._torch.cuda.synchronize(self._device)

    def stopwatch(self) -> Callable[[], float] | None:
        if not self._on_gpu:
            return None
        start, end = (self._torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()

        def seconds() -> float:
            end.record()
            end.synchronize()
            return start.elapsed_time(end) / 1000.0

        return seconds

    def jobs(self) -> dict[str, Callable[[int], None]]:
        if not self._on_gpu:
            return super().jobs()
        return super().jobs() | {"train from host": self.train_from_host, "infer from host": self.infer_from_host}


class TorchGraphNet(TorchNet):
    """The whole step, and the forward pass, captured once as CUDA graphs over fixed inputs and replayed."""

    def __init__(self, problem: Problem, variant: str) -> None:
        super().__init__(problem, variant)
        torch = self._torch
        self._static_X, self._static_y = torch.empty_like(self._X[0]), torch.empty_like(self._y[0])
        self._static_X.copy_(self._X[0])
        self._static_y.copy_(self._y[0])
        self._model.train()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP_STEPS):
                super()._one_step(self._static_X, self._static_y)
        torch.cuda.current_stream().wait_stream(side)
        self._optimizer.zero_grad(set_to_none=True)  # the capture then allocates the gradients from its own pool
        self._step_graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._step_graph):
            self._static_loss = super()._one_step(self._static_X, self._static_y)
        self._model.eval()
        self._forward_graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), self._autocast():
            self._model(self._static_X)
            with torch.cuda.graph(self._forward_graph):
                self._static_outputs = self._model(self._static_X)
        self._forward = self._replay_forward
        self.reset()

    def _replay_forward(self, X: Any) -> Any:
        self._static_X.copy_(X)
        self._forward_graph.replay()
        return self._static_outputs

    def _one_step(self, X: Any, y: Any) -> Any:
        self._static_X.copy_(X)
        self._static_y.copy_(y)
        self._step_graph.replay()
        return self._static_loss


class TorchStepNet(TorchNet):
    """The whole step as one compiled function: forward, loss, gradients by `torch.func`, and Adam.

    Adam is written out as `torch.optim` has it, for Inductor to make one loop of each parameter's update: of PyTorch's
    own, the fused one cannot be part of a compiled function (it fails in functionalization), and behind one it is that
    of the variant "compile". Inference is the variant "compile"'s, so only that with another mode is timed again.
    """

    def __init__(self, problem: Problem, variant: str) -> None:
        super().__init__(problem, variant)
        torch, model, cross_entropy = self._torch, self._model, self._loss
        parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
        buffers = dict(model.named_buffers())
        self._infers = variant == AUTOTUNED_STEP
        # A number of steps without dimensions would be taken for the number that it is in the first step.
        t = torch.zeros(1, dtype=getattr(torch, problem.dtype))
        m, v = ({name: torch.zeros_like(p) for name, p in parameters.items()} for _ in range(2))
        self._state = t, *m.values(), *v.values()

        def loss(parameters: Any, X: Any, y: Any) -> tuple[Any, Any]:
            updated = {name: buffer.clone() for name, buffer in buffers.items()}
            with self._autocast():
                return cross_entropy(torch.func.functional_call(model, (parameters, updated), (X,)), y), updated

        def step(X: Any, y: Any) -> Any:
            gradients, (value, updated) = torch.func.grad_and_value(loss, has_aux=True)(parameters, X, y)
            for name, buffer in updated.items():
                buffers[name].copy_(buffer)
            t.add_(1)
            m_scale, v_scale = 1 - BETA1**t, 1 - BETA2**t
            for name, g in gradients.items():
                m[name].lerp_(g, 1 - BETA1)
                v[name].mul_(BETA2).addcmul_(g, g, value=1 - BETA2)
                parameters[name].sub_(LEARNING_RATE * (m[name] / m_scale) / ((v[name] / v_scale).sqrt() + EPS))
            return value

        self._compiled_step = torch.compile(step, fullgraph=True, mode=_MODES[variant])

    def _one_step(self, X: Any, y: Any) -> Any:
        return self._compiled_step(X, y)

    def reset(self) -> None:
        super().reset()
        for array in self._state:
            array.zero_()

    def jobs(self) -> dict[str, Callable[[int], None]]:
        return super().jobs() if self._infers else {"train": self.train}


class PyTorch(Library):
    key, name, module, package = "torch", "PyTorch", "torch", "torch"

    def variants(self, problem: Problem, settings: Settings) -> dict[str, str | None]:
        slow = None if settings.compile else "it takes tens of seconds to begin: ask for it with --compile"
        variants = {"foreach": None, "fused": None, "compile": slow}
        scaled = "GradScaler decides on the host whether to step" if problem.half == "float16" else None
        if problem.gpu is None:
            return variants | dict.fromkeys((COMPILED_STEP, AUTOTUNED_STEP), scaled or slow)
        return variants | {REDUCE_OVERHEAD: slow, CUDA_GRAPH: scaled}

    def build(self, problem: Problem, variant: str) -> TorchNet:
        if variant in (COMPILED_STEP, AUTOTUNED_STEP):
            return TorchStepNet(problem, variant)
        return TorchGraphNet(problem, variant) if variant == CUDA_GRAPH else TorchNet(problem, variant)


def _check_compiler() -> None:
    """Raise Unavailable without the C++ compiler that `torch.compile` looks for on a CPU."""
    name = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(name) is None:
        raise Unavailable(
            f"on a CPU torch.compile needs a C++ compiler, and {name} was not found (install one, or name it in CXX)"
        )


def _nothing() -> None:
    """There is no graph whose next replay must be announced."""
