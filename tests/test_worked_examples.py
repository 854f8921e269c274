"""The examples that explain a fully-connected network, each as a test: shapes, one neuron, XOR, gradients, weights."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from examples import initialization, vanishing_gradients

# Shapes


def test_shapes_of_a_layer_of_50_neurons_on_100_inputs_and_a_batch_of_32() -> None:
    """Z = W·A + b: (50, 32) = (50, 100)·(100, 32) + (50, 1)."""
    model = fcnn.Sequential([fcnn.Dense(50)], n_in=100, seed=0, backend="numpy")
    dense: Any = model.layers[0]
    X = np.random.default_rng(0).standard_normal((32, 100)).astype("float32")
    outputs = model.forward(X, training=True)
    cache = model.batch_arrays(32, training=True).caches[0]
    assert dense.W.shape == (50, 100)
    assert dense.b.shape == (50, 1)
    assert cache.A0.shape == (100, 32)
    assert cache.Z.shape == (50, 32)
    assert outputs.shape == (32, 50), "what users get is samples by outputs: Zᵀ"
    np.testing.assert_allclose(outputs.T, dense.W @ X.T + dense.b, rtol=1e-5, atol=1e-5)

    dA0: Any = model.backward(np.ones((32, 50), "float32"), input_gradient=True)
    assert dense.dW.shape == (50, 100)
    assert dense.db.shape == (50, 1)
    assert dA0.shape == (32, 100)


# One neuron


@pytest.mark.parametrize(
    ("x", "w", "b", "y"), [(2.0, 0.5, -0.5, 1.0), (-1.5, 3.0, 0.25, 0.0), (0.0, 1.0, 1.0, 0.5), (4.0, -0.1, 0.0, 0.9)]
)
@pytest.mark.parametrize("through", ["the loss", "by hand"])
def test_one_neuron(x: float, w: float, b: float, y: float, through: str) -> None:
    """ŷ = σ(wx + b), L = ½(y − ŷ)²: ∂L/∂w = (ŷ − y)ŷ(1 − ŷ)x, ∂L/∂b without the x, ∂L/∂x with w for x.

    MSE has no factor ½; a sample weight of ½ puts it there.
    """
    model = fcnn.Sequential([fcnn.Dense(1, activation="sigmoid")], n_in=1, seed=0, dtype="float64", backend="numpy")
    neuron: Any = model.layers[0]
    neuron.W[...], neuron.b[...] = w, b
    outputs = model.forward([[x]], training=True)
    if through == "the loss":
        loss = fcnn.MSE()
        value = float(loss.forward(outputs, [y], sample_weight=[0.5]))
        gradient = loss.backward()
    else:
        value, gradient = 0.5 * (y - outputs[0, 0]) ** 2, outputs - y
    dX: Any = model.backward(gradient, input_gradient=True)

    y_hat = 1.0 / (1.0 + math.exp(-(w * x + b)))
    dz = (y_hat - y) * y_hat * (1.0 - y_hat)
    assert value == pytest.approx(0.5 * (y - y_hat) ** 2, rel=1e-14)
    assert neuron.dW[0, 0] == pytest.approx(dz * x, rel=1e-13)
    assert neuron.db[0, 0] == pytest.approx(dz, rel=1e-13)
    assert dX[0, 0] == pytest.approx(dz * w, rel=1e-13)


# XOR

XOR_X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], "float32")
XOR_Y = np.array([0, 1, 1, 0])


def train_on_xor(layers: list[Any], seed: int) -> tuple[float, float]:
    """(loss, accuracy) after 300 steps on the four points."""
    model = fcnn.Sequential(layers, n_in=2, seed=seed, backend="numpy")
    trainer = fcnn.Trainer(model, "binary_cross_entropy", fcnn.Adam(0.05), metrics=["accuracy"])
    trainer.fit(XOR_X, XOR_Y, epochs=300, batch_size=4, progress=False)
    result = trainer.evaluate(XOR_X, XOR_Y)
    return result["loss"], result["accuracy"]


@pytest.mark.parametrize("seed", range(20))
def test_xor_needs_two_layers(seed: int) -> None:
    """One layer is a line in the plane, and no line parts XOR: its loss cannot go below log 2, that of guessing.

    At the optimum w = 0 and b = 0: the loss is convex, and the gradient there is 0 by symmetry.
    """
    loss, accuracy = train_on_xor([fcnn.Dense(1)], seed)
    assert loss >= math.log(2) - 1e-6
    assert accuracy <= 0.75
    loss, accuracy = train_on_xor([fcnn.Dense(8, activation="tanh"), fcnn.Dense(1)], seed)
    assert accuracy == 1.0
    assert loss < 0.1


# Vanishing gradients


@pytest.mark.parametrize("seed", range(3))
def test_ten_sigmoid_layers_starve_the_first(seed: int) -> None:
    """‖∂L/∂W‖ of the first layer over the last's: 2e-6 (sigmoid), 0.2 (residual), 1 (ReLU, He); -s prints them."""
    ratios = {}
    for name, make_layer in vanishing_gradients.HIDDEN_LAYERS.items():
        norms = vanishing_gradients.gradient_norms(make_layer, seed=seed)
        assert len(norms) == 10
        ratios[name] = norms[0] / norms[-1]
        print(f"first/last gradient norm, {name}: {ratios[name]:.2e}")
    assert ratios["sigmoid"] < 1e-5
    assert ratios["sigmoid, residual"] > 0.1
    assert ratios["ReLU, He"] > 0.3


