"""Layers: outputs and gradients against plain NumPy, shapes, live views, running statistics, dropout, and refusals."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fcnn_gpu as fcnn
from fcnn_gpu.activations import LeakyReLU, ReLU
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.layers import LAYERS, Layer
from fcnn_gpu.layers._base import Parameter

from ..support import naive

Spec = Any

ACTIVATIONS = ["identity", "relu", "tanh", "sigmoid", "softplus", "silu", "softmax"]


def layers(depth: int) -> st.SearchStrategy[Any]:
    """A layer without randomness, as a function that makes a fresh one."""
    width = st.integers(1, 7)
    activation = st.sampled_from(ACTIVATIONS)
    dense = st.builds(lambda n, a, b: lambda: fcnn.Dense(n, activation=a, bias=b), width, activation, st.booleans())
    plain = st.one_of(
        dense,
        st.builds(lambda a: lambda: fcnn.Activation(a), activation),
        st.just(lambda: fcnn.BatchNorm(eps=0.1)),
        st.just(lambda: fcnn.LayerNorm(eps=0.1)),
        st.just(lambda: fcnn.RMSNorm(eps=0.1)),
    )
    if depth == 0:
        return plain
    block = st.lists(layers(depth - 1), min_size=1, max_size=3)
    return st.one_of(plain, st.builds(lambda makes: lambda: fcnn.Residual([make() for make in makes]), block))


def network(makes: list[Any], n_in: int, seed: int = 0) -> fcnn.Sequential:
    model = fcnn.Sequential([make() for make in makes], n_in, seed=seed, backend="numpy", dtype="float64")
    rng = np.random.default_rng(seed)
    model.flat.values += 0.3 * rng.standard_normal(model.flat.values.size)  # zero biases would hide mistakes
    return model


@given(st.lists(layers(2), min_size=1, max_size=4), st.integers(1, 6), st.integers(2, 9), st.integers(0, 1000))
@settings(deadline=None, max_examples=80)
def test_random_stacks_compute_what_plain_numpy_does(makes: list[Any], n_in: int, batch: int, seed: int) -> None:
    model = network(makes, n_in, seed)
    X = np.random.default_rng(seed).normal(size=(batch, n_in))
    np.testing.assert_allclose(model(X), naive.outputs(model, X), rtol=1e-9, atol=1e-12)
    expected = naive.outputs(model, X, training=True)
    np.testing.assert_allclose(model.forward(X, training=True), expected, rtol=1e-9, atol=1e-12)


@given(st.lists(layers(1), min_size=1, max_size=3), st.integers(1, 5), st.integers(2, 6), st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_random_stacks_have_the_gradient_of_plain_numpy(makes: list[Any], n_in: int, batch: int, seed: int) -> None:
    """Along a random direction of all parameters and inputs together, by central differences of the naive network."""
    model = network(makes, n_in, seed)
    rng = np.random.default_rng(seed + 1)
    X = rng.normal(size=(batch, n_in))
    C = rng.normal(size=(batch, model.n_out))
    model.forward(X, training=True)
    dX = np.array(model.backward(C, input_gradient=True))
    direction, X_direction = rng.normal(size=model.flat.values.size), rng.normal(size=X.shape)
    slope = model.flat.gradients @ direction + (dX * X_direction).sum()
    theta, h = model.flat.values.copy(), 1e-6
    ends = []
    for sign in (1, -1):
        model.flat.values[...] = theta + sign * h * direction
        ends.append((C * naive.outputs(model, X + sign * h * X_direction, training=True)).sum())
    kinks = any("relu" in repr(layer) for layer in model.walk())
    assert slope == pytest.approx(
        (ends[0] - ends[1]) / (2 * h), rel=2e-2 if kinks else 1e-4, abs=2e-2 if kinks else 1e-5
    )


def test_a_worked_example() -> None:
    """100 inputs, a batch of 32, 50 neurons: W 50×100, Z 50×32."""
    dense = fcnn.Dense(50, activation="relu")
    model = fcnn.Sequential([dense], n_in=100, seed=0, backend="numpy")
    assert dense.W.shape == (50, 100)
    assert dense.b.shape == (50, 1)
    arrays = model.batch_arrays(32, training=True)
    assert arrays.caches[0].Z.shape == (50, 32)
    assert arrays.caches[0].Z.flags.f_contiguous
    assert model(np.zeros((32, 100))).shape == (32, 50)


def test_one_neuron() -> None:
    """ŷ = σ(wx + b), L = ½(y − ŷ)²: ∂L/∂w = (ŷ − y)ŷ(1 − ŷ)x, ∂L/∂b = (ŷ − y)ŷ(1 − ŷ)."""
    neuron = fcnn.Dense(1, activation="sigmoid")
    model = fcnn.Sequential([neuron], n_in=1, seed=0, backend="numpy", dtype="float64")
    neuron.W[...], neuron.b[...] = 0.7, -0.2
    x, y = 1.5, 1.0
    out = model.forward(np.array([[x]]), training=True)
    a = 1 / (1 + np.exp(-(0.7 * x - 0.2)))
    assert float(out[0, 0]) == pytest.approx(a)
    model.backward(out - y)  # ∂L/∂ŷ of ½(y − ŷ)²
    assert float(neuron.dW[0, 0]) == pytest.approx((a - y) * a * (1 - a) * x)
    assert float(neuron.db[0, 0]) == pytest.approx((a - y) * a * (1 - a))


# Live views


def test_parameters_are_live_views_of_one_buffer() -> None:
    dense, norm = fcnn.Dense(3), fcnn.LayerNorm()
    model = fcnn.Sequential([dense, norm], n_in=2, seed=0, backend="numpy", dtype="float64")
    for view in (dense.W, dense.b, norm.gamma, norm.beta):
        assert np.shares_memory(view, model.flat.values)
    for view in (dense.dW, dense.db, norm.dgamma, norm.dbeta):
        assert np.shares_memory(view, model.flat.gradients)
    dense.W[...] = [[1, 0], [0, 1], [1, 1]]
    dense.b[...] = [[0.0], [0.5], [-1.0]]
    norm.gamma[...], norm.beta[...] = 0, [[7], [8], [9]]
    np.testing.assert_array_equal(model(np.array([[1.0, 2.0]])), [[7, 8, 9]])
    assert dense.W.flags.f_contiguous  # the weights of each input lie together


def test_what_a_layer_does_not_have() -> None:
    dense = fcnn.Dense(3, bias=False)
    with pytest.raises(AttributeError, match="has no arrays yet: put it into a Sequential"):
        _ = dense.W
    with pytest.raises(RuntimeError, match=r"Dense\(\? → 3\) has no arrays yet"):
        _ = dense.ops
    fcnn.Sequential([dense], n_in=2, backend="numpy")
    assert dense.W.shape == (3, 2)
    with pytest.raises(AttributeError, match=r"Dense\(2 → 3\) has no bias"):
        _ = dense.b
    with pytest.raises(AttributeError, match=r"Dense\(2 → 3\) has no bias"):
        _ = dense.db
    with pytest.raises(AttributeError, match="put it into a Sequential"):
        _ = fcnn.BatchNorm().gamma


# Batch normalization


def test_running_statistics_follow_the_batches() -> None:
    norm = fcnn.BatchNorm(momentum=0.25)
    model = fcnn.Sequential([norm], n_in=3, backend="numpy", dtype="float64")
    rng = np.random.default_rng(0)
    mean, var = np.zeros(3), np.ones(3)
    for batch in (5, 2, 9):
        X = rng.normal(2.0, 3.0, size=(batch, 3))
        model.forward(X, training=True)
        mean = 0.75 * mean + 0.25 * X.mean(axis=0)
        var = 0.75 * var + 0.25 * X.var(axis=0, ddof=1)
        np.testing.assert_allclose(norm.running_mean.ravel(), mean)
        np.testing.assert_allclose(norm.running_var.ravel(), var)
    before = {name: array.copy() for name, array in model.named_arrays().items()}
    X = rng.normal(size=(4, 3))
    np.testing.assert_allclose(model(X), (X - mean) / np.sqrt(var + 1e-5))
    model.predict(X[:1])
    assert all((before[name] == array).all() for name, array in model.named_arrays().items())


@pytest.mark.parametrize("make", [fcnn.BatchNorm, type("Mine", (fcnn.BatchNorm,), {})])
def test_batch_norm_cannot_train_on_one_sample(make: Any) -> None:
    norm = make()
    model = fcnn.Sequential([fcnn.Residual([norm]), fcnn.Dense(2)], n_in=3, backend="numpy")
    with pytest.raises(ValueError, match="cannot train on a batch of one sample: its variance is 0"):
        model.forward(np.zeros((1, 3)), training=True)
    assert not norm.running_mean.any()
    assert int(model.random_step[0]) == 0
    assert model(np.zeros((1, 3))).shape == (1, 2)


def test_a_constant_feature_is_normalized_to_zero() -> None:
    model = fcnn.Sequential([fcnn.BatchNorm()], n_in=1, backend="numpy")
    np.testing.assert_array_equal(model.forward(np.full((4, 1), 5.0), training=True), np.zeros((4, 1)))
    layer = fcnn.Sequential([fcnn.LayerNorm()], n_in=1, backend="numpy")
    np.testing.assert_array_equal(layer(np.full((4, 1), 5.0)), np.zeros((4, 1)))


# Dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_expectation_and_drops_its_share(p: float) -> None:
    model = fcnn.Sequential([fcnn.Dropout(p)], n_in=400, seed=0, backend="numpy", dtype="float64")
    X = np.ones((500, 400))
    A = np.array(model.forward(X, training=True))
    kept = A != 0
    assert kept.mean() == pytest.approx(1 - p, abs=0.01)  # of 200,000 draws: a standard error of at most 0.0011
    np.testing.assert_allclose(A[kept], 1 / (1 - p), rtol=1e-4)
    dX = model.backward(np.ones_like(A), input_gradient=True)
    np.testing.assert_array_equal(dX, A)  # the same mask and scale
    np.testing.assert_array_equal(model(X), X)


@pytest.mark.parametrize("p", [0.0625, 0.5, 0.9])
def test_alpha_dropout_keeps_mean_and_variance(p: float) -> None:
    model = fcnn.Sequential([fcnn.AlphaDropout(p)], n_in=400, seed=0, backend="numpy", dtype="float64")
    X = np.random.default_rng(0).normal(size=(1000, 400))
    A = np.array(model.forward(X, training=True))
    assert A.mean() == pytest.approx(0.0, abs=0.01)  # of 400,000 numbers
    assert A.var() == pytest.approx(1.0, abs=0.03)
    dX = np.array(model.backward(np.ones_like(A), input_gradient=True))
    np.testing.assert_array_equal(model(X), X)
    dropped = dX == 0
    assert dropped.mean() == pytest.approx(p, abs=0.01)
    assert len(np.unique(A[dropped])) == 1
    np.testing.assert_allclose(A[~dropped], (dX * X)[~dropped] + A[~dropped][0] - (dX * X)[~dropped][0], atol=1e-12)


@pytest.mark.torch
def test_alpha_dropout_has_pytorchs_line_and_value() -> None:
    torch = pytest.importorskip("torch")
    X = np.random.default_rng(0).normal(size=(64, 32))
    model = fcnn.Sequential([fcnn.AlphaDropout(0.25)], n_in=32, seed=0, backend="numpy", dtype="float64")
    ours = np.array(model.forward(X, training=True))
    kept = np.array(model.backward(np.ones_like(ours), input_gradient=True)) != 0
    x = torch.from_numpy(X).requires_grad_()
    theirs = torch.nn.AlphaDropout(0.25)(x)
    theirs.sum().backward()
    kept_there = x.grad.numpy() != 0
    both, neither = kept & kept_there, ~kept & ~kept_there
    assert both.any()
    assert neither.any()
    np.testing.assert_allclose(ours[both], theirs.detach().numpy()[both], rtol=1e-12)
    np.testing.assert_allclose(ours[neither], theirs.detach().numpy()[neither], rtol=1e-12)


def test_alpha_dropout_takes_no_number_for_each_member() -> None:
    with pytest.raises(
        TypeError, match=r"AlphaDropout\(p\) expects one number or schedule .* Dropout takes a number for"
    ):
        fcnn.AlphaDropout([0.1, 0.2])
    with pytest.raises(ValueError, match=r"AlphaDropout\(p\) expects"):
        fcnn.AlphaDropout(1.0)


def test_gaussian_noise_is_normal_and_drawn_anew() -> None:
    stats = pytest.importorskip("scipy.stats")
    model = fcnn.Sequential([fcnn.GaussianNoise(0.5)], n_in=333, seed=0, backend="numpy", dtype="float64")
    X = np.zeros((301, 333))
    first, second = (np.array(model.forward(X, training=True)) for _ in range(2))
    for noise in (first, second):
        assert stats.kstest(noise.ravel() / 0.5, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.02  # of 100,000 pairs: a standard error of 0.003
    assert abs(np.corrcoef(first.ravel()[:-1], first.ravel()[1:])[0, 1]) < 0.02
    np.testing.assert_array_equal(model.backward(np.ones_like(X), input_gradient=True), np.ones_like(X))
    np.testing.assert_array_equal(model(X), X)


def test_gaussian_noise_follows_a_schedule() -> None:
    """σ falls from 1 to 0: what is added in the first step is large, and in the last none."""
    seen: list[float] = []

    class Watches(fcnn.Layer):
        name = "watches"

        def shapes(self, n_in: int) -> tuple[int, dict[str, tuple[int, int]]]:
            return n_in, {}

        def allocate(self, plan: Any, training: bool) -> Any:
            return None

        def forward(self, A0: Any, cache: Any, training: bool) -> Any:
            if training:
                seen.append(float(np.std(A0)))
            return A0

        def backward(self, dA: Any, cache: Any, needs_input_gradient: bool) -> Any:
            return dA

    noise = fcnn.GaussianNoise(lambda epoch, n_epochs: 1.0 - epoch / n_epochs)
    model = fcnn.Sequential([noise, Watches(), fcnn.Dense(1)], n_in=50, seed=0, backend="numpy")
    fcnn.Trainer(model, "mse").fit(np.zeros((100, 50)), np.zeros(100), epochs=4, batch_size=100, progress=False)
    np.testing.assert_allclose(seen, [1.0, 0.75, 0.5, 0.25], rtol=0.05)


@pytest.mark.parametrize(
    ("std", "message"),
    [(-0.1, r"GaussianNoise\(std\) expects a finite number of at least 0"), ("a", r"GaussianNoise\(std\)")],
)
def test_standard_deviations_that_are_none(std: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        fcnn.GaussianNoise(std)


def test_dropout_masks_follow_seed_layer_and_step() -> None:
    X = np.ones((8, 64))

    def masks(seed: int) -> list[Any]:
        first, second = fcnn.Dropout(0.5), fcnn.Dropout(0.5)
        model = fcnn.Sequential([first, second], n_in=64, seed=seed, backend="numpy")
        found = []
        for _ in range(2):
            model.forward(X, training=True)
            caches = model.batch_arrays(8, training=True).caches
            found += [caches[0].mask.copy(), caches[1].mask.copy()]
        return found

    a, b = masks(0), masks(0)
    assert all((x == y).all() for x, y in zip(a, b, strict=True))
    distinct = [*a, *masks(1)]
    for i, x in enumerate(distinct):
        for y in distinct[:i]:
            assert 0.3 < (x == y).mean() < 0.7


def test_dropout_takes_any_seed() -> None:
    for seed in (2**63, 2**64 - 1, 2**64 + 5, 2**100):
        model = fcnn.Sequential([fcnn.Dropout(0.5)], n_in=64, seed=seed, backend="numpy")
        assert 0 < np.count_nonzero(model.forward(np.ones((4, 64)), training=True)) < 256


def test_no_dropout_is_the_identity() -> None:
    model = fcnn.Sequential([fcnn.Dropout(0.0)], n_in=3, backend="numpy")
    X = np.ones((2, 3), "float32")
    np.testing.assert_array_equal(model.forward(X, training=True), X)
    np.testing.assert_array_equal(model.backward(2 * X, input_gradient=True), 2 * X)


# Residual


def test_a_projection_appears_where_the_width_changes_and_is_learned() -> None:
    same, wider = fcnn.Residual([fcnn.Dense(3)]), fcnn.Residual([fcnn.Dense(5, activation="relu")], init="zeros")
    model = fcnn.Sequential([same, wider], n_in=3, seed=0, backend="numpy")
    assert same.projection is None
    assert wider.projection is not None
    assert wider.projection.W.shape == (5, 3)
    assert not wider.projection.W.any()
    assert repr(wider) == "Residual([Dense(3 → 5, relu)], projection)"
    assert "1.projection.W" in model.named_arrays()
    assert wider.path == "1"
    assert wider.block[0].path == "1.block.0"
    fcnn.Trainer(model, "mse").fit(np.ones((4, 3)), np.ones((4, 5)), epochs=1, progress=False)
    assert wider.projection.W.any()


# Refusals


LAYER: Any = fcnn.layers


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: LAYER.Dense(0), ValueError, r"Dense\(n_out\) expects an integer of at least 1, got 0"),
        (lambda: LAYER.Dense(2.0), TypeError, r"Dense\(n_out\) expects an integer, got 2.0"),
        (lambda: LAYER.Dense(True), TypeError, r"Dense\(n_out\) expects an integer, got True"),
        (lambda: LAYER.Dense(2, "rleu"), ValueError, "Unknown activation 'rleu'. Did you mean 'relu'"),
        (lambda: LAYER.Dense(2, init="he"), ValueError, "Unknown initializer 'he'"),
        (lambda: LAYER.Dense(2, bias=1), TypeError, r"Dense\(bias\) expects True or False, got 1"),
        (lambda: LAYER.Dense(2, l1=-0.1), ValueError, r"Dense\(l1\)"),
        (lambda: LAYER.Dense(2, l2="x"), TypeError, r"Dense\(l2\) expects a number, got 'x'"),
        (lambda: LAYER.Dropout(1.0), ValueError, r"Dropout\(p\) expects a finite number in \[0, 1\), got 1.0"),
        (lambda: LAYER.Dropout(-0.1), ValueError, r"Dropout\(p\)"),
        (lambda: LAYER.BatchNorm(eps=0), ValueError, r"BatchNorm\(eps\) expects a finite number greater than 0"),
        (lambda: LAYER.BatchNorm(momentum=1.1), ValueError, r"BatchNorm\(momentum\)"),
        (lambda: LAYER.LayerNorm(eps=-1), ValueError, r"LayerNorm\(eps\)"),
        (lambda: LAYER.RMSNorm(eps=0.0), ValueError, r"RMSNorm\(eps\)"),
        (lambda: LAYER.GroupNorm(0), ValueError, r"GroupNorm\(n_groups\) expects an integer of at least 1, got 0"),
        (lambda: LAYER.Dense(2, parametrization="nkt"), ValueError, "Did you mean 'ntk'"),
        (lambda: LAYER.Scale("onse"), ValueError, "Unknown initializer 'onse'"),
        (lambda: LAYER.Scale(float("nan")), ValueError, r"Scale\(init\) expects a finite number"),
        (lambda: LAYER.PReLU("x"), TypeError, r"PReLU\(alpha\) expects a number, got 'x'"),
        (lambda: LAYER.ParametricActivation("softmax"), ValueError, "expects an elementwise activation, got Softmax"),
        (lambda: LAYER.ParametricActivation(Doubled()), ValueError, "expects an elementwise activation, got Doubled"),
        (lambda: LAYER.Activation("sotfmax"), ValueError, "Did you mean 'softmax'"),
        (lambda: LAYER.Residual([]), ValueError, "Residual expects at least one layer, got an empty list"),
        (lambda: LAYER.Residual(fcnn.Dense(2)), TypeError, "Residual expects a list of layers, got Dense"),
        (lambda: LAYER.Residual("relu"), TypeError, "Residual expects a list of layers, got 'relu'"),
        (lambda: LAYER.Residual([3]), TypeError, "A layer is a name or a Layer, got 3"),
        (lambda: LAYER.Residual(["dense"]), TypeError, r"needs arguments: write Dense\(...\) instead"),
        (lambda: LAYER.Residual(["batchnorm"]), ValueError, "Unknown layer or activation.*Did you mean 'batch_norm'"),
    ],
)
def test_arguments_that_are_refused(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_names_and_configurations_stand_for_layers() -> None:
    model = fcnn.Sequential(
        [{"name": "dense", "n_out": 4}, "batch_norm", "relu", fcnn.activations.GELU(), "dropout", fcnn.LayerNorm],
        n_in=2,
        backend="numpy",
    )
    assert [repr(layer) for layer in model.layers] == [
        "Dense(2 → 4)",
        "BatchNorm()",
        "Activation(relu)",
        "Activation(gelu)",
        "Dropout(0.5)",
        "LayerNorm()",
    ]


class CallingOps(Ops):
    """The NumPy backend, keeping which primitives layers called by themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def dense_forward(self, *args: Any) -> None:
        self.calls.append("dense_forward")
        super().dense_forward(*args)

    def dense_backward(self, *args: Any) -> None:
        self.calls.append("dense_backward")
        super().dense_backward(*args)

    def softmax(self, *args: Any) -> None:
        self.calls.append("softmax")
        super().softmax(*args)


