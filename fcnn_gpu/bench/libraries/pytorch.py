"""PyTorch: eager with foreach or fused Adam, torch.compile, and on a GPU the whole step as a CUDA graph."""

from __future__ import annotations

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

_WARM_UP_STEPS = 3
"""Steps on a side stream before a capture, as PyTorch's notes on CUDA graphs ask for."""


class TorchNet(Contestant):
    """torch.nn layers with `zero_grad(set_to_none=True)`, and `inference_mode` for inference."""

    def __init__(self, problem: Problem, variant: str) -> None:
        import torch

        if problem.gpu is not None and not torch.cuda.is_available():
            raise Unavailable("this PyTorch sees no CUDA device")
        self._torch = torch
        torch.set_num_threads(problem.threads)
        self._on_gpu = problem.gpu is not None
        self._device = torch.device("cpu" if problem.gpu is None else f"cuda:{problem.gpu}")
        if self._on_gpu:
            torch.cuda.set_device(self._device)
        self._initial = problem.initial_weights()
        self._model = self._build(problem).to(self._device)
        self._load()
        options: dict[str, Any] = {"foreach": True} if variant == "foreach" else {"fused": True}
        self._optimizer = torch.optim.Adam(
            self._model.parameters(), LEARNING_RATE, (BETA1, BETA2), EPS, capturable=variant == "CUDA graph", **options
        )
        self._forward: Callable[[Any], Any] = torch.compile(self._model) if variant == "compile" else self._model
        self._loss = torch.nn.functional.cross_entropy
        X, y = (torch.from_numpy(array) for array in problem.ordered_data())
        batch = problem.batch
        if self._on_gpu:
            X, y = X.pin_memory(), y.pin_memory()
        self._host_X, self._host_y = X.split(batch), y.split(batch)
        self._X, self._y = X.to(self._device).split(batch), y.to(self._device).split(batch)
        self._visits, self._reads = Batches(problem.n_batches), Batches(problem.n_batches)

    def _build(self, problem: Problem) -> Any:
        nn, net = self._torch.nn, problem.net
        layers: list[Any] = []
        for n_in, n_out in pairwise(net.widths[:-1]):
            layers.append(nn.Linear(n_in, n_out))
            if net.batch_norm:
                layers.append(nn.BatchNorm1d(n_out, BATCH_NORM_EPS, BATCH_NORM_MOMENTUM))
            layers.append(nn.ReLU())
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

    def _one_step(self, X: Any, y: Any) -> Any:
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._loss(self._forward(X), y)
        loss.backward()
        self._optimizer.step()
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
        with self._torch.inference_mode():
            for _ in range(n_batches):
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
        with self._torch.inference_mode():
            for _ in range(n_batches):
                self._forward(self._to_device(self._host_X[self._reads.next()])).cpu()

    def _to_device(self, tensor: Any) -> Any:
        return tensor.to(self._device, non_blocking=True)

    def outputs(self) -> HostArray:
        self._model.eval()
        with self._torch.inference_mode():
            return self._forward(self._X[0]).cpu().numpy().copy()

    def weights(self) -> dict[str, HostArray]:
        return {name: tensor.detach().cpu().numpy().copy() for name, tensor in self._named().items()}

    def reset(self) -> None:
        self._load()
        with self._torch.no_grad():
            for state in self._optimizer.state.values():
                for tensor in state.values():  # step, exp_avg, exp_avg_sq: in place, because a graph refers to them
                    tensor.zero_()
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
        with torch.inference_mode():
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


class PyTorch(Library):
    key, name, module, package = "torch", "PyTorch", "torch", "torch"

    def variants(self, problem: Problem, settings: Settings) -> dict[str, str | None]:
        slow = None if settings.compile else "it takes tens of seconds to begin: ask for it with --compile"
        graph = {} if problem.gpu is None else {"CUDA graph": None}
        return {"foreach": None, "fused": None, "compile": slow, **graph}

    def build(self, problem: Problem, variant: str) -> TorchNet:
        return TorchGraphNet(problem, variant) if variant == "CUDA graph" else TorchNet(problem, variant)