def test_small_weights_starve_all_layers() -> None:
    """N(0, 0.01) with ReLU: the ratio is about 1, but every layer's gradient is 10⁻¹¹ of what He's weights give."""
    small = vanishing_gradients.gradient_norms(vanishing_gradients.HIDDEN_LAYERS["ReLU, N(0, 0.01)"])
    he = vanishing_gradients.gradient_norms(vanishing_gradients.HIDDEN_LAYERS["ReLU, He"])
    assert max(small) < 1e-9 * min(he)


# L2 alone


@pytest.mark.parametrize("layers", [1, 3])
def test_l2_alone_multiplies_weights_by_1_minus_2_eta_lambda(layers: int) -> None:
    """With X = 0 and no biases every A₀ is 0, so ∂L/∂W = dZ·A₀ᵀ = 0, and the penalty is all that is left."""
    eta, lam, batches, epochs = 0.1, 0.03, 2, 5
    stack = [fcnn.Dense(6, activation="tanh", bias=False, l2=lam) for _ in range(layers)]
    model = fcnn.Sequential(stack, n_in=4, seed=0, dtype="float64", backend="numpy")
    initial = [layer.W.copy() for layer in stack]
    trainer = fcnn.Trainer(model, "mse", fcnn.SGD(eta))
    history = trainer.fit(np.zeros((8, 4)), np.ones((8, 6)), epochs=epochs, batch_size=8 // batches, progress=False)
    factor = (1.0 - 2.0 * eta * lam) ** (batches * epochs)
    for layer, W in zip(stack, initial, strict=True):
        assert not layer.dW.any(), "the data's gradient is 0"
        np.testing.assert_allclose(layer.W, factor * W, rtol=1e-13)
    expected = lam * sum(float((W**2).sum()) for W in initial) * factor**2
    assert history["penalty"][-1] == pytest.approx(expected, rel=1e-12)
    assert history["loss"] == [1.0] * epochs, "the data loss is reported apart from the penalty"


def test_l2_step_by_step_through_the_explicit_loop() -> None:
    """Each single step multiplies by 1 − 2ηλ; weights without a penalty stay."""
    eta, lam = 0.05, 0.2
    first, second = fcnn.Dense(5, bias=False, l2=lam), fcnn.Dense(2, bias=False)
    model = fcnn.Sequential([first, second], n_in=3, seed=1, dtype="float64", backend="numpy")
    loss, optimizer = fcnn.MSE(), fcnn.SGD(eta).bind(model)
    kept = second.W.copy()
    for _ in range(10):
        before = first.W.copy()
        loss.forward(model.forward(np.zeros((4, 3)), training=True), np.ones((4, 2)))
        model.backward(loss.backward())
        optimizer.step()
        np.testing.assert_allclose(first.W, (1.0 - 2.0 * eta * lam) * before, rtol=1e-15)
    np.testing.assert_array_equal(second.W, kept)


# The variance of the signal


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("scheme", initialization.BANDS)
def test_variance_stays_in_its_band(scheme: str, seed: int) -> None:
    low, high = initialization.BANDS[scheme]
    variances = initialization.preactivation_variances(*initialization.SCHEMES[scheme], seed=seed)
    assert len(variances) == 20
    assert low < min(variances)
    assert max(variances) < high


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_variance_leaves_every_band_with_small_weights(activation: str) -> None:
    """n_in·Var(w) = 512·10⁻⁴ ≈ 0.05 a layer for tanh, half of that for ReLU."""
    variances = initialization.preactivation_variances(activation, "normal")
    lowest = min(low for low, _ in initialization.BANDS.values())
    assert all(later < 0.1 * earlier for earlier, later in itertools.pairwise(variances))
    assert variances[1] < lowest
    assert variances[-1] < 1e-20


@pytest.mark.parametrize("scheme", initialization.BANDS)
def test_the_default_initializer_is_the_one_that_fits(scheme: str) -> None:
    activation, init = initialization.SCHEMES[scheme]
    assert fcnn.Dense(3, activation=activation).init.name == init


@pytest.mark.parametrize("example", [vanishing_gradients, initialization], ids=lambda module: module.__name__)
def test_example_runs(example: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if example is initialization:
        monkeypatch.setattr(initialization, "BATCH", 50)
    example.main()
    printed = capsys.readouterr().out
    assert "before training" in printed
    assert "band" in printed or "first / last" in printed
