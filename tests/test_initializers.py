"""Initial weights: bounds and variance of each initializer, seeds, defaults, and the warning of symmetric neurons."""

from __future__ import annotations

import copy
import math
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import fcnn_gpu as fcnn
from fcnn_gpu.backend import Ops
from fcnn_gpu.initializers import (
    INITIALIZERS,
    Array,
    Constant,
    ElementwiseInitializer,
    Initializer,
    Normal,
    Orthogonal,
    RandomSigns,
    TruncatedNormal,
    Uniform,
    VarianceScaling,
)

N_OUT, N_IN = 300, 500

UNIFORM = {
    "xavier_uniform": math.sqrt(6 / (N_IN + N_OUT)),
    "he_uniform": math.sqrt(6 / N_IN),
    "lecun_uniform": math.sqrt(3 / N_IN),
    "fan_in_uniform": math.sqrt(1 / N_IN),
    "uniform": 0.05,
}
"""The bound a of U(−a, a)."""

NORMAL = {
    "xavier_normal": math.sqrt(2 / (N_IN + N_OUT)),
    "he_normal": math.sqrt(2 / N_IN),
    "lecun_normal": math.sqrt(1 / N_IN),
    "normal": 0.01,
}
"""The standard deviation."""

OF_DATA = [name for name in INITIALIZERS if INITIALIZERS[name].looks_at_data]  # test_data_initializers.py
DRAWN = [name for name in INITIALIZERS if name != "array" and name not in OF_DATA]
"""What can be had by its name alone."""


def draw(name: Any, n_out: int = N_OUT, n_in: int = N_IN, seed: int = 0) -> Any:
    return INITIALIZERS.resolve(name)(np.random.default_rng(seed), n_out, n_in)


def test_every_initializer_is_tested() -> None:
    apart = {
        "orthogonal",
        "constant",
        "zeros",
        "truncated_normal",
        "variance_scaling",
        "array",
        "random_signs",
        *OF_DATA,
    }
    assert set(INITIALIZERS) == set(UNIFORM) | set(NORMAL) | apart


@pytest.mark.parametrize("name", DRAWN)
def test_shape_dtype_and_seed(name: str) -> None:
    W = draw(name, 30, 50)
    assert W.shape == (30, 50)
    assert W.dtype == np.float64
    assert W.flags.c_contiguous
    np.testing.assert_array_equal(W, draw(name, 30, 50))
    if name not in ("constant", "zeros"):
        assert (draw(name, 30, 50, seed=1) != W).mean() > (0.4 if name == "random_signs" else 0.99)


@pytest.mark.parametrize("name", list(UNIFORM))
def test_uniform_fills_its_bounds(name: str) -> None:
    W, bound = draw(name), UNIFORM[name]
    assert 0.999 * bound < np.abs(W).max() <= bound
    # 150,000 draws: the mean's standard error is std/387, the standard deviation's relative one about 0.12 %
    assert abs(W.mean()) < 5 * W.std() / math.sqrt(W.size)
    assert W.std() == pytest.approx(bound / math.sqrt(3), rel=0.01)
    counts, _ = np.histogram(W, bins=10, range=(-bound, bound))
    np.testing.assert_allclose(counts, W.size / 10, rtol=0.05)


@pytest.mark.parametrize("name", list(NORMAL))
def test_normal_has_its_standard_deviation(name: str) -> None:
    W, std = draw(name), NORMAL[name]
    assert abs(W.mean()) < 5 * std / math.sqrt(W.size)
    assert W.std() == pytest.approx(std, rel=0.01)
    assert (np.abs(W) > 2 * std).mean() == pytest.approx(0.0455, abs=0.005)  # and not cut off


@pytest.mark.parametrize("shape", [(30, 50), (50, 30), (40, 40), (1, 5), (5, 1)])
def test_orthogonal(shape: tuple[int, int]) -> None:
    W = draw(Orthogonal(gain=2.0), *shape)
    assert W.flags.c_contiguous
    gram = W @ W.T if shape[0] <= shape[1] else W.T @ W
    np.testing.assert_allclose(gram, 4.0 * np.eye(min(shape)), atol=1e-12)


def test_orthogonal_favours_no_sign() -> None:
    """Householder's QR alone gives a diagonal of one sign; moving R's signs into Q makes Q uniform."""
    corner = [draw("orthogonal", 3, 3, seed)[0, 0] for seed in range(200)]
    assert 70 < sum(c > 0 for c in corner) < 130


