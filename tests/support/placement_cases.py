"""Networks whose weights lie elsewhere, and what they are compared with: the same chunks of a weight in memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

import fcnn_gpu as fcnn
from fcnn_gpu._types import Array

N, N_IN, N_CLASSES = 50, 20, 3
X = np.random.default_rng(0).normal(size=(N, N_IN))
Y = np.random.default_rng(1).integers(0, N_CLASSES, N)

PLACES = ("host", "disk")
OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda: fcnn.SGD(0.05),
    "momentum": lambda: fcnn.SGD(0.05, momentum=0.9),
    "nesterov": lambda: fcnn.SGD(0.05, momentum=0.9, nesterov=True),
    "adam": lambda: fcnn.Adam(0.01),
    "adamw": lambda: fcnn.AdamW(0.01, weight_decay=0.1),
    "adamw of all": lambda: fcnn.AdamW(0.01, weight_decay=0.1, decay_all=True),
    "rmsprop": lambda: fcnn.RMSprop(0.01),
    "rmsprop momentum": lambda: fcnn.RMSprop(0.01, momentum=0.5),
    "adagrad": lambda: fcnn.Adagrad(0.05, lr_decay=0.01),
    "sgd decay": lambda: fcnn.SGD(0.05, momentum=0.9, weight_decay=0.1),
    "amsgrad": lambda: fcnn.Adam(0.01, amsgrad=True, weight_decay=0.1),
    "nadam": lambda: fcnn.NAdam(0.01, weight_decay=0.1),
    "clipped": lambda: fcnn.Adam(0.01, clip_value=0.01),
}


class ChunkedDense(fcnn.Dense):
    """A layer in memory that computes its products over the same tiles of rows as one whose weights are elsewhere."""

    rows = 1

    def _tiles(self) -> list[slice]:
        return [slice(i, min(i + self.rows, self.n_out)) for i in range(0, self.n_out, self.rows)]

    def forward(self, A0: Array, cache: SimpleNamespace, training: bool) -> Array:
        cache.A0 = A0
        for rows in self._tiles():
            W = np.ascontiguousarray(self.W[rows])
            part = np.empty((A0.shape[1], len(W)), W.dtype).T
            self.ops.gemm(W, A0, out=part)
            cache.Z[rows] = part
        b = self.b if self.bias else None
        self.ops.bias_activation(cache.Z, b, self.activation.name, self.activation.slope, cache.A)
        return cache.A

    def backward(self, dA: Array, cache: SimpleNamespace, needs_input_gradient: bool) -> Array | None:
        saved = cache.A if self.activation.from_output else cache.Z
        dZ = np.empty_like(dA)
        db = self.db if self.bias else None
        self.ops.activation_backward(dA, saved, self.activation.name, self.activation.slope, dZ, db)
        for rows in self._tiles():
            part = np.asfortranarray(dZ[rows])
            gradient = np.empty((part.shape[0], self.n_in), dZ.dtype)
            self.ops.gemm(part, cache.A0.T, out=gradient)
            self.dW[rows] = gradient
            if needs_input_gradient:
                W = np.ascontiguousarray(self.W[rows])
                self.ops.gemm(W.T, part, out=cache.dA0, beta=0.0 if rows.start == 0 else 1.0)
        return cache.dA0 if needs_input_gradient else None


def chunked(rows: int) -> type[ChunkedDense]:
    """`ChunkedDense` with tiles of so many rows."""
    return type("ChunkedDense", (ChunkedDense,), {"rows": rows})


def network(first: Any, second: Any, seed: int = 3, n_in: int = N_IN, **options: Any) -> fcnn.Sequential:
    """A network of two layers from `first` and `second`, called like `Dense`, among layers of every other kind."""
    layers = [
        first(33, activation="relu", l2=1e-3),
        fcnn.Dropout(0.3),
        second(17, activation="gelu", l1=1e-4, bias=False),
        fcnn.BatchNorm(),
        fcnn.Dense(N_CLASSES, l2=1e-3),
    ]
    return fcnn.Sequential(layers, n_in, seed=seed, **({"backend": "numpy"} | options))


def stored_network(place: str, rows: int, seed: int = 3, **options: Any) -> fcnn.Sequential:
    """`network` with the first two layers' weights elsewhere, in tiles of so many rows."""

    def dense(n_out: int, **settings: Any) -> fcnn.Dense:
        return fcnn.Dense(n_out, placement=place, **settings)

    model = network(dense, dense, seed, **options)
    set_tiles(model, rows)
    return model


def set_tiles(model: fcnn.Sequential, rows: int) -> None:
    assert model.stored is not None
    for weight in model.stored.weights:
        weight.tile_rows = min(rows, weight.shape[0])


def fit(model: fcnn.Sequential, optimizer: fcnn.optimizers.Optimizer, **options: Any) -> fcnn.Trainer:
    trainer = fcnn.Trainer(model, optimizer=optimizer, metrics=["accuracy"])
    trainer.fit(X.astype(model.dtype), Y, **({"epochs": 3, "batch_size": 16, "progress": False} | options))
    return trainer


def outcome(trainer: fcnn.Trainer) -> dict[str, Any]:
    """Everything that training changes, of stored weights and moments too, by name, as arrays of the host."""
    model, optimizer = trainer.model, trainer.optimizer
    found = {name: np.array(model.ops.to_numpy(array)) for name, array in model.named_arrays().items()}
    found |= moments(trainer)
    history = trainer.history.to_dict()
    found |= {f"history {n}": np.array(history[n]) for n in history if n not in ("seconds", "samples_per_second")}
    found["step"] = np.array(model.ops.to_numpy(optimizer.control.step))
    found["random step"] = np.array(model.ops.to_numpy(model.random_step))
    return found


def moments(trainer: fcnn.Trainer) -> dict[str, Any]:
    """The optimizer's arrays, parameter by parameter, wherever they lie."""
    model, optimizer = trainer.model, trainer.optimizer
    found = {}
    flat = model.ops.to_numpy(model.flat.values)
    for layer in model.walk():
        for parameter in layer.parameters():
            name = f"{layer.path}.{parameter.name}"
            if parameter.stored is not None:
                stored = optimizer.whole_state
                for kind in optimizer._state_names():
                    found[f"{kind} of {name}"] = np.asarray(stored[f"{name}.{kind}"])
                continue
            value = model.ops.to_numpy(parameter.value)
            if value.size and value.base is not None and model.ops.name == "numpy":
                start = (value.ctypes.data - flat.ctypes.data) // flat.itemsize
                for kind, array in optimizer.state.items():
                    part = array[start : start + value.size].reshape(value.shape[::-1]).T
                    found[f"{kind} of {name}"] = np.array(part)
    return found


def assert_equal(a: dict[str, Any], b: dict[str, Any]) -> None:
    """Bit for bit, but for the order of the names."""
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
