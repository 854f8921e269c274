"""JAX: a jitted step and forward pass, and scans of them over many batches, with donated parameters and moments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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

SCAN, READY = "scan", "scan, ready batches"
RBG = ", rbg"
"""Ends the name of a variant whose masks come from XLA's own generator."""
_PARAMETERS = ("W", "b", "gamma", "beta")
_SHORTER, _WHOLE_DATA = 16, 64
"""Steps of a scan beside an epoch's and a single one; of the longest where each batch is all of the data."""


class JaxNet(Contestant):
    """Plain functions over a list of layers, dicts of arrays: W (n_in, n_out), b, and with batch norm gamma, beta.

    Adam is written out, as optax writes it; its step number and the key of the dropout masks live on the device. Masks
    come from JAX's own generator (Threefry, on a CPU also the faster one) or, in the variants "..., rbg", from XLA's.
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
        self._generator = "rbg" if variant.endswith(RBG) else "threefry2x32"
        self._initial = problem.initial_weights()
        self._half = None if problem.half is None else jax.numpy.dtype(problem.half)
        self._place_data()
        self._whole_step, self._whole_forward = self._functions()
        self._step = jax.jit(self._whole_step, donate_argnums=(0, 1, 2, 3, 4, 5))
        self._forward = jax.jit(self._whole_forward)
        self._visits, self._reads = Batches(problem.n_batches), Batches(problem.n_batches)
        self._state: tuple[Any, ...] = ()
        self._last: Any = None
        self.reset()

    def _put(self, value: Any) -> Any:
        return self._jax.device_put(value, self._device)

    def _put_samples(self, X: HostArray) -> Any:
        there = self._put(X)
        return there if self._half is None else there.astype(self._half)

    def _place_data(self) -> None:
        X, y = self._problem.ordered_data()
        n_batches = self._problem.n_batches
        self._host_X, self._host_y = np.split(X, n_batches), np.split(y.astype(np.int32), n_batches)
        self._X, self._y = [self._put_samples(part) for part in self._host_X], [self._put(y) for y in self._host_y]

    def _functions(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """A training step, from (*state, x, y) to (state, loss), and the outputs of (parameters, statistics, x)."""
        jax, problem = self._jax, self._problem
        jnp, net, momentum = jax.numpy, problem.net, BATCH_NORM_MOMENTUM
        n_layers = len(net.widths) - 1
        half, full = self._half, jnp.dtype(problem.dtype)
        activate = {"relu": jax.nn.relu, "tanh": jnp.tanh}[net.activation]

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
                x = activate(x)
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

        return step, lambda parameters, statistics, x: forward(parameters, statistics, None, x, False)[0]

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


class JaxScanNet(JaxNet):
    """Many steps in one call: `lax.scan` over the batches of an epoch, whose losses or outputs it stacks.

    The data lies on the device as one array. Each step gathers its batch by the order of the visits; in the variant
    "scan, ready batches" the batches lie there gathered, as every other peer has them. Inference reads batches as they
    lie. A scan has a fixed length, and three are compiled, the shortest of one step, so that any number of steps can be
    made: as many epochs as there are in it, then what is left.
    """

    def __init__(self, problem: Problem, variant: str) -> None:
        self._gathers = not variant.startswith(READY) and problem.n_batches > 1
        self._trains_alone = variant.startswith(READY)
        n_batches = problem.n_batches
        longest = n_batches if n_batches > 1 else _WHOLE_DATA
        self._lengths = sorted({longest, min(_SHORTER, longest), 1}, reverse=True)
        super().__init__(problem, variant)
        jax, lax = self._jax, self._jax.lax

        def batch(data: Any, k: Any) -> Any:
            return lax.dynamic_index_in_dim(data, k, keepdims=False)

        def visit(X: Any, y: Any, order: Any, k: Any) -> tuple[Any, Any]:
            if n_batches == 1:
                return X[0], y[0]
            if not self._gathers:
                return batch(X, k), batch(y, k)
            rows = batch(order, k)
            return X[rows], y[rows]

        def train(state: Any, X: Any, y: Any, order: Any, numbers: Any, first: Any, length: int) -> Any:
            """`length` steps over the batches numbers[first], ...: the state after them, and the losses."""
            numbers = lax.dynamic_slice_in_dim(numbers, first, length)
            return lax.scan(lambda state, k: self._whole_step(*state, *visit(X, y, order, k)), state, numbers)

        def infer(parameters: Any, statistics: Any, X: Any, numbers: Any, first: Any, length: int) -> Any:
            """The outputs of `length` batches, one above the other."""
            numbers = lax.dynamic_slice_in_dim(numbers, first, length)
            outputs = self._whole_forward
            return lax.scan(lambda _, k: (None, outputs(parameters, statistics, batch(X, k))), None, numbers)[1]

        self._train_scan = jax.jit(train, donate_argnums=0, static_argnames="length")
        self._infer_scan = jax.jit(infer, static_argnames="length")

    def _place_data(self) -> None:
        problem = self._problem
        n_batches, batch = problem.n_batches, problem.batch
        self._X_read = self._put_samples(problem.ordered_data()[0].reshape(n_batches, batch, -1))
        X, y = problem.data() if self._gathers else problem.ordered_data()
        self._order = self._put(problem.order().astype(np.int32).reshape(n_batches, batch))
        self._numbers = self._put(np.resize(np.arange(n_batches, dtype=np.int32), max(n_batches, _WHOLE_DATA)))
        if self._gathers:
            self._X_visited, self._y_visited = self._put_samples(X), self._put(y.astype(np.int32))
        else:
            self._X_visited, self._y_visited = self._X_read, self._put(y.astype(np.int32).reshape(n_batches, batch))

    def _parts(self, n: int, batches: Batches) -> Iterator[tuple[int, int]]:
        """(number of the first batch, length) of the scans that make n steps, none of which goes beyond an epoch."""
        while n:
            left = batches.left if self._problem.n_batches > 1 else n
            length = next(length for length in self._lengths if length <= min(n, left))
            yield self._problem.n_batches - batches.left, length
            batches.skip(length % self._problem.n_batches)
            n -= length

    def train(self, n_steps: int) -> None:
        state, data = self._state, (self._X_visited, self._y_visited, self._order, self._numbers)
        for first, length in self._parts(n_steps, self._visits):
            state, self._last = self._train_scan(state, *data, first, length=length)
        self._state = state

    def infer(self, n_batches: int) -> None:
        arguments = self._state[0], self._state[3], self._X_read, self._numbers
        for first, length in self._parts(n_batches, self._reads):
            self._last = self._infer_scan(*arguments, first, length=length)

    def prepare(self) -> None:
        for length in self._lengths:
            for job in self.jobs().values():
                self.reset()
                job(length)
        self.reset()

    def outputs(self) -> HostArray:
        first = self._infer_scan(self._state[0], self._state[3], self._X_read, self._numbers, 0, length=1)
        return np.array(first[0])

    def jobs(self) -> dict[str, Callable[[int], None]]:
        if self._trains_alone or self._problem.n_batches == 1:  # XLA computes one batch once, however often it is asked
            return {"train": self.train}
        return {"train": self.train, "infer": self.infer}


class Jax(Library):
    key, name, module, package = "jax", "JAX", "jax", "jax"

    def variants(self, problem: Problem, settings: Settings) -> dict[str, str | None]:
        scaled = "JAX leaves the loss scale that float16 needs to its user" if problem.half == "float16" else None
        names = ["jit", SCAN, *([READY] if problem.n_batches > 1 else [])]
        if problem.net.dropout and problem.gpu is not None:
            names += [name + RBG for name in names]
        return dict.fromkeys(names, scaled)

    def build(self, problem: Problem, variant: str) -> JaxNet:
        return JaxNet(problem, variant) if variant.startswith("jit") else JaxScanNet(problem, variant)