@dataclass(frozen=True)
class Steeper(LeakyReLU):
    """A class of one's own that only sets the slope."""

    @property
    def slope(self) -> float:
        return 0.5


@dataclass(frozen=True)
class Doubled(ReLU):
    """A class of one's own that computes in its own way: 2·max(z, 0)."""

    def forward(self, ops: Any, Z: Any, b: Any, A: Any) -> None:
        super().forward(ops, Z, b, A)
        ops.scale(A, 2.0, A)

    def backward(self, ops: Any, dA: Any, saved: Any, dZ: Any, db: Any) -> None:
        ops.scale(dA, 2.0, dA)
        super().backward(ops, dA, saved, dZ, db)


@pytest.mark.parametrize(
    ("activation", "calls"),
    [
        ("relu", ["dense_forward", "dense_backward"]),
        (None, ["dense_forward", "dense_backward"]),
        (Steeper(), ["dense_forward", "dense_backward"]),
        (Doubled(), []),
        ("softmax", ["softmax"]),
    ],
)
def test_dense_fuses_what_is_a_primitive_and_nothing_else(activation: Any, calls: list[str]) -> None:
    ops = CallingOps()
    X = np.random.default_rng(0).normal(size=(4, 5))
    model = fcnn.Sequential([fcnn.Dense(3, activation=activation)], n_in=5, seed=0, dtype="float64", backend=ops)
    A = model.forward(X, training=True)
    Z = X @ model.layers[0].W.T  # type: ignore[attr-defined]
    if isinstance(activation, Doubled):
        np.testing.assert_allclose(A, 2 * np.maximum(Z, 0), rtol=1e-12)
    if isinstance(activation, Steeper):
        np.testing.assert_allclose(A, np.maximum(Z, Z / 2), rtol=1e-12)
    model.backward(np.ones((4, 3)))
    if isinstance(activation, Doubled):
        np.testing.assert_allclose(model.layers[0].dW, (2.0 * (Z > 0)).T @ X, rtol=1e-12)  # type: ignore[attr-defined]
    assert ops.calls == calls


