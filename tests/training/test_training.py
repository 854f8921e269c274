"""The trainer: what a run computes, that it is reproducible, and how it ends."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pandas as pd
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.callbacks import Callback
from fcnn_gpu.data._device_data import epoch_order
from fcnn_gpu.data._input_checks import features
from fcnn_gpu.data._supply import ArraySupply
from fcnn_gpu.data._validation_split import split_validation
from fcnn_gpu.training import _run
from fcnn_gpu.training._evaluation import EvaluationData

from ..support.small_runs import N_CLASSES, N_IN, N, X, Y, assert_same, fit, network, trainer, values


def columns(history: fcnn.History) -> dict[str, list[float]]:
    return {k: v for k, v in history.to_dict().items() if k not in ("seconds", "samples_per_second")}


# Determinism


def test_one_seed_is_one_run() -> None:
    a, b = trainer(metrics=["accuracy"]), trainer(metrics=["accuracy"])
    assert columns(fit(a)) == columns(fit(b))
    assert_same(values(a), values(b))
    c = trainer(seed=1)
    fit(c)
    assert (c.model.flat.values != a.model.flat.values).any()


def test_the_trainers_seed_orders_the_samples_and_the_models_the_rest() -> None:
    runs = []
    for seed in (5, 5, 6):
        t = fcnn.Trainer(network(0), optimizer=fcnn.Adam(0.01), seed=seed)
        fit(t)
        runs.append(t.model.flat.values.copy())
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0] != runs[2]).any()


def test_observing_a_run_does_not_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = trainer()
    fit(plain)
    monkeypatch.setattr(_run, "_TICK_SECONDS", 0.0)
    watched = trainer(metrics=["accuracy", "f1"])
    fit(watched, progress=True, validation_data=(X[:7], Y[:7]), callbacks=[Callback()])
    assert_same(values(plain), values(watched))


def test_large_evaluations_between_steps_do_not_change_a_run() -> None:
    class Evaluates(Callback):
        def on_epoch_begin(self, trainer: fcnn.Trainer, epoch: int) -> None:
            trainer.model.predict(np.ones((3000, N_IN)))
            trainer.evaluate(np.ones((500, N_IN)), np.zeros(500, int))

    plain, watched = trainer(), trainer()
    fit(plain)
    fit(watched, callbacks=[Evaluates()])
    assert_same(values(plain), values(watched))


def test_runs_add_up() -> None:
    whole, parts = trainer(), trainer()
    fit(whole, epochs=5)
    fit(parts, epochs=2)
    fit(parts, epochs=3)
    assert_same(values(whole), values(parts))
    assert parts.epochs_trained == 5


def test_two_threads_do_not_disturb_each_other() -> None:
    """Two models and their scratch memory at once; the widths differ, so shared scratch would show."""

    def train(width: int, out: list[Any]) -> None:
        layers = [fcnn.Dense(width, activation="gelu"), fcnn.LayerNorm(), fcnn.Dense(N_CLASSES)]
        t = fcnn.Trainer(fcnn.Sequential(layers, n_in=N_IN, seed=0, backend="numpy"))
        fit(t, epochs=15)
        out.append(t.model.flat.values.copy())

    alone: list[Any] = []
    together: list[list[Any]] = [[], []]
    for width in (30, 47):
        train(width, alone)
    threads = [threading.Thread(target=train, args=(w, out)) for w, out in zip((30, 47), together, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for expected, (found,) in zip(alone, together, strict=True):
        np.testing.assert_array_equal(found, expected)


# The explicit loop


@pytest.mark.parametrize("optimizer", [lambda: fcnn.Adam(0.01, clip_norm=0.5), lambda: fcnn.SGD(0.05, 0.9)])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_explicit_loop_is_what_the_trainer_does_bit_for_bit(optimizer: Any, weighted: bool) -> None:
    weights = np.random.default_rng(1).uniform(0.5, 2, N).astype(np.float32) if weighted else None
    t = trainer(optimizer=optimizer())
    history = fit(t, sample_weight=weights)

    model = network()
    loss, rule = fcnn.CrossEntropy(), optimizer().bind(model)
    for epoch in range(3):
        total = 0.0
        order = epoch_order(N, model.seed, epoch, True)
        for start in range(0, N, 16):
            part = order[start : start + 16]
            outputs = model.forward(X[part], training=True)
            value = loss.forward(outputs, Y[part], None if weights is None else weights[part])
            model.backward(loss.backward())
            rule.step()
            total += float(value) * len(part)
        assert history["loss"][epoch] == pytest.approx(total / N, rel=1e-6)
    assert_same(t.model.snapshot(), model.snapshot())
    for name, array in rule.state.items():
        np.testing.assert_array_equal(array, t.optimizer.state[name])


# What is measured


def test_the_history_of_a_run() -> None:
    t = trainer(metrics=["accuracy"])
    history = fit(t, validation_data=(X[:10], Y[:10]))
    assert history is t.history
    assert history.columns == t.columns
    assert history.columns == [
        *("epoch", "loss", "penalty", "accuracy", "val_loss", "val_accuracy"),
        *("learning_rate", "seconds", "samples_per_second"),
    ]
    assert history["epoch"] == [1, 2, 3]
    last = history.records[-1]
    assert last["penalty"] == t.model.penalty() > 0
    assert last["samples_per_second"] == pytest.approx(N / last["seconds"])
    assert last["learning_rate"] == 0.01
    assert {"loss": last["val_loss"], "accuracy": last["val_accuracy"]} == t.evaluate(X[:10], Y[:10])


def test_loss_and_metrics_are_those_of_the_outputs_trained_on() -> None:
    """With a rate of 0 and no dropout the training pass is a plain evaluation."""
    model = fcnn.Sequential(
        [fcnn.Dense(8, activation="relu"), fcnn.Dense(N_CLASSES)], n_in=N_IN, seed=0, backend="numpy"
    )
    t = fcnn.Trainer(model, optimizer=fcnn.SGD(0.0), metrics=["accuracy", "top_2_accuracy"])
    history = fit(t, validation_data=(X, Y))
    for record in history:
        for name in ("loss", "accuracy", "top_2_accuracy"):
            assert record[name] == pytest.approx(record[f"val_{name}"], rel=1e-6)


def test_evaluation_weighs_samples_and_takes_any_number_of_them() -> None:
    t = trainer()
    many = np.tile(X, (50, 1))
    assert t.evaluate(many, np.tile(Y, 50))["loss"] == pytest.approx(t.evaluate(X, Y)["loss"], rel=1e-6)
    weights = np.zeros(N)
    weights[:10] = 2.5
    expected = t.evaluate(X[:10], Y[:10])["loss"] * 2.5 * 10 / N
    assert t.evaluate(X, Y, weights)["loss"] == pytest.approx(expected, rel=1e-6)


def test_learning_happens() -> None:
    t = trainer(metrics=["accuracy"])
    history = fit(t, epochs=60)
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert t.evaluate(X, Y)["accuracy"] > 0.95


# Batches


@pytest.mark.parametrize(
    ("batch_size", "drop_last", "steps"),
    [(16, False, 4), (16, True, 3), (25, True, 2), (50, False, 1), (1000, False, 1), (1000, True, 1), (7, False, 8)],
)
def test_steps_of_an_epoch(batch_size: int, drop_last: bool, steps: int) -> None:
    model = fcnn.Sequential([fcnn.Dense(N_CLASSES)], n_in=N_IN, seed=0, backend="numpy")
    t = fcnn.Trainer(model)
    history = fit(t, epochs=2, batch_size=batch_size, drop_last=drop_last)
    assert t.steps_per_epoch == steps
    assert int(t.optimizer.control.step[0]) == 2 * steps
    seen = steps * batch_size if drop_last and batch_size < N else N
    record = history.records[0]
    assert record["samples_per_second"] * record["seconds"] == pytest.approx(seen)


def test_the_last_smaller_batch_weighs_by_its_own_size() -> None:
    """One epoch of plain SGD over 3 samples in batches of 2, by hand."""
    x, y = np.array([[1.0], [2.0], [3.0]]), np.array([1.0, 0.0, -1.0])
    model = fcnn.Sequential([fcnn.Dense(1, init="zeros", bias=False)], n_in=1, backend="numpy", dtype="float64")
    history = fit(fcnn.Trainer(model, "mse", "sgd"), x, y, epochs=1, batch_size=2, shuffle=False)
    w = 0.0 - 0.01 * (2 * (0 - 1) * 1 + 2 * (0 - 0) * 2) / 2
    after_two = w
    w -= 0.01 * 2 * (w * 3 + 1) * 3
    assert float(model.flat.values[0]) == pytest.approx(w)
    assert history["loss"][0] == pytest.approx((1 + 0 + (3 * after_two + 1) ** 2) / 3)


def test_without_shuffling_the_order_is_the_users() -> None:
    a, b = trainer(), trainer()
    fit(a, shuffle=False)
    order = np.arange(N)[::-1].copy()
    fit(b, X[order], Y[order], shuffle=False)
    assert (a.model.flat.values != b.model.flat.values).any()
    c = trainer(seed=0)
    fit(c, shuffle=False)
    assert_same(values(a), values(c))


def test_batch_norm_and_one_sample_left_over() -> None:
    t = trainer()
    before = values(t)
    with pytest.raises(ValueError, match=r"cannot train on a batch of one sample.*or drop_last=True"):
        fit(t, X[:33], Y[:33])
    assert_same(values(t), before)
    fit(t, X[:33], Y[:33], drop_last=True)
    with pytest.raises(ValueError, match="one sample"):
        fit(t, X[:1], Y[:1])


# Weights and splits


def plain(seed: int = 0) -> fcnn.Trainer:
    layers = [fcnn.Dense(8, activation="tanh"), fcnn.Dense(N_CLASSES)]
    return fcnn.Trainer(
        fcnn.Sequential(layers, n_in=N_IN, seed=seed, backend="numpy", dtype="float64"), optimizer="sgd"
    )


def test_a_sample_of_weight_two_is_that_sample_twice() -> None:
    """In one batch: Σ w_j ℓ_j is the same, and the mean over the batch differs by the factor of its size."""
    weights = np.ones(20)
    weights[:10] = 2
    twice = np.concatenate([np.arange(20), np.arange(10)])
    a, b = plain(), plain()
    a.optimizer.learning_rate = 0.01 * 20 / 30
    fit(a, X[:20], Y[:20], sample_weight=weights, batch_size=20)
    fit(b, X[twice], Y[twice], batch_size=30)
    np.testing.assert_allclose(a.model.flat.values, b.model.flat.values, rtol=1e-12)


def test_a_sample_of_weight_zero_is_none() -> None:
    weights = np.ones(N)
    weights[30:] = 0
    a, b = plain(), plain()
    a.optimizer.learning_rate = 0.01 * N / 30
    fit(a, sample_weight=weights, batch_size=N)
    fit(b, X[:30], Y[:30], batch_size=30)
    np.testing.assert_allclose(a.model.flat.values, b.model.flat.values, rtol=1e-12)


def test_class_weights_are_sample_weights_by_label_and_multiply_them() -> None:
    by_class = np.array([0.5, 1.0, 2.0])
    own = np.random.default_rng(0).uniform(0.5, 1, N)
    a, b = plain(), plain()
    fit(a, class_weight={0: 0.5, 2: 2.0}, sample_weight=own)
    fit(b, sample_weight=by_class[Y] * own)
    np.testing.assert_allclose(a.model.flat.values, b.model.flat.values, rtol=1e-6)
    c, d = plain(), plain()
    fit(c, class_weight="balanced")
    fit(d, sample_weight=(N / (3 * np.bincount(Y)))[Y])
    np.testing.assert_allclose(c.model.flat.values, d.model.flat.values, rtol=1e-6)


def test_class_weights_of_a_binary_network() -> None:
    model = fcnn.Sequential([fcnn.Dense(1)], n_in=N_IN, seed=0, backend="numpy")
    t = fcnn.Trainer(model, "binary_cross_entropy")
    fit(t, y=(Y == 0).astype(int), class_weight="balanced")
    assert t.predict_proba(X).shape == (N, 2)


@pytest.mark.parametrize("make", [lambda: (X[:10], Y[:10]), None], ids=["data", "split"])
def test_validation_is_not_weighed_by_class(make: Any) -> None:
    options: dict[str, Any] = {"validation_split": 0.2} if make is None else {"validation_data": make()}
    t = plain()
    t.optimizer.learning_rate = 0.0
    weighed = fit(t, class_weight={0: 100.0}, **options)
    alike = fit(t, **options)
    assert weighed["val_loss"] == alike["val_loss"]
    assert weighed["loss"][0] > 5 * alike["loss"][0]


def test_a_validation_split_holds_samples_out_with_their_weights() -> None:
    weights = np.random.default_rng(0).uniform(0.5, 2, N)
    a, b = plain(), plain()
    history = fit(a, sample_weight=weights, validation_split=0.2)
    train, held_out = split_validation(N, 0.2, Y, a.seed)
    other = fit(
        b,
        X[train],
        Y[train],
        sample_weight=weights[train],
        validation_data=(X[held_out], Y[held_out], weights[held_out]),
    )
    assert columns(history) == columns(other)
    assert_same(values(a), values(b))


# Predictions


def test_probabilities() -> None:
    t = trainer()
    fit(t)
    P = t.predict_proba(X)
    np.testing.assert_allclose(P.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(P, t.predict(X, batch_size=N))
    many = fcnn.Trainer(fcnn.Sequential([fcnn.Dense(3)], n_in=N_IN, backend="numpy"), "binary_cross_entropy")
    assert many.predict_proba(X).shape == (N, 3)
    values = fcnn.Trainer(fcnn.Sequential([fcnn.Dense(1)], n_in=N_IN, backend="numpy"), "mse")
    with pytest.raises(TypeError, match="The loss 'mse' predicts values, not probabilities: use predict"):
        values.predict_proba(X)


# pandas, lists


def test_pandas_and_lists() -> None:
    table = pd.DataFrame(X, columns=list("abcde"))
    runs = []
    for x, y in (
        (X, Y),
        (table, pd.Series(Y)),
        (X.tolist(), Y.tolist()),
        (table.astype("float64"), pd.Series(Y, index=Y)),
    ):
        t = trainer(metrics=["accuracy"])
        history = fit(t, x, y, validation_data=(x, y), sample_weight=pd.Series(np.ones(N)))
        runs.append((columns(history), values(t)))
        np.testing.assert_array_equal(t.predict(x), t.predict(X))
        np.testing.assert_array_equal(t.model.predict_classes(x), t.model.predict_classes(X))
    for other in runs[1:]:
        assert other[0] == runs[0][0]
        assert_same(other[1], runs[0][1])
    one_column = pd.DataFrame({"target": Y.astype(float)})
    t = fcnn.Trainer(fcnn.Sequential([fcnn.Dense(1)], n_in=N_IN, backend="numpy"), "mse")
    fit(t, table, one_column)


def test_metrics_are_tried_on_few_samples_before_a_run() -> None:
    sizes: list[int] = []

    class Counting(fcnn.metrics.Accuracy):
        def __call__(self, y_true: HostArray, y_pred: HostArray) -> float:  # type: ignore[override]  # all samples count alike
            sizes.append(len(y_true))
            return super().__call__(y_true, y_pred)

    model = fcnn.Sequential([fcnn.Dense(2)], n_in=1, seed=0, backend="numpy")
    n = 5000
    X, y = np.ones((n, 1)), np.arange(n) % 2
    fcnn.Trainer(model, metrics=[Counting()]).fit(X, y, epochs=1, batch_size=1000, progress=False)
    assert sizes == [1000, n]


def test_an_evaluation_without_metrics_keeps_no_outputs() -> None:
    model = fcnn.Sequential([fcnn.Dense(2)], n_in=1, seed=0, backend="numpy")
    X = features(model.ops, np.ones((3, 1), "float32"), 1, model.dtype, "evaluate")
    data = EvaluationData(model, ArraySupply(X, np.zeros(3, np.int64), None))
    loss, outputs = data.run(fcnn.CrossEntropy(), None)
    assert outputs is None
    again, outputs = data.run(fcnn.CrossEntropy(), model.ops.to_numpy)
    assert again == loss
    assert outputs is not None
    assert outputs.shape == (3, 2)
