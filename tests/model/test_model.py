"""Sequential: building, parameters as live views, passes of any batch size, predictions, summary, and copies."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from scipy import special

import fcnn_gpu as fcnn
from fcnn_gpu.initializers import Initializer


def network(**options: Any) -> fcnn.Sequential:
    layers = [fcnn.Dense(6, activation="tanh"), fcnn.BatchNorm(), fcnn.Dropout(0.3), fcnn.Dense(3)]
    return fcnn.Sequential(layers, n_in=4, seed=0, backend="numpy", **options)


def samples(n: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=(n, 4)).astype(np.float32)


# Building


@pytest.mark.parametrize("dtype", ["float32", "float64", np.float32, np.float64, np.dtype("float64"), float])
def test_dtypes(dtype: Any) -> None:
    model = network(dtype=dtype)
    assert model.flat.values.dtype == model(samples(2)).dtype == np.dtype(dtype)


SEQUENTIAL: Any = fcnn.Sequential


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SEQUENTIAL([], 3), ValueError, "Sequential expects at least one layer, got an empty list"),
        (lambda: SEQUENTIAL(fcnn.Dense(2), 3), TypeError, r"Sequential expects a list of layers, got Dense"),
        (lambda: SEQUENTIAL("dense", 3), TypeError, "Sequential expects a list of layers, got 'dense'"),
        (lambda: SEQUENTIAL({"name": "dense"}, 3), TypeError, "Sequential expects a list of layers"),
        (lambda: SEQUENTIAL([None], 3), TypeError, "A layer is a name or a Layer, got None"),
        (lambda: SEQUENTIAL([fcnn.Dense(2)], 0), ValueError, r"Sequential\(n_in\) expects an integer of at least 1"),
        (lambda: SEQUENTIAL([fcnn.Dense(2)], "3"), TypeError, r"Sequential\(n_in\) expects an integer, got '3'"),
        (lambda: SEQUENTIAL([fcnn.Dense(2)], 3, seed=-1), ValueError, r"Sequential\(seed\)"),
        (lambda: SEQUENTIAL([fcnn.Dense(2)], 3, seed=1.5), TypeError, r"Sequential\(seed\) expects an integer"),
        (
            lambda: SEQUENTIAL([fcnn.Dense(2)], 3, dtype="float16"),
            ValueError,
            "is 'float32' or 'float64', got 'float16'",
        ),
        (lambda: SEQUENTIAL([fcnn.Dense(2)], 3, dtype="flaot"), ValueError, "is 'float32' or 'float64', got 'flaot'"),
        (lambda: SEQUENTIAL([fcnn.Dense(2)], 3, dtype=None), ValueError, "is 'float32' or 'float64', got None"),
        (lambda: SEQUENTIAL([fcnn.Dense(2)], 3, dtype={"a": 1}), ValueError, "is 'float32' or 'float64'"),
        (lambda: SEQUENTIAL([fcnn.Dense(2)], 3, backend="nunpy"), ValueError, "Did you mean 'numpy'"),
    ],
)
def test_arguments_that_are_refused(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_a_layer_belongs_to_one_place_of_one_model() -> None:
    dense, free = fcnn.Dense(4), fcnn.Dense(4)
    for twice in ([dense, dense], [dense, fcnn.Residual([dense])], [fcnn.Residual([dense]), dense]):
        with pytest.raises(ValueError, match=r"Dense\(\? → 4\) stands twice among the layers"):
            fcnn.Sequential(twice, n_in=4, backend="numpy")
    model = fcnn.Sequential([dense], n_in=4, backend="numpy")
    W = dense.W.copy()
    with pytest.raises(ValueError, match=r"Dense\(4 → 4\) already belongs to a model \(as layer 0\)"):
        fcnn.Sequential([free, dense], n_in=4, backend="numpy")
    assert fcnn.Sequential([free], n_in=2, backend="numpy").n_out == 4  # not spoiled by the failure
    np.testing.assert_array_equal(model.layers[0].W, W)  # type: ignore[attr-defined]


def test_a_layer_that_cannot_be_built_leaves_the_others_free() -> None:
    class Fails(Initializer):
        name = "fails"

        def __call__(self, rng: Any, n_out: int, n_in: int) -> Any:
            raise MemoryError("too large")

    first, block = fcnn.Dense(5), fcnn.Residual([fcnn.Dense(4)])
    with pytest.raises(MemoryError):
        fcnn.Sequential([first, block, fcnn.Dense(2, init=Fails())], n_in=3, backend="numpy")
    model = fcnn.Sequential([block, first], n_in=4, backend="numpy")
    assert model.n_out == 5
    assert block.projection is None


def test_layers_stay_free_when_the_device_has_no_room_for_them() -> None:
    class Full(fcnn.backend.Ops):
        def assign(self, out: Any, x: Any) -> None:
            raise MemoryError("the device is full")

    layers = [fcnn.Dense(5), fcnn.Residual([fcnn.BatchNorm(), fcnn.Dense(4)])]
    with pytest.raises(MemoryError):
        fcnn.Sequential(layers, n_in=3, seed=0, backend=Full())
    assert fcnn.Sequential(layers, n_in=3, seed=0, backend="numpy")(np.ones((1, 3))).shape == (1, 4)


@pytest.mark.filterwarnings("error::fcnn_gpu.SymmetryWarning")
def test_layers_stay_free_when_a_warning_is_made_an_error() -> None:
    layers = [fcnn.Dense(5, init="zeros"), fcnn.Dense(2)]
    for _ in range(2):
        with pytest.raises(fcnn.SymmetryWarning):
            fcnn.Sequential(layers, n_in=3, backend="numpy")


def test_a_network_may_have_nothing_to_learn() -> None:
    model = fcnn.Sequential(["relu"], n_in=2, backend="numpy")
    assert model.n_parameters == 0
    np.testing.assert_array_equal(model([[-1.0, 2.0]]), [[0, 2]])
    model.forward([[-1.0, 2.0]], training=True)
    assert model.backward(np.ones((1, 2))) is None
    assert model.penalty() == 0


# Parameters


def test_parameters_by_name_are_live() -> None:
    model = network()
    arrays = model.named_arrays()
    names = ["0.W", "0.b", "1.gamma", "1.beta", "1.running_mean", "1.running_var", "3.W", "3.b"]
    assert list(arrays) == names
    assert model.n_parameters == 4 * 6 + 6 + 6 + 6 + 6 * 3 + 3
    arrays["3.W"][...] = 0
    arrays["3.b"][...] = [[1], [2], [3]]
    np.testing.assert_array_equal(model(samples(2)), [[1, 2, 3]] * 2)


def test_weights_come_first_in_the_flat_buffer() -> None:
    model = network()
    W = np.concatenate([p.value.T.reshape(-1) for p in model.parameters if p.is_weight])
    np.testing.assert_array_equal(model.flat.values[: W.size], W)
    assert [segment.decay for segment in model.flat.segments] == [1.0, 0.0]


def test_a_snapshot_is_put_back_and_another_models_is_refused() -> None:
    model = network()
    kept = model.snapshot()
    model.forward(samples(8), training=True)
    model.flat.values += 1
    model.restore(kept)
    assert all((kept[name] == array).all() for name, array in model.named_arrays().items())
    other = fcnn.Sequential([fcnn.Dense(3)], n_in=4, backend="numpy")
    for wrong in (other.snapshot(), {}, kept | {"0.W": kept["0.W"][:2]}):
        with pytest.raises(ValueError, match="expects a snapshot of this model"):
            model.restore(wrong)
    assert all((kept[name] == array).all() for name, array in model.named_arrays().items())


# Passes


def test_outputs_do_not_depend_on_the_batches() -> None:
    model = network(dtype="float64")
    X = samples(37)
    whole = model(X)
    for size in (1, 2, 36, 37, 1000):
        np.testing.assert_allclose(model(X, batch_size=size), whole, rtol=1e-13)
        np.testing.assert_allclose(model.predict(X, size), whole, rtol=1e-13)
    np.testing.assert_allclose(np.vstack([model(X[i : i + 5]) for i in range(0, 37, 5)]), whole, rtol=1e-13)
    np.testing.assert_array_equal(model.forward(X), whole)


def test_more_samples_than_one_inference_batch() -> None:
    model = network()
    X = samples(2500)
    np.testing.assert_allclose(model(X), np.vstack([model(X[:1024]), model(X[1024:2048]), model(X[2048:])]), rtol=1e-6)


def test_a_result_belongs_to_the_caller() -> None:
    model = network()
    first = model.predict(samples(3))
    kept = first.copy()
    model.predict(samples(3, seed=1))
    np.testing.assert_array_equal(first, kept)


def test_x_is_never_changed() -> None:
    for layers in ([fcnn.Dropout(0.5)], ["relu"], ["softmax"], [fcnn.Residual(["tanh"])], [fcnn.BatchNorm()]):
        model = fcnn.Sequential(layers, n_in=4, backend="numpy")
        model.link = "softmax"
        X = samples(5)
        kept = X.copy()
        model.predict(X)
        model.forward(X, training=True)
        model.backward(np.ones((5, 4)), input_gradient=True)
        np.testing.assert_array_equal(X, kept)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["float64", "float16", "int8", "bool", ">f4"])
def test_any_numeric_x_of_any_order(order: Any, dtype: str) -> None:
    X = np.asarray(np.random.default_rng(0).normal(size=(6, 4)) * 2, order=order).astype(dtype)
    model = network()
    expected = model(np.ascontiguousarray(X, np.float32))
    for form in (X, X[::1], X.tolist(), np.hstack([X, X])[:, :4]):
        np.testing.assert_array_equal(model(form), expected)


def test_backward_follows_one_training_pass() -> None:
    model = network()
    X, C = samples(5), np.ones((5, 3))
    for before in (lambda: None, lambda: model.forward(X), lambda: model(X)):
        before()
        with pytest.raises(RuntimeError, match=r"needs model.forward\(X, training=True\) right before it"):
            model.backward(C)
    model.forward(X, training=True)
    with pytest.raises(ValueError, match=r"expects ∂L/∂outputs of shape \(5, 3\), got \(3, 5\)"):
        model.backward(C.T)
    assert model.backward(C) is None
    with pytest.raises(RuntimeError):
        model.backward(C)
    model.forward(X, training=True)
    trainer = fcnn.Trainer(model)
    trainer.fit(X, [0, 1, 2, 0, 1], epochs=1, batch_size=5, progress=False)  # in the arrays of the pass before
    with pytest.raises(RuntimeError):
        model.backward(C)
    model.forward(X, training=True)
    model.predict(X)
    with pytest.raises(RuntimeError):
        model.backward(C)


def test_gradients_are_set_anew_by_each_backward() -> None:
    model = fcnn.Sequential([fcnn.Dense(3)], n_in=4, backend="numpy", dtype="float64")
    X, C = samples(5), np.ones((5, 3))
    for _ in range(2):
        model.forward(X, training=True)
        model.backward(C)
        np.testing.assert_allclose(model.layers[0].dW, C.T @ X.astype(float))  # type: ignore[attr-defined]


# Predictions


def test_links() -> None:
    model = network()
    Z = model(samples(7)).astype(np.float64)
    for link, expected in (
        (None, Z),
        ("identity", Z),
        ("softmax", special.softmax(Z, axis=1)),
        ("sigmoid", special.expit(Z)),
    ):
        model.link = link
        np.testing.assert_allclose(model.predict(samples(7)), expected, rtol=1e-5)
        np.testing.assert_array_equal(model(samples(7)), Z)
        np.testing.assert_array_equal(model.predict_classes(samples(7)), Z.argmax(axis=1))


@pytest.mark.parametrize(
    ("activation", "link", "threshold"),
    [(None, None, 0.0), (None, "sigmoid", 0.0), (None, "identity", 0.5), ("sigmoid", "identity", 0.5)],
)
def test_one_output_is_a_class_where_its_probability_is_over_one_half(
    activation: Any, link: Any, threshold: float
) -> None:
    model = fcnn.Sequential([fcnn.Dense(1, activation=activation)], n_in=1, backend="numpy")
    model.layers[0].W[...] = 1.0  # type: ignore[attr-defined]
    model.link = link
    X = np.linspace(-2, 2, 40).reshape(-1, 1)
    np.testing.assert_array_equal(model.predict_classes(X), (model(X)[:, 0] > threshold).astype(int))


def test_xor_by_a_sigmoid_and_the_squared_error() -> None:
    X, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0])
    layers = [fcnn.Dense(8, activation="tanh"), fcnn.Dense(1, activation="sigmoid")]
    model = fcnn.Sequential(layers, n_in=2, seed=0, backend="numpy")
    fcnn.Trainer(model, "mse", fcnn.Adam(0.05)).fit(X, y, epochs=300, batch_size=4, progress=False)
    np.testing.assert_array_equal(model.predict_classes(X), y)


@pytest.mark.parametrize("ending", ["softmax", "sigmoid", "softmax activation", "sigmoid activation", "values", None])
@pytest.mark.parametrize("members", [1, 2])
def test_a_threshold_of_the_signature_says_what_the_second_class_is(ending: str | None, members: int) -> None:
    """Of probabilities, whichever way the outputs become them; two raw outputs are taken for logits."""
    n_out = 1 if ending in ("sigmoid", "sigmoid activation", "values") else 2
    activation = (ending or "").removesuffix(" activation") if ending and ending.endswith("activation") else None
    layers: list[fcnn.layers.Layer] = [fcnn.Dense(n_out, activation=activation, bias_init="normal")]
    if members > 1:
        if activation == "softmax":
            pytest.skip("of members it is a link")
        layers = [fcnn.Members(members), fcnn.DenseEnsemble(n_out, members, activation=activation, bias_init="normal")]
    model = fcnn.Sequential(layers, n_in=4, seed=0, backend="numpy")
    model.link = {"softmax": "softmax", "sigmoid": "sigmoid", "values": "identity"}.get(ending or "")
    model.members = members
    X = samples(40)
    if ending is None and members == 1:
        p = np.exp(model(X))
        p /= p.sum(axis=1, keepdims=True)
    elif ending is None:
        p = model.infer(X, "softmax")
    else:
        p = model.predict(X)
    for t in (0.2, 0.5, 0.7):
        model.signature = fcnn.Signature(class_names=["no", "yes"], threshold=t)
        expected = p[:, -1] > t
        np.testing.assert_array_equal(model.predict_classes(X) == 1, expected)
        if ending != "values":
            np.testing.assert_array_equal(model.predict_labels(X) == "yes", expected)
    model.signature = fcnn.Signature()
    if ending == "sigmoid activation":
        np.testing.assert_array_equal(model.predict_classes(X), p[:, 0] > 0.5)


# Words


@pytest.mark.parametrize("columns", ["20", "80", "200"])
def test_summary(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    layers = [fcnn.Dense(50, activation="relu"), fcnn.Residual([fcnn.Dense(20)]), fcnn.Dropout(0.5), fcnn.Dense(10)]
    model = fcnn.Sequential(layers, n_in=100, seed=0, backend="numpy")
    assert model.summary() is None  # type: ignore[func-returns-value]
    text = capsys.readouterr().out
    for part in (
        "Input A0 100×32",
        "float32",
        "CPU (NumPy",
        "W 50×100, b 50×1",
        "Z 50×32",
        "1.block.0",
        "1.projection",
        "Residual (50 → 20)",
        "A 20×32",
        "Dropout(0.5)",
        "Dense(100 → 50, relu)",
        "Z 10×32",
        f"{50 * 101:,}",
        f"{50 * 101 * 4:,}",
        f"{model.n_parameters:,} parameters, {model.n_parameters * 4:,} bytes",
    ):
        assert part in text
    model.summary(batch_size=7)
    assert "Z 50×7" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"summary\(batch_size\)"):
        model.summary(0)


def test_repr() -> None:
    expected = "Sequential([Dense(4 → 6, tanh), BatchNorm(), Dropout(0.3), Dense(6 → 3)], n_in=4, "
    assert repr(network()) == expected + "backend='numpy', dtype='float32')"


# Copies


@pytest.mark.parametrize("duplicate", [copy.deepcopy, copy.copy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_computes_alike_and_trains_by_itself(duplicate: Any) -> None:
    model = network()
    model.info["classes"] = ["a", "b", "c"]
    trainer = fcnn.Trainer(model)
    trainer.fit(samples(20), np.arange(20) % 3, epochs=2, batch_size=10, progress=False)
    again = duplicate(model)
    assert (again.seed, again.link, again.info, again.dtype) == (model.seed, "softmax", model.info, model.dtype)
    np.testing.assert_array_equal(again.predict(samples(9)), model.predict(samples(9)))
    assert int(again.random_step[0]) == int(model.random_step[0]) == 4
    assert np.shares_memory(again.layers[0].W, again.flat.values)
    kept = model.flat.values.copy()
    fcnn.Trainer(again).fit(samples(20), np.arange(20) % 3, epochs=1, progress=False)
    np.testing.assert_array_equal(model.flat.values, kept)
    assert (again.flat.values != kept).any()


def test_a_model_is_rebuilt_from_its_configuration() -> None:
    model = network(dtype="float64")
    again = fcnn.Sequential.from_config(model.config(), "numpy")
    assert again.config() == model.config()
    np.testing.assert_array_equal(again.flat.values, model.flat.values)
    with pytest.raises(ValueError, match=r"The model's link does not know 'softmx'\. Did you mean 'softmax'"):
        fcnn.Sequential.from_config(model.config() | {"link": "softmx"}, "numpy")