def test_every_layer_has_a_config_that_builds_it_again() -> None:
    made = {
        "dense": fcnn.Dense(3, activation="elu", init="orthogonal", bias=False, l1=0.1, l2=0.2),
        "activation": fcnn.Activation("tanh"),
        "dropout": fcnn.Dropout(0.25),
        "alpha_dropout": fcnn.AlphaDropout(0.25),
        "gaussian_noise": fcnn.GaussianNoise(0.25),
        "batch_norm": fcnn.BatchNorm(eps=0.5, momentum=0.3),
        "layer_norm": fcnn.LayerNorm(eps=0.5),
        "group_norm": fcnn.GroupNorm(2, eps=0.5),
        "rms_norm": fcnn.RMSNorm(eps=0.5),
        "scale": fcnn.Scale(fcnn.initializers.Normal(0.5)),
        "parametric_activation": fcnn.ParametricActivation(fcnn.activations.ELU(0.5), alpha=0.5),
        "prelu": fcnn.PReLU(0.1),
        "members": fcnn.Members(2),
        "dense_ensemble": fcnn.DenseEnsemble(3, 2, activation="tanh", bias_init="normal"),
        "batch_ensemble": fcnn.BatchEnsemble(3, 2, scale_in="random_signs", scale_out=None, bias="shared"),
        "pbld": fcnn.PBLD([3, 1], frequencies=5, outputs=3, sigma=0.2),
        "periodic_embedding": fcnn.PeriodicEmbedding([0], 4, 5, 0.1, None, lite=True),
        "piecewise_linear_embedding": fcnn.PiecewiseLinearEmbedding(np.array([[0, 1.5, 2]]), [1], 3, "relu"),
        "embedding": fcnn.Embedding([0, 2], [3, 4], 5, init="he_normal"),
        "residual": fcnn.Residual([fcnn.Dense(3), fcnn.Dropout(0.1)], init="he_normal"),
        "branches": fcnn.Branches([[fcnn.Dense(3), fcnn.Dropout(0.1)], ["tanh"]]),
    }
    assert set(made) == set(LAYERS)
    for layer in made.values():
        assert LAYERS.config(LAYERS.build(LAYERS.config(layer))) == LAYERS.config(layer)


