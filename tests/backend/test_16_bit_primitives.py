"""Losses, softmax, normalization, embeddings on 16 bits: the float64 reference of the same inputs, rounded once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu._types import Array, HostArray
from fcnn_gpu.backend._ops import ELEMENTWISE_LOSSES, Columns, NumberMap, Ops, Tables
from fcnn_gpu.losses import Loss

from ..support.op_cases import Outputs, matrix
from ..support.tolerances import UNIT

FLOAT16, BFLOAT16 = np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)
SHAPES = [(1, 1), (10, 33), (64, 300), (1100, 3), (33, 130)]
"""(n_units, batch): a single number, few units, a batch in chunks, wider than a warp holds, odd."""

Primitive = Callable[[Ops, "Given", Any, Any], Outputs]


class Given:
    """Inputs of a primitive, the same on every backend: activations rounded to 16 bits, all else to float32."""

    def __init__(self, n: int, batch: int, dtype: np.dtype[Any]) -> None:
        self._rng = np.random.default_rng(100 * n + batch)
        self.dtype = dtype
        self.n, self.batch = n, batch

    def activations(self, ops: Ops, dtype: Any, shift: float = 0.0, scale: float = 1.0) -> Array:
        x = shift + scale * self._rng.normal(size=(self.n, self.batch))
        return matrix(ops, x.astype(self.dtype).astype(np.float64), dtype)

    def positive(self, ops: Ops, dtype: Any, *shape: int) -> Array:
        return ops.asarray(self._rng.uniform(0.5, 2.0, shape).astype(np.float32), dtype)

    def labels(self, ops: Ops) -> Array:
        return ops.asarray(self._rng.integers(0, self.n, self.batch))

    def distributions(self, ops: Ops, dtype: Any) -> Array:
        return matrix(ops, self._rng.dirichlet(np.ones(self.n), self.batch).T.astype(np.float32), dtype)


def _softmax(ops: Ops, given: Given, low: Any, wide: Any) -> Outputs:
    Z, A = given.activations(ops, low, scale=4.0), ops.matrix(given.n, given.batch, low)
    ops.softmax(Z, A)
    p, dA = given.activations(ops, low, shift=0.5), given.activations(ops, low)
    dZ = ops.matrix(given.n, given.batch, low)
    ops.softmax_backward(dA, p, dZ)
    return {"A": A, "dZ": dZ}


def _cross_entropy(dense: bool, **options: Any) -> Primitive:
    def run(ops: Ops, given: Given, low: Any, wide: Any) -> Outputs:
        n, batch = given.n, given.batch
        Z, dZ, losses = given.activations(ops, low, scale=4.0), ops.matrix(n, batch, low), ops.empty(batch, wide)
        targets = given.distributions(ops, wide) if dense else given.labels(ops)
        class_weight, sample_weight = given.positive(ops, wide, n), given.positive(ops, wide, batch)
        scale = ops.asarray(np.array([2.0**8]))
        smoothing = 0.0 if options else 0.1
        ops.softmax_cross_entropy(Z, targets, class_weight, sample_weight, smoothing, losses, dZ, scale, **options)
        return {"losses": losses, "dZ": dZ}

    return run


def _elementwise_loss(kind: str) -> Primitive:
    def run(ops: Ops, given: Given, low: Any, wide: Any) -> Outputs:
        n, batch = given.n, given.batch
        Z, dZ, losses = given.activations(ops, low), ops.matrix(n, batch, low), ops.empty(batch, wide)
        Y, sample_weight = given.distributions(ops, wide), given.positive(ops, wide, batch)
        scale, output_weight, of_output = ops.asarray(np.array([2.0**8])), *(given.positive(ops, wide, n),) * 2
        ops.elementwise_loss(Z, Y, kind, 0.7, sample_weight, losses, dZ, scale, output_weight, of_output)
        return {"losses": losses, "dZ": dZ}

    return run


def _batch_norm(ops: Ops, given: Given, low: Any, wide: Any) -> Outputs:
    n, batch = given.n, given.batch
    X, dY, H = given.activations(ops, low, shift=3.0), given.activations(ops, low), given.activations(ops, low)
    gamma, beta, mean, var = (given.positive(ops, wide, n, 1) for _ in range(4))
    x_hat, out, inference, dX = (ops.matrix(n, batch, low) for _ in range(4))
    inv_std, dgamma, dbeta = (ops.empty((n, 1), wide) for _ in range(3))
    ops.batch_norm_inference(X, gamma, beta, 1e-2, mean, var, inference)
    ops.batch_norm_forward(X, gamma, beta, 1e-2, 0.1, mean, var, x_hat, inv_std, out)
    outputs = {"inference": inference, "x_hat": x_hat, "out": out, "inv_std": inv_std, "mean": mean, "var": var}
    ops.batch_norm_backward(dY, gamma, H, beta, dgamma, dbeta, dX)
    return {**outputs, "dgamma": dgamma, "dbeta": dbeta, "dX": dX}


def _layer_norm(ops: Ops, given: Given, low: Any, wide: Any) -> Outputs:
    n, batch = given.n, given.batch
    X, dY, H = given.activations(ops, low, shift=3.0), given.activations(ops, low), given.activations(ops, low)
    gamma, beta, known = (
        given.positive(ops, wide, n, 1),
        given.positive(ops, wide, n, 1),
        given.positive(ops, wide, 1, batch),
    )
    x_hat, out, dX = (ops.matrix(n, batch, low) for _ in range(3))
    inv_std, dgamma, dbeta = ops.empty((1, batch), wide), ops.empty((n, 1), wide), ops.empty((n, 1), wide)
    ops.layer_norm_forward(X, gamma, beta, 1e-2, x_hat, inv_std, out)
    ops.layer_norm_backward(dY, gamma, H, known, dgamma, dbeta, dX)
    return {"x_hat": x_hat, "out": out, "inv_std": inv_std, "dgamma": dgamma, "dbeta": dbeta, "dX": dX}


def _group_norm(ops: Ops, given: Given, low: Any, wide: Any) -> Outputs:
    """3 groups of n units."""
    n, batch = 3 * given.n, given.batch
    more = Given(n, batch, given.dtype)
    X, dY, H = more.activations(ops, low, shift=3.0), more.activations(ops, low), more.activations(ops, low)
    gamma, beta, known = more.positive(ops, wide, n, 1), more.positive(ops, wide, n, 1), ops.matrix(3, batch, wide)
    ops.fill(known, 0.75)
    x_hat, out, dX = (ops.matrix(n, batch, low) for _ in range(3))
    inv_std, dgamma, dbeta = ops.matrix(3, batch, wide), ops.empty((n, 1), wide), ops.empty((n, 1), wide)
    ops.group_norm_forward(X, gamma, beta, 1e-2, 3, x_hat, inv_std, out)
    ops.group_norm_backward(dY, gamma, 3, H, known, dgamma, dbeta, dX)
    return {"x_hat": x_hat, "out": out, "inv_std": inv_std, "dgamma": dgamma, "dbeta": dbeta, "dX": dX}


def _rms_norm(ops: Ops, given: Given, low: Any, wide: Any) -> Outputs:
    n, batch = given.n, given.batch
    X, dY, H = given.activations(ops, low, shift=1.0), given.activations(ops, low), given.activations(ops, low)
    gamma, known = given.positive(ops, wide, n, 1), given.positive(ops, wide, 1, batch)
    x_hat, out, dX = (ops.matrix(n, batch, low) for _ in range(3))
    inv_rms, dgamma = ops.empty((1, batch), wide), ops.empty((n, 1), wide)
    ops.rms_norm_forward(X, gamma, 1e-2, x_hat, inv_rms, out)
    ops.rms_norm_backward(dY, gamma, H, known, dgamma, dX)
    return {"x_hat": x_hat, "out": out, "inv_std": inv_rms, "dgamma": dgamma, "dX": dX}


def _drawing(ops: Ops, given: Given, low: Any, wide: Any) -> Outputs:
    """Alpha dropout with its gradient, and Gaussian noise."""
    n, batch = given.n, given.batch
    A, mask, step = given.activations(ops, low), ops.matrix(n, batch, np.uint8), ops.asarray(np.array([3]))
    out, dZ, noisy = (ops.matrix(n, batch, low) for _ in range(3))
    ops.alpha_dropout_forward(A, 0.25, (5, 6), step, mask, out)
    ops.alpha_dropout_backward(A, 0.25, mask, dZ)
    ops.gaussian_noise(A, 0.5, (5, 7), step, noisy)
    return {"out": out, "dZ": dZ, "A": noisy}


def _embeddings(ops: Ops, given: Given, low: Any, wide: Any) -> Outputs:
    """The first unit embedded by cosines; a category where the number is 0 or 1, and none elsewhere."""
    n, batch = given.n, given.batch
    columns = Columns(ops.asarray(np.arange(n)), tuple(range(n)), 1)
    of = NumberMap(columns, "cosine", ops.asarray(np.array([0, 3])), (0, 3), 2, appends=True)
    X, dX = given.activations(ops, low), ops.matrix(n, batch, low)
    out = ops.matrix(of.n_outputs, batch, low)
    w, phase = given.positive(ops, wide, 3, 1), given.positive(ops, wide, 3, 1)
    W, b = (matrix(ops, ops.to_numpy(given.positive(ops, wide, 2, k)), wide) for k in (3, 1))
    dw, dphase, dW, db = (ops.matrix(*shape, wide) for shape in ((3, 1), (3, 1), (2, 3), (2, 1)))
    ops.embed_numbers(of, X, w, phase, W, b, out)
    dOut = matrix(ops, np.resize([0.5, -1.0, 0.25, 2.0, -0.125], (of.n_outputs, batch)), low)
    ops.embed_numbers_backward(of, dOut, out, X, w, phase, W, dw, dphase, dW, db, dX)
    places = ops.asarray(np.array([0, 2]))
    tables = Tables(columns, ops.asarray(np.array([0, 4])), places, (0, 4), (0, 2))
    E, dE = given.positive(ops, wide, 4, 1), ops.empty((4, 1), wide)
    numbers = matrix(ops, np.resize([0.0, 1.0, 1.0], (n, batch)), low)
    rows = ops.matrix(tables.n_outputs, batch, low)
    ops.embed_categories(tables, numbers, E, rows)
    ops.embed_categories_backward(tables, matrix(ops, np.ones((tables.n_outputs, batch)), low), numbers, dE, None)
    of_parameters = {"dw": dw, "dphase": dphase, "dW": dW, "db": db, "dE": dE}
    return {"out": out, "dX": dX, "A": rows, **of_parameters}


PRIMITIVES: dict[str, Primitive] = {
    "softmax": _softmax,
    "cross_entropy-labels": _cross_entropy(dense=False),
    "cross_entropy-dense": _cross_entropy(dense=True),
    "kl_divergence": _cross_entropy(dense=True, relative=True),
    "focal": _cross_entropy(dense=False, gamma=1.5),
    **{kind: _elementwise_loss(kind) for kind in ELEMENTWISE_LOSSES},
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "rms_norm": _rms_norm,
    "drawing": _drawing,
    "embeddings": _embeddings,
}


ACTIVATIONS = {"A", "dZ", "inference", "x_hat", "out", "dX"}
"""The outputs that are of the activations' type; all others are of the type that sums run in."""