def test_parameters() -> None:
    assert draw(Normal(std=3.0)).std() == pytest.approx(3.0, rel=0.01)
    assert (draw(Constant(0.5)) == 0.5).all()
    assert (draw("zeros") == 0).all()
    signs = draw("random_signs")
    assert set(signs.ravel()) == {-1.0, 1.0}
    assert abs(signs.mean()) < 5 / signs.size**0.5
    chunks = RandomSigns([1, 40, 9])
    together = chunks(np.random.default_rng(0), 50, 2000)
    assert chunks.chunks == (1, 40, 9)
    assert set(together.ravel()) == {-1.0, 1.0}
    assert (together[1:41] == together[1]).all()
    assert (together[41:] == together[41]).all()
    for i, j in ((0, 1), (1, 41), (0, 41)):
        assert abs((together[i] * together[j]).mean()) < 5 / 2000**0.5
    assert chunks.blocks(np.random.default_rng(0), 50, 2, 10) is None
    assert INITIALIZERS.build(INITIALIZERS.config(chunks)) == chunks
    with pytest.raises(ValueError, match=r"RandomSigns\(chunks\) has 50 rows in all, and here are 49"):
        chunks(np.random.default_rng(0), 49, 2)
    with pytest.raises(ValueError, match=r"RandomSigns\(chunks\), number 1, expects an integer of at least 1"):
        RandomSigns([2, 0])
    with pytest.raises(TypeError, match=r"RandomSigns\(chunks\) expects a list"):
        RandomSigns(3)
    for make, who in ((lambda: Normal(-1.0), "Normal"), (lambda: Orthogonal(-1.0), "Orthogonal")):
        with pytest.raises(ValueError, match=rf"{who}\(.*\) expects a finite number of at least 0"):
            make()
    with pytest.raises(ValueError, match=r"Constant\(value\)"):
        Constant(math.nan)


@pytest.mark.parametrize(("low", "high"), [(-2.0, 2.0), (-1.0, 3.0), (2.5, 6.0), (-40.0, -8.0), (-50.0, 50.0)])
def test_truncated_normal_is_scipys(low: float, high: float) -> None:
    W = draw(TruncatedNormal(3.0, low, high)) / 3.0
    assert low <= W.min() < W.max() <= high
    expected = stats.truncnorm(low, high)
    assert stats.kstest(W.ravel(), expected.cdf).pvalue > 1e-3
    spread = expected.std() / math.sqrt(W.size)
    assert W.mean() == pytest.approx(expected.mean(), abs=5 * spread)


@pytest.mark.parametrize(
    ("scaling", "same"),
    [
        (VarianceScaling(2.0, "fan_in", "normal"), "he_normal"),
        (VarianceScaling(1.0, "fan_avg", "uniform"), "xavier_uniform"),
        (VarianceScaling(1.0, "fan_in", "uniform"), "lecun_uniform"),
    ],
)
def test_variance_scaling_draws_what_others_do(scaling: VarianceScaling, same: str) -> None:
    np.testing.assert_allclose(draw(scaling), draw(same), rtol=1e-15)


