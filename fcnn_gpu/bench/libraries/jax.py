"""JAX: one jitted step with donated parameters, moments and state, and a jitted forward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

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

_PARAMETERS = ("W", "b", "gamma", "beta")


class JaxNet(Contestant):
    """Plain functions over a list of layers, dicts of arrays: W (n_in, n_out), b, and with batch norm gamma, beta.

    Adam is written out, as optax writes it; its step number and the key of the dropout masks live on the device. Masks
    come from JAX's own generator (Threefry, on a CPU also the faster one) or, in the variant "jit, rbg", from XLA's.
    Steps are not waited for one by one: JAX queues them also on a CPU, and the time ends when the last is done.
    TF32 is JAX's own setting; in bfloat16 weights are converted within the step, as are the activations after each
    product, while the loss, the statistics of batch norm and Adam stay in float32.
    """

    def __init__(self, problem: Problem, variant: str) -> None:
        import jax

        jax.config.update("jax_enable_x64", problem.dtype == "float64")
        if problem.precision == "tf32":
            jax.config.update("jax_default_matmul_precision", "tensorfloat32")
        try:
            device = jax.devices("cpu")[0] if problem.gpu is None else jax.devices("gpu")[problem.gpu]
        except (RuntimeError, IndexError):
            raise Unavailable("this JAX sees no such GPU (pip install 'jax[cuda12]')") from None
        self._jax, self._device, self._on_gpu = jax, device, problem.gpu is not None
        self._problem = problem
        self._generator = "rbg" if variant == "jit, rbg" else "threefry2x32"
        self._initial = problem.initial_weights()
        X, y = problem.ordered_data()
        self._host_X, self._host_y = np.split(X, problem.n_batches), np.split(y.astype(np.int32), problem.n_batches)
        self._half = None if problem.half is None else jax.numpy.dtype(problem.half)
        self._X, self._y = ([self._put(part) for part in parts] for parts in (self._host_X, self._host_y))
        if self._half is not None:
            self._X = [part.astype(self._half) for part in self._X]
        self._step, self._forward = self._compile()
        self._visits, self._reads = Batches(problem.n_batches), Batches(problem.n_batches)
        self._state: tuple[Any, ...] = ()
        self._last: Any = None
        self.reset()

    def _put(self, value: Any) -> Any:
        return self._jax.device_put(value, self._device)

    def _compile(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        jax, problem = self._jax, self._problem
        jnp, net, momentum = jax.numpy, problem.net, BATCH_NORM_MOMENTUM
        n_layers = len(net.widths) - 1
        half, full = self._half, jnp.dtype(problem.dtype)

        def cast(x: Any) -> Any:
            return x if half is None else x.astype(half)

        def normalize(x: Any, layer: Any, statistics: Any, training: bool) -> tuple[Any, Any]:
            x = x.astype(full)
            if training:
                mean, var = x.mean(axis=0), x.var(axis=0)
                unbiased = var * (problem.batch / (problem.batch - 1))
                statistics = {
                    "running_mean": (1 - momentum) * statistics["running_mean"] + momentum * mean,
                    "running_var": (1 - momentum) * statistics["running_var"] + momentum * unbiased,
                }
            else:
                mean, var = statistics["running_mean"], statistics["running_var"]
            x_hat = (x - mean) * jax.lax.rsqrt(var + BATCH_NORM_EPS)
            return cast(x_hat * layer["gamma"] + layer["beta"]), statistics

        def forward(parameters: Any, statistics: Any, key: Any, x: Any, training: bool) -> tuple[Any, Any]:
            updated = []
            x = cast(x)
            for i, layer in enumerate(parameters):
                x = x @ cast(layer["W"]) + cast(layer["b"])
                if i == n_layers - 1:
                    break
                if net.batch_norm:
                    x, new = normalize(x, layer, statistics[i], training)
                    updated.append(new)
                x = jax.nn.relu(x)
                if net.dropout and training:
                    keep = jax.random.bernoulli(jax.random.fold_in(key, i), 1 - net.dropout, x.shape)
                    x = jnp.where(keep, x / (1 - net.dropout), 0)
            return x.astype(full), updated

        def loss(parameters: Any, statistics: Any, key: Any, x: Any, y: Any) -> tuple[Any, Any]:
            logits, updated = forward(parameters, statistics, key, x, True)
            log_p = jax.nn.log_softmax(logits)
            return -jnp.take_along_axis(log_p, y[:, None], axis=1).mean(), updated

        def step(parameters: Any, m: Any, v: Any, statistics: Any, t: Any, key: Any, x: Any, y: Any) -> Any:
            key, now = jax.random.split(key) if net.dropout else (key, None)
            (value, statistics), g = jax.value_and_grad(loss, has_aux=True)(parameters, statistics, now, x, y)
            t = t + 1
            m = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, m, g)
            v = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, v, g)
            m_scale, v_scale = 1 - BETA1**t, 1 - BETA2**t
            parameters = jax.tree.map(
                lambda p, m, v: p - LEARNING_RATE * (m / m_scale) / (jnp.sqrt(v / v_scale) + EPS), parameters, m, v
            )
            return (parameters, m, v, statistics, t, key), value

        jitted = jax.jit(step, donate_argnums=(0, 1, 2, 3, 4, 5))
        infer = jax.jit(lambda parameters, statistics, x: forward(parameters, statistics, None, x, False)[0])
        return jitted, infer

    def train(self, n_steps: int) -> None:
        step, state, X, y, visits = self._step, self._state, self._X, self._y, self._visits
        for _ in range(n_steps):
            k = visits.next()
            state, self._last = step(*state, X[k], y[k])
        self._state = state

    def infer(self, n_batches: int) -> None:
        forward, parameters, statistics = self._forward, self._state[0], self._state[3]
        X, reads = self._X, self._reads
        for _ in range(n_batches):
            self._last = forward(parameters, statistics, X[reads.next()])

    def train_from_host(self, n_steps: int) -> None:
        """The same steps with each batch copied from the host and the loss fetched."""
        for _ in range(n_steps):
            k = self._visits.next()
            self._state, loss = self._step(*self._state, self._put(self._host_X[k]), self._put(self._host_y[k]))
            float(loss)

    def infer_from_host(self, n_batches: int) -> None:
        """The same batches copied from the host, and their outputs copied back."""
        parameters, statistics = self._state[0], self._state[3]
        for _ in range(n_batches):
            np.asarray(self._forward(parameters, statistics, self._put(self._host_X[self._reads.next()])))

    def outputs(self) -> HostArray:
        return np.array(self._forward(self._state[0], self._state[3], self._X[0]))

    def weights(self) -> dict[str, HostArray]:
        parameters, statistics = self._state[0], self._state[3]
        named = {f"{name}{i}": array for i, layer in enumerate(parameters) for name, array in layer.items()}
        named |= {f"{name}{i}": array for i, running in enumerate(statistics) for name, array in running.items()}
        return {name: np.array(array).T if name[0] == "W" else np.array(array) for name, array in named.items()}

    def reset(self) -> None:
        jax, initial, net = self._jax, self._initial, self._problem.net
        parameters = []
        for i in range(len(net.widths) - 1):
            layer = {name: initial[f"{name}{i}"] for name in _PARAMETERS if f"{name}{i}" in initial}
            parameters.append(layer | {"W": np.ascontiguousarray(layer["W"].T)})
        statistics = [
            {name: initial[f"{name}{i}"] for name in ("running_mean", "running_var")}
            for i in range(len(net.hidden) if net.batch_norm else 0)
        ]
        zeros = [jax.tree.map(np.zeros_like, parameters) for _ in range(2)]
        t = np.zeros((), self._problem.dtype)
        key = jax.random.key(self._problem.seed, impl=self._generator)
        self._state = tuple(self._put(part) for part in (parameters, *zeros, statistics, t, key))
        self._visits.restart()
        self._reads.restart()
        self.wait()

    def wait(self) -> None:
        self._jax.block_until_ready((self._state, self._last))

    def jobs(self) -> dict[str, Callable[[int], None]]:
        if not self._on_gpu:
            return super().jobs()
        return super().jobs() | {"train from host": self.train_from_host, "infer from host": self.infer_from_host}


class Jax(Library):
    key, name, module, package = "jax", "JAX", "jax", "jax"

    def variants(self, problem: Problem, settings: Settings) -> dict[str, str | None]:
        scaled = "JAX leaves the loss scale that float16 needs to its user" if problem.half == "float16" else None
        other_masks = {"jit, rbg": scaled} if problem.net.dropout and problem.gpu is not None else {}
        return {"jit": scaled, **other_masks}

    def build(self, problem: Problem, variant: str) -> JaxNet:
        return JaxNet(problem, variant)