def _results(ops: Ops, name: str, given: Given, low: Any, wide: Any) -> dict[str, HostArray]:
    return {key: ops.to_numpy(x) for key, x in PRIMITIVES[name](ops, given, low, wide).items()}


@pytest.mark.parametrize("dtype", [FLOAT16, BFLOAT16], ids=str)
@pytest.mark.parametrize("name", PRIMITIVES)
def test_16_bits_are_rounded_once(device_ops: Ops, name: str, dtype: np.dtype[Any]) -> None:
    for n, batch in SHAPES:
        expected = _results(Ops(), name, Given(n, batch, dtype), np.float64, np.float64)
        actual = _results(device_ops, name, Given(n, batch, dtype), dtype, np.float32)
        for key, value in expected.items():
            assert actual[key].dtype == (dtype if key in ACTIVATIONS else np.float32)
            # Arithmetic and sums in float32, then one rounding to the array's own dtype.
            size = float(np.abs(value).max(initial=0.0))
            smallest = float(ml_dtypes.finfo(dtype).smallest_subnormal)
            np.testing.assert_allclose(
                actual[key].astype(np.float64),
                value,
                rtol=1.01 * UNIT[actual[key].dtype.name] + 128 * UNIT["float32"],
                atol=128 * UNIT["float32"] * size + smallest,
                err_msg=f"{name}: {key} at n={n}, batch={batch}",
            )


