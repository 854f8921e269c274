"""Bad input: each mistake has an error that says what was expected and what came, before anything has changed."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu._checks import RowError

N, N_IN = 12, 4
X = np.random.default_rng(0).normal(size=(N, N_IN)).astype(np.float32)
Y = np.arange(N) % 3
VALUES = X[:, 0] * 2


def sparse(values: Any = X) -> Any:
    from scipy.sparse import csr_matrix

    return csr_matrix(values)


def with_value(value: Any, dtype: Any = np.float64) -> Any:
    bad = X.astype(dtype)
    bad[5, 2] = value
    return bad


# Each: what stands for X, the error, and the message of who it is given to ("{who}").
FEATURES: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "one dimension": (
        lambda: X[0],
        ValueError,
        r"{who} expects X of shape \(n_samples, n_features\), got \(4,\). Reshape one sample to X.reshape\(1, -1\)",
    ),
    "three dimensions": (
        lambda: X.reshape(N, 2, 2),
        ValueError,
        r"got \(12, 2, 2\). Flatten .* X.reshape\(len\(X\), -1\)",
    ),
    "a number": (lambda: 3.0, ValueError, r"got \(\)"),
    "transposed": (lambda: X.T, ValueError, r"shape \(n_samples, 4\), got \(4, 12\). Did you pass X.T instead of X"),
    "too wide": (lambda: np.hstack([X, X]), ValueError, r"{who} expects X of shape \(n_samples, 4\), got \(12, 8\)\.$"),
    "no features": (lambda: X[:, :0], ValueError, r"{who} got an X without features: shape \(12, 0\)"),
    "an empty list": (list, ValueError, r"got \(0,\)"),
    "NaN": (
        lambda: with_value(np.nan),
        ValueError,
        r"{who}: X holds nan \(first in row 5, column 2\). Remove or impute",
    ),
    "infinity": (lambda: with_value(-np.inf, np.float32), ValueError, r"X holds -inf \(first in row 5, column 2\)"),
    "beyond float32": (
        lambda: with_value(1e300),
        ValueError,
        r"X holds 1e\+300 \(row 5, column 2\), outside the range of float32. Scale the features",
    ),
    "complex": (lambda: X + 1j, TypeError, "{who} expects X to hold real numbers, got complex numbers"),
    "objects": (
        lambda: with_value("x", object),
        TypeError,
        r"X, row 5, column 2: .* got .x.\. Encode categories as numbers first",
    ),
    "text": (lambda: X.astype(str), TypeError, "got <U.* values"),
    "None": (lambda: None, TypeError, "got object values"),
    "dates": (lambda: np.zeros((N, N_IN), "datetime64[D]"), TypeError, r"got datetime64\[D\] values"),
    "a table with text": (
        lambda: pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]}),
        TypeError,
        "X, row 0, column 1: .* got 'x'. Encode categories",
    ),
    "sparse, with NaN": (
        lambda: sparse(with_value(np.nan)),
        ValueError,
        r"{who}: X holds nan \(first in row 5, column 2\). Remove or impute",
    ),
    "sparse, too wide": (lambda: sparse(np.hstack([X, X])), ValueError, r"shape \(n_samples, 4\), got \(12, 8\)\.$"),
    "ragged": (
        lambda: [[1, 2, 3, 4], [1, 2]],
        ValueError,
        "{who}: X cannot be made an array. Do all rows have the same",
    ),
    "masked": (lambda: np.ma.masked_less(X, 0), ValueError, r"{who}: X has \d+ masked values"),
}

# Each: what stands for y of a classifier with three classes.
LABELS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "too few": (lambda: Y[:5], ValueError, "{who} got 12 samples in X but 5 in y"),
    "none": (list, ValueError, "{who} got 12 samples in X but 0 in y"),
    "too large": (lambda: Y + 1, ValueError, r"with 3 outputs expects labels 0 ... 2, got 3 in row 2.*from 0"),
    "negative": (lambda: Y - 1, ValueError, "got -1 in row 0"),
    "not whole": (lambda: Y + 0.5, ValueError, "cross_entropy expects integer labels, got 0.5 in row 0"),
    "NaN": (lambda: np.where(Y == 1, np.nan, Y), ValueError, r"NaN or infinity \(first in row 1\)"),
    "names": (
        lambda: np.array(["a", "b", "c"])[Y],
        TypeError,
        "got <U1 values. For names of classes use FCNNClassifier",
    ),
    "complex": (lambda: Y + 1j, TypeError, "complex numbers"),
    "objects": (lambda: np.array([None] * N), ValueError, r"the targets: a value is missing, None \(row 0\)"),
    "a column": (lambda: Y.reshape(-1, 1), ValueError, r"targets of shape \(12, 1\): a column. .* y.ravel\(\)"),
    "a table": (lambda: pd.DataFrame({"y": Y}), ValueError, "a column"),
    "too many columns": (lambda: np.eye(5)[Y], ValueError, r"expects targets of shape \(n_samples, 3\), got \(12, 5\)"),
    "several labels": (lambda: np.ones((N, 3)), ValueError, "sum to 1. For several labels per sample use"),
    "three dimensions": (lambda: np.zeros((N, 3, 1)), ValueError, r"got \(12, 3, 1\)"),
    "sparse": (sparse, TypeError, "the targets must be dense"),
}


class Setup:
    """A trainer that has been trained a little, and everything that bad input must not change."""

    def __init__(self, loss: str = "cross_entropy", n_out: int = 3) -> None:
        layers = [fcnn.Dense(6, activation="relu"), fcnn.BatchNorm(), fcnn.Dropout(0.2), fcnn.Dense(n_out)]
        self.model = fcnn.Sequential(layers, n_in=N_IN, seed=0, backend="numpy")
        self.trainer = fcnn.Trainer(self.model, loss, "adam", metrics=["accuracy"] if loss == "cross_entropy" else [])
        self.trainer.fit(X, Y if loss == "cross_entropy" else VALUES, epochs=1, progress=False)

    def state(self) -> dict[str, Any]:
        control = self.trainer.optimizer.control
        arrays = {
            **self.model.named_arrays(),
            **{f"optimizer.{k}": v for k, v in self.trainer.optimizer.state.items()},
            "gradients": self.model.flat.gradients,
            "random_step": self.model.random_step,
            "step": control.step,
            "rate": control.learning_rate,
            "failed": control.failed_step,
        }
        own = {f"trainer.{k}": v for k, v in vars(self.trainer).items()}
        return {k: v.copy() for k, v in arrays.items()} | own | {"link": self.model.link}

    def refuses(self, call: Callable[[], Any], error: type[Exception], message: str) -> None:
        before = self.state()
        with pytest.raises(error, match=message) as caught:
            call()
        assert type(caught.value) in (ValueError, TypeError, RowError)
        assert re.search(r"[.?)]$", str(caught.value)), "a sentence ends"
        after = self.state()
        assert before.keys() == after.keys()
        for name, value in before.items():
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(after[name], value, err_msg=name)
            else:
                assert after[name] is value or after[name] == value, name


@pytest.fixture(scope="module")
def classifier() -> Setup:
    return Setup()


@pytest.fixture(scope="module")
def regressor() -> Setup:
    return Setup("mse", 1)


@pytest.mark.parametrize("name", list(FEATURES))
def test_features(classifier: Setup, name: str) -> None:
    make, error, message = FEATURES[name]
    t, model = classifier.trainer, classifier.model
    calls: dict[str, Callable[[], Any]] = {
        "fit": lambda: t.fit(make(), Y, progress=False),
        "evaluate": lambda: t.evaluate(make(), Y),
        "validation_data": lambda: t.fit(X, Y, validation_data=(make(), Y), progress=False),
        "model": lambda: model(make()),
        "model.predict": lambda: model.predict(make()),
        "predict": lambda: t.predict(make()),
        "model.forward": lambda: model.forward(make(), training=True),
    }
    for who, call in calls.items():
        classifier.refuses(call, error, message.replace("{who}", re.escape(who)))


@pytest.mark.parametrize("name", list(LABELS))
def test_labels(classifier: Setup, name: str) -> None:
    make, error, message = LABELS[name]
    t = classifier.trainer
    calls: dict[str, Callable[[], Any]] = {
        "fit": lambda: t.fit(X, make(), progress=False),
        "evaluate": lambda: t.evaluate(X, make()),
        "validation_data": lambda: t.fit(X, Y, validation_data=(X, make()), progress=False),
    }
    for who, call in calls.items():
        classifier.refuses(call, error, message.replace("{who}", who))


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        (np.full(N, 1e300), ValueError, r"mse: the targets hold 1e\+300 \(row 0\), outside the range of float32"),
        (np.full(N, np.inf), ValueError, "mse: the targets hold NaN or infinity"),
        (
            np.zeros((N, 2)),
            ValueError,
            r"mse with 1 output expects targets of shape \(n_samples, 1\) or \(n_samples,\)",
        ),
        (["1"] * N, TypeError, "mse expects targets that are numbers"),
    ],
)
def test_values(regressor: Setup, y: Any, error: type[Exception], message: str) -> None:
    regressor.refuses(lambda: regressor.trainer.fit(X, y, progress=False), error, message)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epochs": 0}, ValueError, r"fit\(epochs\) expects an integer of at least 1, got 0"),
        ({"epochs": 2.5}, TypeError, r"fit\(epochs\) expects an integer, got 2.5"),
        ({"epochs": True}, TypeError, r"fit\(epochs\) expects an integer, got True"),
        ({"batch_size": 0}, ValueError, r"fit\(batch_size\) expects an integer of at least 1, got 0"),
        ({"batch_size": -1}, ValueError, r"fit\(batch_size\)"),
        ({"batch_size": None}, TypeError, r"fit\(batch_size\)"),
        ({"shuffle": 1}, TypeError, r"fit\(shuffle\) expects True or False, got 1"),
        ({"drop_last": "no"}, TypeError, r"fit\(drop_last\)"),
        ({"progress": 0}, TypeError, r"fit\(progress\)"),
        ({"validation_split": 1.0}, ValueError, r"fit\(validation_split\) expects a finite number in \[0, 1\)"),
        ({"validation_split": -0.1}, ValueError, r"fit\(validation_split\)"),
        ({"validation_split": True}, TypeError, r"fit\(validation_split\) expects a number"),
        (
            {"validation_split": 0.2, "validation_data": (X, Y)},
            ValueError,
            "validation_data or validation_split, not both",
        ),
        ({"validation_data": X}, TypeError, r"fit\(validation_data\) expects \(X, y\) or \(X, y, sample_weight\)"),
        ({"validation_data": (X,)}, TypeError, r"fit\(validation_data\)"),
        ({"validation_data": (X, Y, Y, Y)}, TypeError, r"fit\(validation_data\)"),
        ({"validation_data": (X, Y, np.ones(3))}, ValueError, r"sample_weight expects shape \(12,\)"),
        ({"sample_weight": np.ones(3)}, ValueError, r"sample_weight expects shape \(12,\), one weight per sample"),
        ({"sample_weight": -np.ones(N)}, ValueError, "finite weights of at least 0"),
        ({"sample_weight": np.zeros(N)}, ValueError, "0 for every sample"),
        ({"sample_weight": ["a"] * N}, TypeError, "sample_weight expects numbers"),
        ({"class_weight": "balance"}, ValueError, "'balanced' or a dict"),
        ({"class_weight": [1, 2, 3]}, TypeError, "'balanced' or a dict of label: weight, got list"),
        ({"class_weight": {7: 1.0}}, ValueError, "names the class 7; the classes are 0 ... 2"),
        ({"class_weight": {0: 0, 1: 0, 2: 0}}, ValueError, "0 for every sample"),
        ({"class_weight": {0: 1e300}}, ValueError, "outside the range of float32"),
        ({"callbacks": ["stop"]}, TypeError, "callbacks expects instances of fcnn_gpu.callbacks.Callback, got 'stop'"),
        ({"callbacks": fcnn.EarlyStopping("loss")}, TypeError, "callbacks expects a list"),
        ({"callbacks": [fcnn.EarlyStopping("acuracy")]}, ValueError, "Did you mean 'accuracy'"),
        ({"batch_size": 11}, ValueError, "cannot train on a batch of one sample"),
    ],
)
def test_options_of_fit(classifier: Setup, options: dict[str, Any], error: type[Exception], message: str) -> None:
    classifier.refuses(lambda: classifier.trainer.fit(X, Y, **({"progress": False} | options)), error, message)


def test_class_weights_need_classes(regressor: Setup, classifier: Setup) -> None:
    soft = np.full((N, 3), 1 / 3)
    for setup, y in ((regressor, VALUES), (classifier, soft)):
        fit = functools.partial(setup.trainer.fit, X, y, class_weight="balanced", progress=False)
        message = "class_weight needs integer labels and a cross-entropy.*Use sample_weight instead"
        setup.refuses(fit, ValueError, message)


TRAINER: Any = fcnn.Trainer


def model(n_out: int = 3, **last: Any) -> fcnn.Sequential:
    return fcnn.Sequential([fcnn.Dense(n_out, **last)], n_in=N_IN, seed=0, backend="numpy")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda m: TRAINER([m]), TypeError, "Trainer expects a Sequential, got list"),
        (lambda m: TRAINER(m, "crossentropy"), ValueError, "Unknown loss 'crossentropy'. Did you mean 'cross_entropy'"),
        (lambda m: TRAINER(m, 3), TypeError, "A loss is a name or a Loss, got 3"),
        (lambda m: TRAINER(m, optimizer="adan"), ValueError, "Unknown optimizer 'adan'. Did you mean 'adam'"),
        (lambda m: TRAINER(m, optimizer=0.01), TypeError, "An optimizer is a name or an Optimizer, got 0.01"),
        (lambda m: TRAINER(m, metrics="accuracy"), TypeError, r"got 'accuracy'. Write metrics=\['accuracy'\]"),
        (lambda m: TRAINER(m, metrics=fcnn.metrics.Accuracy()), TypeError, r"expects a list, got .*Write metrics=\["),
        (lambda m: TRAINER(m, metrics=["acuracy"]), ValueError, "Unknown metric 'acuracy'. Did you mean 'accuracy'"),
        (lambda m: TRAINER(m, seed=-1), ValueError, r"Trainer\(seed\)"),
        (lambda m: TRAINER(m, seed="0"), TypeError, r"Trainer\(seed\)"),
        (lambda m: TRAINER(m, fcnn.CrossEntropy(class_weight=[1, 2])), ValueError, "2 weights for 3 outputs"),
    ],
)
def test_trainers_that_are_refused(make: Any, error: type[Exception], message: str) -> None:
    m = model()
    with pytest.raises(error, match=message):
        make(m)
    assert m.link is None


@pytest.mark.parametrize(
    ("loss", "activation", "layers"),
    [("cross_entropy", "softmax", False), ("binary_cross_entropy", "sigmoid", True)],
)
def test_a_loss_behind_its_own_link_is_refused(loss: str, activation: str, layers: bool) -> None:
    last: list[Any] = [fcnn.Dense(3), activation] if layers else [fcnn.Dense(3, activation=activation)]
    m = fcnn.Sequential(last, n_in=N_IN, backend="numpy")
    with pytest.raises(ValueError, match=f"{loss} takes raw outputs and applies {activation} itself.*activation out"):
        fcnn.Trainer(m, loss)
    fcnn.Trainer(m, "mse")


def test_one_output_is_no_classifier_of_classes() -> None:
    with pytest.raises(ValueError, match=r"at least 2, got 1. For one output .* use 'binary_cross_entropy'"):
        fcnn.Trainer(model(1))


@pytest.mark.parametrize("batch_size", [0, -1, 2.0, True, "8"])
def test_batch_sizes_of_predictions(classifier: Setup, batch_size: Any) -> None:
    error = ValueError if type(batch_size) is int else TypeError
    for call in (classifier.model, classifier.model.predict, classifier.trainer.predict):
        classifier.refuses(functools.partial(call, X, batch_size), error, "batch_size")


def test_good_input_still_trains(classifier: Setup) -> None:
    """The state that the tests above compare does change when it should."""
    before = classifier.state()
    classifier.trainer.fit(X, Y, epochs=1, progress=False)
    after = classifier.state()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert {"0.W", "1.running_mean", "optimizer.m", "gradients", "random_step", "step", "trainer.history"} <= changed