def test_a_layer_of_ones_own() -> None:
    class Scale(Layer):
        """A = s·A₀ with a learned s."""

        name = "scale"

        def _build(self, n_in: int, seed: Any) -> None:
            super()._build(n_in, seed)
            self._s = Parameter("s", np.full((1, 1), 2.0))

        def parameters(self) -> list[Parameter]:
            return [self._s]

        def allocate(self, plan: Any, training: bool) -> Any:
            cache = super().allocate(plan, training)
            cache.A = plan.matrix(self.n_out)
            return cache

        def forward(self, A0: Any, cache: Any, training: bool) -> Any:
            cache.A0 = A0
            np.multiply(A0, self._s.value, out=cache.A)
            return cache.A

        def backward(self, dA: Any, cache: Any, needs_input_gradient: bool) -> Any:
            self._s.gradient[...] = (dA * cache.A0).sum()
            dA *= self._s.value
            return dA

    model = fcnn.Sequential([Scale()], n_in=1, backend="numpy", dtype="float64")
    X = np.linspace(-1, 1, 8).reshape(-1, 1)
    fcnn.Trainer(model, "mse", fcnn.SGD(0.5)).fit(X, 5 * X, epochs=200, batch_size=8, progress=False)
    assert model.flat.values[0] == pytest.approx(5.0)


