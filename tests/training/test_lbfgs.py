"""L-BFGS: scikit-learn's runs from the same first weights, what ends a run, and what it refuses."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.callbacks import Callback
from tests.support.estimator_cases import classifier, regressor, scaled_iris

N_IN, ALPHA = 4, 0.5
X, Y = scaled_iris()
VALUES = np.random.default_rng(0).normal(size=(len(X), 2))
WEIGHTS = np.random.default_rng(1).uniform(0.5, 2.0, len(X))
CASES: dict[str, tuple[Any, str, HostArray, float]] = {
    # theirs, our loss, y, and our objective over theirs (whose loss of several values does not have their gradient)
    "classes": (MLPClassifier, "cross_entropy", Y, 1.0),
    "a 0/1 matrix of 2 labels": (MLPClassifier, "binary_cross_entropy", (VALUES > 0).astype(int), 0.5),
    "one value": (MLPRegressor, "mse", VALUES[:, :1], 2.0),
}


def network(n_out: int, backend: Any = "numpy", dtype: str = "float64", l2: float = 0.0, **options: Any) -> Any:
    layers = [fcnn.Dense(8, activation="tanh", l2=l2), fcnn.Dense(n_out, l2=l2)]
    return fcnn.Sequential(layers, n_in=N_IN, seed=0, backend=backend, dtype=dtype, **options)


def fit(model: Any, optimizer: Any = "lbfgs", loss: str = "cross_entropy", y: Any = Y, **options: Any) -> fcnn.History:
    trainer = fcnn.Trainer(model, loss=loss, optimizer=optimizer)
    return trainer.fit(X, y, **{"epochs": 200, "progress": False} | options)


def theirs_and_ours(case: str, epochs: int, backend: str, dtype: str, weighted: bool) -> tuple[Any, Any, fcnn.History]:
    """A run of scikit-learn's, and ours from its first weights."""
    make, loss, y, factor = CASES[case]
    weights = WEIGHTS if weighted else None
    theirs = make(
        hidden_layer_sizes=(8,), activation="tanh", solver="lbfgs", alpha=ALPHA, max_iter=1, tol=0.0, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs.fit(X, y.ravel() if y.shape[-1] == 1 else y)
        total = len(X) if weights is None else weights.sum()
        model = network(theirs.coefs_[-1].shape[1], backend, dtype, l2=factor * ALPHA / (2 * total))
        for layer, W, b in zip(model.layers, theirs.coefs_, theirs.intercepts_, strict=True):
            layer.W[...], layer.b[...] = W.T, b[:, None]
        theirs.set_params(max_iter=epochs, warm_start=True)
        theirs.fit(X, y.ravel() if y.shape[-1] == 1 else y, weights)
    ours = None if weights is None else weights / weights.mean()
    return theirs, model, fit(model, fcnn.LBFGS(tol=0.0), loss, y, epochs=epochs, sample_weight=ours)


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_goes_the_way_of_scikit_learns(case: str, weighted: bool, backend: str) -> None:
    factor = CASES[case][3]
    for epochs in (1, 8):  # later, the ways of two orders of summation part
        theirs, model, history = theirs_and_ours(case, epochs, backend, "float64", weighted)
        assert len(history) == theirs.n_iter_ == epochs
        objective = history["loss"][-1] + history["penalty"][-1]
        np.testing.assert_allclose(objective, factor * theirs.loss_, rtol=1e-8)
        for layer, W in zip(model.layers, theirs.coefs_, strict=True):
            np.testing.assert_allclose(layer.W, W.T, rtol=1e-5, atol=1e-7)


def test_float32_comes_as_far_as_its_digits_go() -> None:
    theirs, _, history = theirs_and_ours("classes", 300, "cpu", "float32", False)
    np.testing.assert_allclose(history["loss"][-1] + history["penalty"][-1], theirs.loss_, rtol=1e-5)


def test_each_iteration_lowers_the_objective_and_the_gradient_ends_at_tol() -> None:
    model = network(3, l2=1e-3)
    history = fit(model, fcnn.LBFGS(tol=1e-3))
    objective = np.add(history["loss"], history["penalty"])
    assert (np.diff(objective) < 0).all()
    assert history.stopped_by == "converged: no element of the gradient is larger than tol=0.001"
    model.forward(X)
    trainer = fcnn.Trainer(model)
    assert trainer.evaluate(X, Y)["loss"] == pytest.approx(history["loss"][-1], rel=1e-12)


def test_micro_batches_are_the_same_run() -> None:
    whole, parts = (fit(network(3, l2=1e-3), epochs=6, micro_batch_size=size) for size in (None, 40))
    np.testing.assert_allclose(parts["loss"], whole["loss"], rtol=1e-9)


def test_batch_size_and_order_have_no_say() -> None:
    whole, small = (fit(network(3), epochs=4, batch_size=size, drop_last=True) for size in (1000, 7))
    assert whole["loss"] == small["loss"]


def test_sparse_samples() -> None:
    dense, sparse = (
        fcnn.Trainer(network(3), optimizer=fcnn.LBFGS()).fit(given, Y, epochs=5, progress=False)
        for given in (X, csr_array(X))
    )
    np.testing.assert_allclose(sparse["loss"], dense["loss"], rtol=1e-9)


def test_a_second_fit_goes_on() -> None:
    model = network(3)
    first, second = fit(model, epochs=5), fit(model, epochs=5)
    assert second["loss"][0] < first["loss"][-1]


def test_a_network_that_has_converged_stays() -> None:
    model = network(3, l2=0.1)
    fit(model, fcnn.LBFGS(tol=1e-4))
    before = model.layers[0].W.copy()
    history = fit(model, fcnn.LBFGS(tol=1e-2))
    assert len(history) == 1
    np.testing.assert_array_equal(model.layers[0].W, before)


def test_passes_are_counted() -> None:
    history = fit(network(3), fcnn.LBFGS(tol=0.0, max_evaluations=5))
    assert history.stopped_by == "evaluations"
    assert len(history) <= 5


class _Stops(Callback):
    def __init__(self, after: int, how: Callable[[Any], None]) -> None:
        self._after, self._how = after, how
        self.begun: list[int] = []

    def on_epoch_begin(self, trainer: Any, epoch: int) -> None:
        self.begun.append(epoch)

    def on_epoch_end(self, trainer: Any, record: dict[str, float]) -> None:
        if record["epoch"] == self._after:
            self._how(trainer)


def _ask(trainer: Any) -> None:
    trainer.stop_reason = "asked"


def test_a_callback_ends_the_run_after_its_iteration() -> None:
    model, stops = network(3), _Stops(3, _ask)
    history = fit(model, callbacks=[stops])
    assert (len(history), history.stopped_by, stops.begun) == (3, "asked", [1, 2, 3])
    assert fcnn.Trainer(model).evaluate(X, Y)["loss"] == pytest.approx(history["loss"][-1], rel=1e-12)


def test_ctrl_c_keeps_the_last_iteration() -> None:
    import signal

    def press(trainer: Any) -> None:
        signal.raise_signal(signal.SIGINT)

    model = network(3)
    history = fit(model, callbacks=[_Stops(4, press)])
    assert (len(history), history.stopped_by) == (4, "interrupt")
    assert fcnn.Trainer(model).evaluate(X, Y)["loss"] == pytest.approx(history["loss"][-1], rel=1e-12)


def test_an_error_in_a_pass_leaves_the_last_iteration() -> None:
    def fail(trainer: Any) -> None:
        raise RuntimeError("on purpose")

    model = network(3)
    trainer = fcnn.Trainer(model, optimizer="lbfgs")
    with pytest.raises(RuntimeError, match="on purpose"):
        trainer.fit(X, Y, epochs=10, progress=False, callbacks=[_Stops(2, fail)])
    assert trainer.evaluate(X, Y)["loss"] == pytest.approx(trainer.history["loss"][-1], rel=1e-12)


def test_early_stopping_restores_the_best_iteration() -> None:
    model = network(3)
    trainer = fcnn.Trainer(model, optimizer="lbfgs", metrics=["accuracy"])
    stops = fcnn.EarlyStopping(patience=3)
    history = trainer.fit(X, Y, epochs=200, validation_split=0.3, progress=False, callbacks=[stops])
    assert history.stopped_by.startswith("early stopping")
    assert history.best_epoch == int(np.argmin(history["val_loss"])) + 1
    assert history["accuracy"][-1] > 0.95


def test_diverging_values_are_found() -> None:
    model = network(3)
    model.layers[0].W[...] = 1e300
    model.layers[1].W[...] = 1e308
    with pytest.raises(fcnn.DivergenceError, match="not finite"):
        fit(model)
    assert (model.layers[1].W == 1e308).all()


def test_a_trainer_that_was_pickled_goes_on() -> None:
    trainer = fcnn.Trainer(network(3), optimizer=fcnn.LBFGS(tol=1e-3))
    trainer.fit(X, Y, epochs=3, progress=False)
    again = pickle.loads(pickle.dumps(trainer))
    histories = [t.fit(X, Y, epochs=3, progress=False) for t in (trainer, again)]
    assert histories[0]["loss"] == histories[1]["loss"]


REFUSED: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: fcnn.LBFGS(learning_rate=0.1), ValueError, "no learning_rate"),
    (lambda: fcnn.LBFGS(clip_norm=1.0), ValueError, "clip_norm"),
    (lambda: fcnn.LBFGS(rate_factors={"*": 0.5}), ValueError, "rate_factors"),
    (lambda: fcnn.LBFGS(tol=-1.0), ValueError, "tol"),
    (lambda: fcnn.LBFGS(history_size=0), ValueError, "history_size"),
    (lambda: fcnn.LBFGS(max_evaluations=0), ValueError, "max_evaluations"),
    (lambda: fcnn.LBFGS().bind(network(3)).step(), TypeError, "searches along a line"),
    (lambda: fit(_with_dropout()), ValueError, "draws other numbers"),
    (lambda: fit(network(3), memory_limit="5 KiB"), ValueError, "(?s)memory"),
    (lambda: classifier(optimizer="lbfgs", dropout=0.1).fit(X, Y), ValueError, "Leave dropout out"),
    (lambda: regressor(optimizer="lbfgs", learning_rate=0.1).fit(X, Y), ValueError, "no learning_rate"),
    (lambda: regressor(optimizer=fcnn.LBFGS()).partial_fit(X, Y), AttributeError, "partial_fit"),
]