@pytest.mark.parametrize("distribution", ["truncated_normal", "normal", "uniform"])
@pytest.mark.parametrize(("mode", "n"), [("fan_in", N_IN), ("fan_out", N_OUT), ("fan_avg", (N_IN + N_OUT) / 2)])
def test_variance_scaling_has_its_variance(mode: str, n: float, distribution: str) -> None:
    W = draw(VarianceScaling(3.0, mode, distribution))
    assert W.var() == pytest.approx(3.0 / n, rel=0.02)
    if distribution == "truncated_normal":
        assert np.abs(W).max() == pytest.approx(2 * math.sqrt(3.0 / n) / 0.8796, rel=1e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TruncatedNormal(low=2.0, high=2.0), "leaves nothing to draw: low is less than high"),
        (lambda: TruncatedNormal(low=38.0, high=40.0), r"one of them within ±37 standard deviations"),
        (lambda: TruncatedNormal(-1.0), r"TruncatedNormal\(std\) expects a finite number of at least 0"),
        (lambda: Uniform(1.0, 0.5), r"Uniform\(low=1, high=0.5\): low is less than high"),
        (lambda: Uniform(-1e308, 1e308), "high − low is finite"),
        (lambda: VarianceScaling(0.0), r"VarianceScaling\(scale\) expects a finite number greater than 0"),
        (lambda: VarianceScaling(mode="fan_inn"), r"VarianceScaling\(mode\) does not know 'fan_inn'.*'fan_in'"),
        (lambda: VarianceScaling(distribution="gauss"), r"VarianceScaling\(distribution\) does not know 'gauss'"),
        (lambda: Array([[1.0, math.inf]]), "expects finite numbers, got NaN or infinity"),
        (lambda: Array([["a"]]), "expects real numbers"),
        (lambda: Array(1.0), r"expects real numbers, \(n_out, n_in\) of weights"),
        (lambda: fcnn.Dense(3, init="array"), "names no values: pass the array itself, init=values"),
    ],
)
def test_settings_that_cannot_be(make: Callable[[], Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make()


# Values given


def given_layers(dtype: Any, placement: str = "auto") -> list[Any]:
    W, b = np.arange(12, dtype=dtype).reshape(4, 3), np.arange(4, dtype=dtype)
    return [
        fcnn.Dense(4, "relu", init=W, bias_init=b, placement=placement),
        fcnn.Dense(2, bias_init=b[:2].reshape(2, 1)),
    ]


@pytest.mark.parametrize("placement", ["auto", "host", "disk"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
def test_arrays_are_the_initial_values(dtype: str, placement: str) -> None:
    model: Any = fcnn.Sequential(given_layers(dtype, placement), n_in=3, seed=0, backend="numpy")
    np.testing.assert_array_equal(np.asarray(model.layers[0].W), np.arange(12).reshape(4, 3))
    np.testing.assert_array_equal(model.layers[0].b.ravel(), np.arange(4))
    np.testing.assert_array_equal(model.layers[1].b.ravel(), np.arange(2))


def test_arrays_are_copied_and_compared() -> None:
    W = np.ones((2, 3))
    initializer = Array(W)
    W[0, 0] = 7
    assert initializer(np.random.default_rng(), 2, 3)[0, 0] == 1
    assert initializer == Array(np.ones((2, 3))) != Array(W)
    assert hash(initializer) == hash(Array(W))
    assert repr(initializer) == "Array(<2×3 values>)"


def test_arrays_of_other_shapes_are_refused() -> None:
    def build(**options: Any) -> None:
        fcnn.Sequential([fcnn.Dense(3, **options)], n_in=2, backend="numpy")

    for options, message in (
        ({"init": np.ones((2, 3))}, r"weights of this layer are \(n_out, n_in\), here 3×2; got 2×3. Transpose them"),
        ({"init": np.ones(6)}, "here 3×2; got 6"),
        ({"bias_init": np.ones(2)}, r"biases of this layer are \(n_out,\) or \(n_out, 1\), here 3; got 2"),
        ({"bias_init": np.ones((1, 3))}, "here 3×1; got 1×3"),
    ):
        with pytest.raises(ValueError, match=message):
            build(**options)


@pytest.mark.parametrize("placement", ["auto", "host", "disk"])
def test_a_configuration_says_that_values_were_given_and_keeps_none(placement: str, tmp_path: Path) -> None:
    model = fcnn.Sequential(given_layers("float32", placement), n_in=3, seed=0, backend="numpy")
    config = model.config()
    assert config["layers"][0]["init"] == {"name": "array", "values": None}
    model.save(tmp_path / "model.safetensors")
    twins = [copy.deepcopy(model), fcnn.load(tmp_path / "model.safetensors", backend="numpy")]
    if placement != "disk":
        twins.append(pickle.loads(pickle.dumps(model)))
    for twin in twins:
        assert twin.config() == config
        for name, array in model.named_arrays().items():
            np.testing.assert_array_equal(np.asarray(twin.named_arrays()[name]), np.asarray(array), err_msg=name)
    if placement == "disk":
        folder = fcnn.Sequential(given_layers("float32", placement), 3, seed=0, backend="numpy", storage=tmp_path / "f")
        folder.close()
        reopened: Any = fcnn.load(tmp_path / "f", backend="numpy")
        np.testing.assert_array_equal(reopened.layers[0].b.ravel(), np.arange(4))
    with pytest.raises(ValueError, match="were given as an array, which its configuration does not keep"):
        fcnn.Sequential.from_config(config, backend="numpy")


def test_a_projection_takes_values() -> None:
    P = np.arange(6.0).reshape(2, 3)
    model: Any = fcnn.Sequential([fcnn.Residual([fcnn.Dense(2)], init=P)], n_in=3, backend="numpy")
    np.testing.assert_array_equal(model.layers[0].projection.W, P)


# Biases

BIASES = [name for name in DRAWN if name != "orthogonal"]


@pytest.mark.parametrize("name", list(UNIFORM))
def test_uniform_biases_fill_the_bounds_of_the_layers_fans(name: str) -> None:
    n_in = 40_000  # other than n_out, so that a bound of (n_out, 1) would show
    initializer = INITIALIZERS.resolve(name)
    b = initializer.biases(np.random.default_rng(0), 20_000, n_in)
    alone = {"xavier_uniform": math.sqrt(6 / (n_in + 20_000)), "uniform": 0.05}
    bound = alone.get(name, UNIFORM[name] * math.sqrt(N_IN / n_in))
    assert b.shape == (20_000, 1)
    assert 0.999 * bound < np.abs(b).max() <= bound
    assert b.std() == pytest.approx(bound / math.sqrt(3), rel=0.02)


@pytest.mark.parametrize("name", BIASES)
def test_a_layers_biases(name: str) -> None:
    """Drawn by the seed, other numbers than the weights, which stay those of a layer without `bias_init`."""
    drawn, again, other, zero = (
        fcnn.Sequential([fcnn.Dense(30, init="normal", bias_init=b)], n_in=20, seed=s, backend="numpy").layers[0]
        for b, s in ((name, 3), (INITIALIZERS[name], 3), (INITIALIZERS[name](), 4), (None, 3))
    )
    assert isinstance(drawn, fcnn.Dense)
    assert drawn.b.shape == (30, 1)
    np.testing.assert_array_equal(drawn.W, zero.W)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(zero.b, 0)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(drawn.b, again.b)  # type: ignore[attr-defined]
    if name not in ("constant", "random_signs", "zeros"):
        assert (drawn.b != other.b).all()  # type: ignore[attr-defined]
        scaled = [(x - x.mean()) / x.std() for x in (drawn.W[:, :1], drawn.b)]
        assert np.abs(scaled[0] - scaled[1]).max() > 0.1


@pytest.mark.parametrize("placement", ["device", "host", "disk"])
def test_biases_are_the_same_on_each_backend_wherever_the_weights_lie(placement: str, ops: Ops) -> None:
    def arrays(ops: Ops, placement: str) -> dict[str, Any]:
        layers = [fcnn.Dense(5, "relu", bias_init="fan_in_uniform", placement=placement) for _ in range(2)]
        model = fcnn.Sequential(layers, n_in=3, seed=0, backend=ops)
        return {name: model.ops.to_numpy(array[...]).copy() for name, array in model.named_arrays().items()}

    reference = arrays(Ops(), "auto")
    for name, array in arrays(ops, placement).items():
        np.testing.assert_array_equal(array, reference[name], err_msg=name)
        assert array.all()


def test_biases_come_from_configurations_copies_and_files(tmp_path: Path) -> None:
    layers = [fcnn.Dense(4, "relu", bias_init=Normal(0.5)), fcnn.Dense(2, bias_init="xavier_uniform"), fcnn.Dense(2)]
    model = fcnn.Sequential(layers, n_in=3, seed=0, backend="numpy")
    configs = model.config()["layers"]
    assert [config.get("bias_init", "left out") for config in configs] == [
        {"name": "normal", "std": 0.5},
        {"name": "xavier_uniform"},
        "left out",
    ]
    model.save(tmp_path / "model.safetensors")
    for twin in (
        fcnn.Sequential.from_config(model.config(), backend="numpy"),
        copy.deepcopy(model),
        fcnn.load(tmp_path / "model.safetensors", backend="numpy"),
    ):
        assert twin.config() == model.config()
        for name, array in model.named_arrays().items():
            np.testing.assert_array_equal(twin.named_arrays()[name], array, err_msg=name)


class Whole(Initializer):
    name = "whole"

    def __call__(self, rng: np.random.Generator, n_out: int, n_in: int) -> Any:
        return np.ones((n_out, n_in))


@pytest.mark.parametrize("init", ["orthogonal", Orthogonal(2.0), Whole()], ids=repr)
def test_what_makes_whole_matrices_makes_no_biases(init: Any) -> None:
    with pytest.raises(ValueError, match=r"Dense: bias_init=.* makes whole weight matrices .*'fan_in_uniform'"):
        fcnn.Dense(3, bias_init=init)
    with pytest.raises(TypeError, match="makes whole weight matrices"):
        INITIALIZERS.resolve(init).biases(np.random.default_rng(0), 3, 2)


def test_a_layer_without_biases_takes_no_initializer_of_them() -> None:
    with pytest.raises(ValueError, match=r"Dense\(bias=False\) has no biases for bias_init=Zeros\(\)"):
        fcnn.Dense(3, bias=False, bias_init="zeros")


def test_biases_that_are_not_finite() -> None:
    class Infinite(ElementwiseInitializer):
        name = "infinite"

        def _draw(self, rng: Any, shape: Any, n_out: int, n_in: int) -> Any:
            return np.full(shape, math.inf)

    with pytest.raises(ValueError, match=r"must give finite biases of shape \(3, 1\)"):
        fcnn.Sequential([fcnn.Dense(3, bias_init=Infinite())], n_in=2, backend="numpy")


# In a network


def network(**options: Any) -> fcnn.Sequential:
    layers = [fcnn.Dense(8, activation="relu"), fcnn.Residual([fcnn.Dense(8), fcnn.Dense(4)]), fcnn.Dense(8)]
    return fcnn.Sequential(layers, n_in=8, backend="numpy", **options)


def test_one_seed_is_one_network_in_every_dtype() -> None:
    single, double = network(seed=7), network(seed=7, dtype="float64")
    for name, array in double.named_arrays().items():
        np.testing.assert_array_equal(single.named_arrays()[name], array.astype(np.float32))
    assert single.flat.values.dtype == np.float32
    other = network(seed=8)
    assert (other.flat.values != single.flat.values).mean() > 0.8


def test_layers_differ_from_each_other() -> None:
    arrays = [a for name, a in network(seed=7).named_arrays().items() if name.endswith("W") and a.shape == (8, 8)]
    assert len(arrays) == 2
    scaled = [a / a.std() for a in arrays]
    assert np.abs(scaled[0] - scaled[1]).max() > 0.5


def test_without_a_seed_one_is_drawn_and_kept() -> None:
    first, second = network(), network()
    assert first.seed != second.seed
    np.testing.assert_array_equal(network(seed=first.seed).flat.values, first.flat.values)


def test_the_first_layers_weights_do_not_depend_on_what_follows() -> None:
    alone = fcnn.Sequential([fcnn.Dense(5)], n_in=4, seed=3, backend="numpy")
    followed = fcnn.Sequential([fcnn.Dense(5), "tanh", fcnn.Dense(2)], n_in=4, seed=3, backend="numpy")
    np.testing.assert_array_equal(alone.layers[0].W, followed.layers[0].W)  # type: ignore[attr-defined]


# Symmetry


def warns(*layers: Any, n_in: int = 3) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fcnn.Sequential(list(layers), n_in=n_in, backend="numpy")
    assert all(issubclass(w.category, fcnn.SymmetryWarning) for w in caught)
    assert all(w.filename == __file__ for w in caught)
    return [str(w.message) for w in caught]


class EqualRows(Initializer):
    """Random weights, the same for each neuron: as symmetric as a constant."""

    name = "equal rows"

    def __call__(self, rng: np.random.Generator, n_out: int, n_in: int) -> Any:
        return np.tile(rng.normal(size=n_in), (n_out, 1))


@pytest.mark.parametrize("init", ["zeros", "constant", Constant(0.3), EqualRows()], ids=repr)
@pytest.mark.parametrize("bias_init", [None, Constant(0.1)], ids=repr)
def test_equal_neurons_of_a_hidden_layer_are_warned_of(init: Any, bias_init: Any) -> None:
    (message,) = warns(fcnn.Dense(4, activation="tanh", init=init, bias_init=bias_init), fcnn.Dense(2))
    assert "All 4 neurons of hidden layer 0" in message
    assert "the same gradient" in message
    assert "init='he_normal'" in message


Layers = Callable[[], list[Any]]

SYMMETRIC: dict[str, tuple[Layers, str]] = {
    "two before it": (lambda: [fcnn.Dense(4), "relu", fcnn.Dense(4, init="zeros"), fcnn.Dense(2)], "layer 2"),
    "in a residual block": (
        lambda: [fcnn.Residual([fcnn.Dense(4, init="zeros"), "relu", fcnn.Dense(3)]), fcnn.Dense(2)],
        "layer 0.block.0",
    ),
    "in a block within a block": (
        lambda: [fcnn.Residual([fcnn.Residual([fcnn.Dense(4, init="zeros"), fcnn.Dense(3)])]), fcnn.Dense(2)],
        "layer 0.block.0.block.0",
    ),
    "before a residual layer at the end": (
        lambda: [fcnn.Dense(4, init="zeros"), fcnn.Residual([fcnn.Dense(4)])],
        "layer 0",
    ),
    "in a branch at the end": (
        lambda: [fcnn.Branches([["tanh"], [fcnn.Dense(4, init="zeros"), fcnn.Dense(3)]])],
        "layer 0.branches.1.0",
    ),
    "the end of a branch before others": (
        lambda: [fcnn.Branches([[fcnn.Dense(4, init="zeros")], ["tanh"]]), fcnn.Dense(2)],
        "layer 0.branches.0.0",
    ),
}


@pytest.mark.parametrize("name", list(SYMMETRIC))
def test_where_symmetry_is_found(name: str) -> None:
    make, where = SYMMETRIC[name]
    (message,) = warns(*make())
    assert f"hidden {where}," in message


TOLD_APART: dict[str, Layers] = {
    "random weights": lambda: [fcnn.Dense(4), fcnn.Dense(2)],
    "the output layer": lambda: [fcnn.Dense(4), fcnn.Dense(2, init="zeros")],
    "the only layer": lambda: [fcnn.Dense(2, init="zeros")],
    "the output layer before its activation": lambda: [fcnn.Dense(2, init="zeros"), "softmax"],
    "random biases": lambda: [fcnn.Dense(4, init="zeros", bias_init="normal"), fcnn.Dense(2)],
    "one neuron": lambda: [fcnn.Dense(1, init="zeros"), fcnn.Dense(2)],
    "the end of a residual block": lambda: [fcnn.Residual([fcnn.Dense(4), fcnn.Dense(3, init="zeros")]), fcnn.Dense(2)],
    "the end of the last branches": lambda: [fcnn.Branches([[fcnn.Dense(4), fcnn.Dense(3, init="zeros")], ["tanh"]])],
    "a projection": lambda: [fcnn.Residual([fcnn.Dense(4)], init="constant"), fcnn.Dense(2)],
}


@pytest.mark.parametrize("name", list(TOLD_APART))
def test_where_neurons_are_told_apart(name: str) -> None:
    assert warns(*TOLD_APART[name]()) == []


def test_symmetric_neurons_do_stay_equal_and_others_do_not() -> None:
    """What the warning says, and why the exceptions are none."""
    X = np.random.default_rng(0).normal(size=(64, 3))
    y = (X[:, 0] > 0).astype(int)

    def trained(*layers: Any) -> fcnn.Sequential:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", fcnn.SymmetryWarning)
            model = fcnn.Sequential(list(layers), n_in=3, seed=0, backend="numpy")
        fcnn.Trainer(model, optimizer="sgd").fit(X, y, epochs=5, batch_size=16, progress=False)
        return model

    def is_symmetric(W: Any) -> bool:
        return bool(np.allclose(W, W[0]))

    same = Constant(0.3)
    symmetric = trained(fcnn.Dense(4, activation="tanh", init=same), fcnn.Dense(2, init=same))
    assert is_symmetric(symmetric.layers[0].W)  # type: ignore[attr-defined]
    residual = trained(fcnn.Residual([fcnn.Dense(3, init="zeros")]), fcnn.Dense(2))
    assert not is_symmetric(residual.layers[0].block[0].W)  # type: ignore[attr-defined]
    output = trained(fcnn.Dense(4, activation="tanh"), fcnn.Dense(2, init="zeros"))
    assert not is_symmetric(output.layers[1].W)  # type: ignore[attr-defined]


# Initializers of the user's own


class Returns(Initializer):
    name = "returns"
    value: Any

    def __init__(self, value: Any) -> None:
        object.__setattr__(self, "value", value)

    def __call__(self, rng: np.random.Generator, n_out: int, n_in: int) -> Any:
        return self.value


@pytest.mark.parametrize("value", [np.ones((2, 3)), np.full((3, 2), np.nan), 1.0])
def test_an_initializer_that_returns_what_it_must_not(value: Any) -> None:
    with pytest.raises(ValueError, match=r"must give finite weights of shape \(3, 2\)"):
        fcnn.Sequential([fcnn.Dense(3, init=Returns(value))], n_in=2, backend="numpy")
    model = fcnn.Sequential([fcnn.Dense(3, init=Returns([[1, 2], [3, 4], [5, 6]]))], n_in=2, backend="numpy")
    np.testing.assert_array_equal(model.layers[0].W, [[1, 2], [3, 4], [5, 6]])  # type: ignore[attr-defined]


def test_the_base_says_what_to_define() -> None:
    with pytest.raises(NotImplementedError, match="Initializer must define __call__"):
        Initializer()(np.random.default_rng(0), 1, 1)