def test_the_base_says_what_to_define() -> None:
    layer = Layer()
    assert layer.parameters() == layer.sublayers() == []
    assert layer.state() == {}
    with pytest.raises(NotImplementedError, match="Layer must define forward"):
        layer.forward(None, None, True)  # type: ignore[arg-type]
    with pytest.raises(NotImplementedError, match="Layer must define backward"):
        layer.backward(None, None, True)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [fcnn.BatchNorm, fcnn.LayerNorm, fcnn.RMSNorm])
def test_normalization_does_not_hide_an_overflow(make: Any) -> None:
    """The variance of 10³⁰ overflows float32, and 0·x̂ would look like any other output."""
    model = fcnn.Sequential([make()], n_in=2, backend="numpy")
    X = np.array([[1e30, -1e30], [-1e30, 1e30], [2e30, 1e30]])
    assert np.isnan(model.forward(X, training=True)).all()
    assert np.isnan(model.forward(X)).all()
    with pytest.raises(fcnn.NonFiniteOutputError, match="output 0 of sample 0 is nan"):
        model(X)


def _nested(depth: int) -> fcnn.Layer:
    layer: fcnn.Layer = fcnn.Dense(3)
    for _ in range(depth):
        layer = fcnn.Residual([layer])
    return layer


def test_residuals_inside_each_other_do_everything_up_to_64(tmp_path: Path) -> None:
    model = fcnn.Sequential([_nested(64)], 3, seed=0, backend="numpy")
    X = np.ones((4, 3), np.float32)
    fcnn.Trainer(model, "mse", fcnn.SGD(1e-30)).fit(X, X, epochs=1, progress=False)
    model.summary()
    assert model.memory_report(4).total > 0
    assert repr(model).count("Residual") == 64
    model.save(tmp_path / "model.safetensors")
    outputs = model(X)
    for twin in (
        fcnn.load(tmp_path / "model.safetensors", backend="numpy"),
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
    ):
        np.testing.assert_array_equal(twin(X), outputs)