@pytest.mark.parametrize("dtype", [FLOAT16, BFLOAT16], ids=str)
@pytest.mark.parametrize(
    "loss", [fcnn.CrossEntropy(0.1, [1.0, 2.0, 0.5]), fcnn.MSE(), fcnn.BinaryCrossEntropy()], ids=lambda x: x.name
)
def test_a_loss_takes_16_bit_logits(device_ops: Ops, loss: Loss, dtype: np.dtype[Any]) -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(3, 40)).astype(dtype)
    y = rng.integers(0, 3, 40) if loss.link == "softmax" else rng.random((40, 3))
    results = []
    for ops, low, wide in [(Ops(), np.float64, np.float64), (device_ops, dtype, np.float32)]:
        Z, dZ, losses = matrix(ops, logits.astype(np.float64), low), ops.matrix(3, 40, low), ops.empty(40, wide)
        targets = ops.asarray(loss.prepare_targets(y, 3, wide))
        loss.compute(ops, Z, targets, None, losses, dZ, loss_scale=ops.asarray(np.array([1024.0])))
        results.append((ops.to_numpy(losses).astype(np.float64), ops.to_numpy(dZ).astype(np.float64)))
    (losses_expected, dZ_expected), (losses_actual, dZ_actual) = results
    np.testing.assert_allclose(losses_actual, losses_expected, rtol=1e-5)
    np.testing.assert_allclose(dZ_actual, dZ_expected, rtol=1.01 * UNIT[dtype.name] + 1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_pytorch_agrees_in_16_bits(device_ops: Ops, name: str) -> None:
    torch = pytest.importorskip("torch")
    F, dtype, unit = torch.nn.functional, np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name), UNIT[name]
    ops, rng = device_ops, np.random.default_rng(0)
    z, y = rng.normal(size=(64, 40)).astype(dtype), rng.random((64, 40)).astype(dtype)
    g, b = rng.uniform(0.5, 2.0, (64, 1)).astype(dtype), rng.normal(size=(64, 1)).astype(dtype)

    def tensor(x: HostArray) -> Any:
        return torch.from_numpy(x.T.astype(np.float32)).to(getattr(torch, name))

    def compare(actual: Array, expected: Any) -> None:
        exact = expected.detach().float().numpy().T
        atol = 2 * unit * float(np.abs(exact).max())  # PyTorch rounds in between as well
        np.testing.assert_allclose(ops.to_numpy(actual).astype(np.float32), exact, rtol=2 * unit, atol=atol)

    Z, out, x_hat = matrix(ops, z, dtype), ops.matrix(64, 40, dtype), ops.matrix(64, 40, dtype)
    ops.softmax(Z, out)
    compare(out, F.softmax(tensor(z), dim=1))
    gamma, beta = ops.asarray(g.astype(np.float32)), ops.asarray(b.astype(np.float32))
    ops.layer_norm_forward(Z, gamma, beta, 1e-5, x_hat, ops.empty((1, 40), np.float32), out)
    compare(out, F.layer_norm(tensor(z), (64,), tensor(g)[0], tensor(b)[0], 1e-5))
    mean, var, inv_std = (ops.asarray(np.zeros((64, 1), np.float32)) for _ in range(3))
    ops.batch_norm_forward(Z, gamma, beta, 1e-5, 0.1, mean, var, x_hat, inv_std, out)
    compare(out, F.batch_norm(tensor(z), None, None, tensor(g)[0], tensor(b)[0], True, 0.1, 1e-5))
    Y, losses = matrix(ops, y.astype(np.float32), np.float32), ops.empty(40, np.float32)
    theirs = {"mse": F.mse_loss, "huber": F.huber_loss, "binary_cross_entropy": F.binary_cross_entropy_with_logits}
    for kind, function in theirs.items():
        logits = tensor(z).requires_grad_()
        function(logits, tensor(y)).backward()
        ops.elementwise_loss(Z, Y, kind, 1.0 if kind == "huber" else 0.0, None, losses, out)
        compare(out, logits.grad)


