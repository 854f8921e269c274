"""Every gradient against central differences in float64, from the registries; and the checker against wrong gradients.

The tolerance throughout is `gradient_check.TOLERANCE`, 1e-6 relative: truncation and rounding of the differences come
to about 1e-9 here, and the mistakes of `test_a_wrong_gradient_is_caught` are all off by more than 1e-3.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu._types import Array, HostArray
from fcnn_gpu.activations import ACTIVATIONS, Activation
from fcnn_gpu.backend._ops import BLOCK, FlatParameters, Ops, Segment
from fcnn_gpu.gradient_check import GradientReport, check_layer, check_loss, check_model, check_regularizer
from fcnn_gpu.regularizers import Regularizer
from tests.support.registry_cases import FAMILIES, LOSS_CASES, LayerCase, LossCase, away_from_kinks, labelled


def build(layers: list[Any], n_in: int, seed: int = 0, backend: Any = "numpy") -> fcnn.Sequential:
    """A float64 network whose biases and normalization parameters are not at their special initial values."""
    model = fcnn.Sequential(layers, n_in, seed=seed, dtype="float64", backend=backend)
    rng = np.random.default_rng([seed, 1])
    for parameter in model.parameters:
        initial = model.ops.to_numpy(parameter.value)
        model.ops.assign(parameter.value, initial + 0.2 * rng.standard_normal(initial.shape))
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_every_member_has_a_case(family: str) -> None:
    missing = [name for name in FAMILIES[family].registry if not FAMILIES[family].cases.get(name)]
    assert not missing, f"no case in tests/support/registry_cases.py for {family} {', '.join(missing)}"


# Each member alone


@pytest.mark.parametrize("batch", [1, 2, 5, 17])
@pytest.mark.parametrize(("name", "case"), labelled("layer"))
def test_layer(name: str, case: LayerCase, batch: int) -> None:
    if case.needs_two_samples and batch == 1:
        with pytest.raises(ValueError, match="batch of one sample"):
            check_layer(case.make(), case.n_in, batch)
        return
    report = check_layer(case.make(), case.n_in, batch, max_entries=200)
    assert report.passed, report


@pytest.mark.parametrize(("name", "activation"), labelled("activation"))
def test_activation_in_a_dense_layer(name: str, activation: Activation) -> None:
    report = check_layer(fcnn.Dense(6, activation=activation), n_in=4, batch=7)
    assert report.passed, report
    assert set(report.errors) == {"0.W", "0.b", "X"}


@pytest.mark.parametrize(("name", "activation"), labelled("activation"))
def test_activation_as_a_layer(name: str, activation: Activation) -> None:
    """The one input whose kinks are known, so every entry counts: none may be left out."""
    rng = np.random.default_rng(3)
    model = build([fcnn.Activation(activation)], n_in=9)
    X = 3.0 * away_from_kinks(rng, (4, 9))
    report = check_model(model, "mse", X, rng.standard_normal((4, 9)))
    assert report.passed, report
    assert (report.worst.n_compared, report.worst.n_kinks) == (36, 0)


@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("batch", [1, 6])
@pytest.mark.parametrize(("name", "case"), labelled("loss"))
def test_loss(name: str, case: LossCase, batch: int, weighted: bool) -> None:
    rng = np.random.default_rng(5)
    outputs, y = 2.0 * rng.standard_normal((batch, case.n_outputs)), case.targets(rng, batch)
    weight = rng.uniform(0.2, 3.0, batch) if weighted else None
    report = check_loss(case.loss, outputs, y, weight)
    assert report.passed, report
    assert report.worst.n_compared == outputs.size


@pytest.mark.parametrize(("name", "case"), labelled("loss"))
def test_loss_ignores_samples_of_weight_zero(name: str, case: LossCase) -> None:
    rng = np.random.default_rng(6)
    outputs, y = rng.standard_normal((4, case.n_outputs)), case.targets(rng, 4)
    loss = copy.copy(case.loss)
    loss.forward(outputs, y, np.array([1.0, 0.0, 2.0, 0.0]))
    gradient = loss.backward()
    assert not gradient[[1, 3]].any()
    assert gradient[[0, 2]].any(axis=1).all()


@pytest.mark.parametrize(("name", "regularizer"), labelled("regularizer"))
def test_regularizer(name: str, regularizer: Regularizer) -> None:
    rng = np.random.default_rng(7)
    report = check_regularizer(regularizer, away_from_kinks(rng, (5, 7)))
    assert report.passed, report
    assert report.worst.n_compared == 35


@pytest.mark.parametrize(("name", "regularizer"), labelled("regularizer"))
def test_regularizer_in_a_layer(name: str, regularizer: Regularizer) -> None:
    """l1= and l2= of a layer are the regularizer: objective_gradient − data gradient is its gradient."""
    l1, l2 = regularizer.factors
    model = build([fcnn.Dense(5, activation="tanh", l1=l1, l2=l2), fcnn.Dense(2)], n_in=4)
    rng = np.random.default_rng(8)
    X, y = rng.standard_normal((6, 4)), rng.standard_normal((6, 2))
    report = check_model(model, "mse", X, y)
    assert report.passed, report

    loss = fcnn.MSE()
    loss.forward(model.forward(X, training=True), y)
    model.backward(loss.backward())
    difference = model.objective_gradient() - model.flat.gradients
    W = model.layers[0].W  # type: ignore[attr-defined]
    # one rounding of g + R′, relative to the larger of the two
    np.testing.assert_allclose(difference[: W.size], regularizer.gradient(W).T.reshape(-1), atol=1e-15)
    assert not difference[W.size :].any(), "biases and the other layer carry no penalty"
    assert model.penalty() == pytest.approx(regularizer.value(W), rel=1e-14)


# Sizes


@pytest.mark.parametrize(
    ("n_in", "n_out"), [(1, 1), (1, 33), (33, 1), (3, BLOCK + 7), (BLOCK + 7, 2)], ids=lambda n: str(n)
)
@pytest.mark.parametrize("batch", [1, 3])
def test_dense_of_extreme_widths(n_in: int, n_out: int, batch: int) -> None:
    report = check_layer(fcnn.Dense(n_out, activation="softplus", l2=1e-4), n_in, batch)
    assert report.passed, report


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_activations_over_more_than_one_tile(activation: str) -> None:
    """The elementwise passes go over tiles of BLOCK elements; here a row is longer, so tiles split columns too."""
    model = build([fcnn.Dense(BLOCK + 33, activation=activation), fcnn.Dense(2, bias=False)], n_in=2)
    model.layers[1].W[...] = np.random.default_rng(0).standard_normal((2, BLOCK + 33))  # type: ignore[attr-defined]
    rng = np.random.default_rng(9)
    report = check_model(model, "mse", rng.standard_normal((3, 2)), rng.standard_normal((3, 2)), n_directions=2)
    assert report.passed, report


@pytest.mark.parametrize(
    "layer",
    [fcnn.BatchNorm(), fcnn.LayerNorm(), fcnn.Dropout(0.4), fcnn.Residual(["silu"]), fcnn.Activation("softmax")],
    ids=lambda layer: layer.name,
)
@pytest.mark.parametrize("batch", [2, 5])
def test_layers_over_more_than_one_tile(layer: fcnn.Layer, batch: int) -> None:
    report = check_layer(layer, BLOCK + 33, batch)
    assert report.passed, report


@pytest.mark.parametrize("name", LOSS_CASES)
def test_losses_over_more_than_one_tile(name: str) -> None:
    rng = np.random.default_rng(10)
    n_outputs = BLOCK + 33
    classes = name in ("cross_entropy", "focal")
    targets: Any = rng.integers(0, n_outputs, 3) if classes else rng.uniform(0, 1, (3, n_outputs))
    targets = np.round(targets) if name == "hinge" else targets
    targets = targets / targets.sum(axis=1, keepdims=True) if name == "kl_divergence" else targets
    report = check_loss(name, 2.0 * rng.standard_normal((3, n_outputs)), targets, rng.uniform(0.5, 2.0, 3))
    assert report.passed, report


# Random stacks


def random_layer(rng: np.random.Generator, width: int, depth: int) -> fcnn.Layer:
    """Any layer, with any options; residual blocks hold up to three of them."""
    kinds = ["dense", "dense", "activation", "dropout", "batch_norm", "layer_norm", "residual"]
    kind = str(rng.choice(kinds if depth < 2 else kinds[:-1]))
    activation = str(rng.choice(list(ACTIVATIONS)))
    if kind == "dense":
        return fcnn.Dense(
            int(rng.integers(1, 7)),
            activation=activation,
            bias=bool(rng.integers(2)),
            l1=float(rng.choice([0.0, 0.02])),
            l2=float(rng.choice([0.0, 0.1])),
        )
    if kind == "residual":
        block = [random_layer(rng, width, depth + 1) for _ in range(int(rng.integers(1, 4)))]
        if rng.integers(2):
            block.append(fcnn.Dense(width, bias=bool(rng.integers(2))))
        return fcnn.Residual(block)
    layers: dict[str, Callable[[], fcnn.Layer]] = {
        "activation": lambda: fcnn.Activation(activation),
        "dropout": lambda: fcnn.Dropout(float(rng.uniform(0.0, 0.6))),
        "batch_norm": lambda: fcnn.BatchNorm(eps=0.01),
        "layer_norm": lambda: fcnn.LayerNorm(eps=0.01),
    }
    return layers[kind]()


@pytest.mark.parametrize("seed", range(60))
def test_random_stack(seed: int) -> None:
    """Random networks with random losses, sample weights and batch sizes: every parameter and the input.

    ε = 0.01 in the normalizations: behind a unit that is dead for the whole batch, ε = 1e-5 gives slopes of 300 and
    curvatures to match, whose truncation error is no mistake of the gradient.
    """
    rng = np.random.default_rng([2024, seed])
    n_in, batch = int(rng.integers(1, 8)), int(rng.integers(2, 9))
    cases = FAMILIES["loss"].all_cases()
    case: LossCase = cases[seed % len(cases)][1]
    layers = [random_layer(rng, n_in, 0) for _ in range(int(rng.integers(1, 6)))]
    model = build([*layers, fcnn.Dense(case.n_outputs, l2=0.05)], n_in, seed)
    X, y = rng.standard_normal((batch, n_in)), case.targets(rng, batch)
    weight = rng.uniform(0.1, 2.0, batch) if rng.integers(2) else None
    report = check_model(model, case.loss, X, y, weight, n_directions=2, max_entries=24, seed=seed)
    assert report.passed, f"{model}\n{report}"
    assert len(report.checks) == len(model.parameters) + 1


def test_a_deep_network_of_every_activation() -> None:
    layers: list[Any] = []
    for name in ACTIVATIONS:
        layers += [fcnn.Dense(9, activation=name, l1=1e-3, l2=1e-3), fcnn.LayerNorm(), fcnn.Dropout(0.1)]
    model = build([*layers, fcnn.Dense(4)], n_in=5, seed=11)
    rng = np.random.default_rng(11)
    report = check_model(model, "cross_entropy", rng.standard_normal((6, 5)), rng.integers(0, 4, 6), n_directions=2)
    assert report.passed, report


@pytest.mark.parametrize("name", list(FAMILIES["layer"].registry))
def test_layer_on_every_backend(ops: Ops, name: str) -> None:
    """The same check with CUDA kernels in place of NumPy: executed on the CPU, and on a GPU where there is one."""
    case: LayerCase = FAMILIES["layer"].cases[name][-1]
    report = check_layer(case.make(), case.n_in, batch=3, backend=ops, max_entries=0, n_directions=2)
    assert report.passed, report


def test_network_on_every_backend(ops: Ops) -> None:
    block = fcnn.Residual([fcnn.Dense(5, activation="gelu", l2=0.1), fcnn.Dropout(0.3), fcnn.Dense(4)])
    layers = [fcnn.Dense(7, activation="tanh", l1=0.01), fcnn.BatchNorm(), block, fcnn.LayerNorm(), fcnn.Dense(3)]
    model = build(layers, n_in=5, backend=ops)
    rng = np.random.default_rng(12)
    X, y, weight = rng.standard_normal((6, 5)), rng.integers(0, 3, 6), rng.uniform(0.5, 2.0, 6)
    before = {name: ops.to_numpy(array).copy() for name, array in model.named_arrays().items()}
    report = check_model(model, fcnn.CrossEntropy(0.1, [1.0, 2.0, 0.5]), X, y, weight, max_entries=0, n_directions=1)
    assert report.passed, report
    for array_name, array in model.named_arrays().items():
        np.testing.assert_array_equal(ops.to_numpy(array), before[array_name])


# The checker itself: it must see what is wrong, and nothing else


@dataclass(eq=False, repr=False)
class _Broken(fcnn.Dense):
    """A Dense layer whose backward pass is spoilt in one way."""

    mistake: str = ""

    def backward(self, dA: Array, cache: SimpleNamespace, needs_input_gradient: bool) -> Array | None:
        dA0 = super().backward(dA, cache, needs_input_gradient)
        dW, db = self.dW, self.db
        if self.mistake == "factor":
            dW *= 1.01
        elif self.mistake == "sign":
            dW *= -1.0
        elif self.mistake == "transposed":
            dW[...] = dW.T.copy()
        elif self.mistake == "one entry":
            dW[1, 2] += 1e-3
        elif self.mistake == "no bias gradient":
            db.fill(0.0)
        elif self.mistake == "mean for sum":
            db /= dA.shape[1]
        elif self.mistake == "not a number":
            dW[0, 0] = np.nan
        elif self.mistake == "input gradient" and dA0 is not None:
            dA0 *= 0.5
        return dA0


MISTAKES = {
    "factor": ["0.W"],
    "sign": ["0.W"],
    "transposed": ["0.W"],
    "one entry": ["0.W"],
    "no bias gradient": ["0.b"],
    "mean for sum": ["0.b"],
    "not a number": ["0.W"],
    "input gradient": ["X"],
}


@pytest.mark.parametrize("max_entries", [0, 100], ids=["directions", "entries"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_gradient_is_caught(mistake: str, max_entries: int) -> None:
    layer = _Broken(4, activation="tanh", mistake=mistake)
    report = check_layer(layer, n_in=4, batch=6, max_entries=max_entries)
    assert report.failed == MISTAKES[mistake], report
    assert not report.passed
    assert report.worst.name == MISTAKES[mistake][0]


def test_the_wrong_entry_is_named() -> None:
    report = check_layer(_Broken(4, activation="tanh", mistake="one entry"), n_in=4, batch=6)
    assert report.worst.entry == (1, 2)
    assert report.worst.analytic - report.worst.numeric == pytest.approx(1e-3, rel=1e-4)


def test_a_wrong_gradient_deep_inside_is_caught_where_it_is_and_below() -> None:
    """A wrong ∂L/∂A₀ of layer 1 makes everything in front of it wrong and nothing behind it."""
    block = fcnn.Residual([_Broken(5, activation="tanh", mistake="input gradient")])
    model = build([fcnn.Dense(5, activation="tanh"), block, fcnn.Dense(2)], n_in=3)
    rng = np.random.default_rng(0)
    report = check_model(model, "mse", rng.standard_normal((4, 3)), rng.standard_normal((4, 2)))
    assert report.failed == ["0.W", "0.b", "X"], report


class _HalfPenalty(Ops):
    """λw for the gradient of λΣw²: the ½ that other conventions put into the penalty."""

    def penalized_gradient(self, flat: FlatParameters, out: Array, loss_scale: Array | None = None) -> None:
        halved = tuple(Segment(s.start, s.stop, s.l1, s.l2 / 2, s.decay) for s in flat.segments)
        super().penalized_gradient(FlatParameters(flat.values, flat.gradients, halved), out, loss_scale)


class _NoMaskBackward(Ops):
    """Dropout that forgets its mask on the way back."""

    def dropout_backward(self, dA: Array, p: Any, mask: Array, out: Array) -> None:
        out[...] = dA / (1.0 - p)


class _FixedStatistics(Ops):
    """Batch normalization that takes μ and σ for constants: the commonest mistake in its gradient."""

    def batch_norm_backward(
        self, dY: Array, gamma: Array, x_hat: Array, inv_std: Array, dgamma: Array, dbeta: Array, dX: Array
    ) -> None:
        dY = dY.copy()
        super().batch_norm_backward(dY, gamma, x_hat, inv_std, dgamma, dbeta, dX)
        dX[...] = dY * gamma * inv_std


class _DiagonalSoftmax(Ops):
    """Softmax with the diagonal of its Jacobian alone."""

    def softmax_backward(self, dA: Array, A: Array, dZ: Array) -> None:
        dZ[...] = dA * A * (1.0 - A)


@pytest.mark.parametrize(
    ("ops", "layers", "wrong"),
    [
        (_HalfPenalty(), [fcnn.Dense(4, l2=0.3)], ["0.W"]),
        (_NoMaskBackward(), [fcnn.Dense(4), fcnn.Dropout(0.5), fcnn.Dense(3)], ["0.W", "0.b", "X"]),
        (_FixedStatistics(), [fcnn.Dense(4), fcnn.BatchNorm(), fcnn.Dense(3)], ["0.W", "0.b", "X"]),
        (_DiagonalSoftmax(), [fcnn.Dense(4, activation="softmax"), fcnn.Dense(3)], ["0.W", "0.b", "X"]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Ops) else "",
)
def test_a_wrong_primitive_is_caught(ops: Ops, layers: list[fcnn.Layer], wrong: list[str]) -> None:
    model = build(layers, n_in=5, backend=ops)
    rng = np.random.default_rng(1)
    report = check_model(model, "mse", rng.standard_normal((6, 5)), rng.standard_normal((6, model.n_out)))
    assert report.failed == wrong, report


@dataclass
class _SumNotMean(fcnn.MSE):
    """A loss that leaves 1/batch out of its gradient."""

    def backward(self) -> Array:
        gradient = super().backward()
        return gradient * len(gradient)


def test_a_wrong_loss_is_caught() -> None:
    rng = np.random.default_rng(2)
    outputs, y = rng.standard_normal((4, 3)), rng.standard_normal((4, 3))
    report = check_loss(_SumNotMean(), outputs, y)
    assert not report.passed
    assert report.worst.analytic == pytest.approx(4 * report.worst.numeric, rel=1e-6)


@dataclass(frozen=True)
class _WrongPenalty(fcnn.regularizers.L2):
    def gradient(self, W: Array) -> Array:
        return self.l2 * W


def test_a_wrong_regularizer_is_caught() -> None:
    assert check_regularizer(_WrongPenalty(), np.ones((2, 3))).failed == ["W"]


@dataclass(frozen=True)
class _TransposedPenalty(fcnn.regularizers.L2):
    def gradient(self, W: Array) -> Array:
        return super().gradient(W).T


def test_a_gradient_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"gradient of W has shape \(3, 2\), W itself \(2, 3\)"):
        check_regularizer(_TransposedPenalty(), np.ones((2, 3)))


def test_kinks_are_left_out_and_counted() -> None:
    """|e| has no derivative at e = 0: that entry is left out, the others are compared."""
    report = check_loss("mae", np.array([[1.0, 2.0], [3.0, -4.0]]), np.array([[1.0, 0.0], [0.0, 0.0]]))
    assert report.worst.n_kinks == 0, "sign(0) = 0 is the mean of the two slopes, which a centred difference finds"
    report = check_model(build([fcnn.Activation("relu")], 3), "mse", np.array([[0.0, 1.0, -1.0]]), np.ones((1, 3)))
    assert (report.worst.n_kinks, report.worst.n_compared) == (1, 2)
    assert report.passed, report
    assert "1 at kinks left out" in str(report)


@pytest.mark.parametrize("distance", [1e-9, 3e-7, 1e-6, 1.2e-6, 2e-6, 5e-6, 6e-6])
def test_a_kink_within_the_step_is_no_failure(distance: float) -> None:
    """The step is 6e-6: a kink anywhere inside is seen, and a smaller step is taken, or the entry left out."""
    model = build([fcnn.Activation("relu")], 1)
    for x in (distance, -distance):
        report = check_model(model, "mse", np.array([[x], [2.0]]), np.ones((2, 1)))
        assert report.passed, report


def test_an_array_that_is_all_kinks_fails() -> None:
    report = check_model(build([fcnn.Activation("relu")], 2), "mse", np.zeros((1, 2)), np.ones((1, 2)))
    assert not report.passed
    assert report.failed == ["X"]
    assert math.isnan(report.worst.error)
    assert "nothing compared, 2 at kinks" in str(report)
    along = check_model(
        build([fcnn.Activation("relu")], 2), "mse", np.zeros((1, 2)), np.ones((1, 2)), max_entries=0, n_directions=1
    )
    assert not along.passed


def test_a_kink_does_not_excuse_a_wrong_gradient() -> None:
    """A ReLU network, where some kinks are always near, with a gradient that is 1 % too large."""
    layer = _Broken(40, activation="relu", mistake="factor")
    assert check_layer(layer, n_in=30, batch=50).failed == ["0.W"]


def all_state(model: fcnn.Sequential) -> dict[str, HostArray]:
    state = {name: np.array(array) for name, array in model.named_arrays().items()}
    return state | {"gradients": model.flat.gradients.copy(), "random_step": model.random_step.copy()}


@pytest.mark.parametrize("interrupted", [False, True])
def test_the_model_is_left_as_it_was_found(interrupted: bool) -> None:
    model = build([fcnn.Dense(4, l1=0.1), fcnn.BatchNorm(), fcnn.Dropout(0.5), fcnn.Dense(3)], n_in=5)
    rng = np.random.default_rng(4)
    X, y = rng.standard_normal((6, 5)), rng.integers(0, 3, 6)
    loss = fcnn.CrossEntropy()
    loss.forward(model.forward(X, training=True), y)
    kept = loss.backward().copy()
    model.backward(loss.backward())
    before, X_before = all_state(model), X.copy()
    if interrupted:
        with pytest.raises(ValueError, match="expects labels 0"):
            check_model(model, loss, X, y + 7)
    else:
        assert check_model(model, loss, X, y).passed
    after = all_state(model)
    assert before.keys() == after.keys()
    for name, array in before.items():
        np.testing.assert_array_equal(array, after[name], err_msg=name)
    np.testing.assert_array_equal(X, X_before)
    np.testing.assert_array_equal(loss.backward(), kept, "the loss keeps the gradient of its own last batch")


def test_check_layer_works_on_a_copy() -> None:
    layer = fcnn.Dense(3)
    assert check_layer(layer, n_in=2).passed
    assert fcnn.Sequential([layer], n_in=7).n_out == 3, "the layer still belongs to no model"


def test_the_same_seed_gives_the_same_report() -> None:
    reports = [check_layer(fcnn.Dense(30, activation="tanh"), n_in=9, seed=seed) for seed in (1, 1, 2)]
    assert reports[0] == reports[1]
    assert reports[0] != reports[2]


def test_report_reads_well() -> None:
    good = str(check_layer(fcnn.Dense(4, activation="tanh"), n_in=20))
    assert good.startswith("gradient check passed, tolerance 1e-06\n")
    assert "0.W (4, 20): relative error " in good
    assert "3 directions" in good
    assert "4 entries" in good
    bad: GradientReport = check_layer(_Broken(4, activation="tanh", mistake="one entry"), n_in=4)
    first, second, *_ = str(bad).splitlines()
    assert first == "gradient check FAILED (0.W), tolerance 1e-06"
    assert second.startswith("  0.W (4, 4): relative error ")
    assert "at [1, 2] (analytic " in second


def test_bad_arguments_are_refused() -> None:
    X, y = np.ones((2, 3)), [0, 1]
    single = fcnn.Sequential([fcnn.Dense(2)], n_in=3, backend="numpy")
    with pytest.raises(ValueError, match=r"float64 model.*dtype='float64'"):
        check_model(single, "mse", X, np.ones((2, 2)))
    model = build([fcnn.Dense(2)], n_in=3)
    with pytest.raises(ValueError, match=r"expects X of shape \(n_samples, 3\)"):
        check_model(model, "cross_entropy", np.ones((2, 4)), y)
    with pytest.raises(ValueError, match="n_directions"):
        check_model(model, "cross_entropy", X, y, n_directions=0)
    with pytest.raises(ValueError, match="tolerance"):
        check_model(model, "cross_entropy", X, y, tolerance=0.0)
    with pytest.raises(ValueError, match="belongs to no model"):
        check_layer(model.layers[0], n_in=3)
    with pytest.raises(TypeError, match="expects a Layer"):
        check_layer("dense", n_in=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Did you mean 'mse'"):
        check_loss("mze", X, X)
    with pytest.raises(ValueError, match=r"outputs.*nan"):
        check_loss("mse", np.array([[np.nan]]), np.array([[0.0]]))