def _with_dropout() -> fcnn.Sequential:
    return fcnn.Sequential([fcnn.Dense(4), fcnn.Dropout(0.1), fcnn.Dense(3)], n_in=N_IN, backend="numpy")


@pytest.mark.parametrize(("run", "error", "message"), REFUSED)
def test_refused(run: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        run()


# Estimators


def test_estimators_converge_and_say_where_they_do_not() -> None:
    network = classifier(optimizer="lbfgs", activation="tanh", epochs=500, l2=1e-3, tol=1e-3, dtype="float64").fit(X, Y)
    assert network.history_.stopped_by.startswith("converged: no element of the gradient is larger than tol=0.001")
    assert network.score(X, Y) > 0.97
    with pytest.warns(fcnn.estimators.UnfinishedFitWarning, match="took all its 3 epochs"):
        classifier(optimizer="lbfgs").fit(X, Y)


@pytest.mark.filterwarnings("ignore::fcnn_gpu.estimators.UnfinishedFitWarning")
def test_estimators_go_on_and_pickle() -> None:
    twice = classifier(optimizer="lbfgs", warm_start=True, epochs=5).fit(X, Y).fit(X, Y)
    assert twice.n_iter_ == 10
    again = pickle.loads(pickle.dumps(twice))
    np.testing.assert_array_equal(again.predict_proba(X), twice.predict_proba(X))
    assert not hasattr(twice, "partial_fit")