LOSSES_OF_ALL_KINDS = [fcnn.CrossEntropy(0.1, [1.0, 2.0, 0.5]), fcnn.MSE(), fcnn.MAE(), fcnn.Huber(0.5)]


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    "loss", [*LOSSES_OF_ALL_KINDS, fcnn.Focal(), fcnn.BinaryCrossEntropy()], ids=lambda loss: loss.name
)
def test_every_loss_trains_as_in_float32(device_ops: Ops, loss: Loss, precision: str) -> None:
    rng = np.random.default_rng(5)
    X, weight = rng.normal(size=(96, 6)).astype(np.float32), rng.uniform(0.5, 1.5, 96)
    y = np.stack([X[:, 0] > 0, X[:, 1] > 0, X[:, 2] > X[:, 3]], axis=1).astype(float)
    targets = y.argmax(axis=1) if loss.link == "softmax" else y
    curves = []
    for ops, chosen in [(Ops(), None), (device_ops, precision)]:
        layers = [fcnn.Dense(16), fcnn.BatchNorm(), fcnn.Activation("relu"), fcnn.Dense(16), fcnn.LayerNorm()]
        model = fcnn.Sequential([*layers, fcnn.Dense(3)], n_in=6, seed=1, backend=ops, precision=chosen)
        trainer = fcnn.Trainer(model, loss=loss, optimizer=fcnn.Adam(1e-2))
        history = trainer.fit(X, targets, epochs=4, batch_size=40, sample_weight=weight, progress=False)
        curves.append(history["loss"])
    expected, actual = curves
    assert expected[-1] < 0.9 * expected[0]
    np.testing.assert_allclose(actual, expected, rtol={"float16": 0.02, "bfloat16": 0.08}[precision])