@pytest.mark.parametrize("depth", [65, 400, 5000])
def test_residuals_nested_deeper_are_refused_when_they_are_made(depth: int) -> None:
    with pytest.raises(ValueError, match="Residual layers are nested 65 deep here; at most 64 may be"):
        _nested(depth)


def test_any_number_of_residuals_may_stand_in_a_row(tmp_path: Path) -> None:
    model = fcnn.Sequential([fcnn.Residual([fcnn.Dense(2)]) for _ in range(400)], 2, seed=0, backend="numpy")
    model.save(tmp_path / "model.safetensors")
    assert len(fcnn.load(tmp_path / "model.safetensors", backend="numpy").layers) == 400
    assert len(copy.deepcopy(model).layers) == 400


@pytest.mark.parametrize(
    ("n_groups", "n_in", "message"),
    [
        (
            4,
            6,
            r"GroupNorm\(4\) expects a number of units that is a multiple of 4, .* got 6 units, which 1, 2, 3 groups",
        ),
        (6, 6, r"two in each group at least, got 6 units, which 1, 2, 3 groups"),
        (1, 1, r"two in each group at least, got 1 units\.$"),
    ],
)
def test_units_that_groups_cannot_share(n_groups: int, n_in: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fcnn.Sequential([fcnn.GroupNorm(n_groups)], n_in, backend="numpy")
