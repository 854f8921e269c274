"""The trainer: what a run computes, that it is reproducible, and how it ends."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu import _run
from fcnn_gpu.callbacks import Callback
from fcnn_gpu.data import epoch_order, split_validation

N, N_IN, N_CLASSES = 50, 5, 3
X = np.random.default_rng(0).normal(size=(N, N_IN)).astype(np.float32)
Y = np.argmax(X[:, :3] + 0.1 * X[:, 3:4], axis=1)


def network(seed: int = 0, **options: Any) -> fcnn.Sequential:
    layers = [
        fcnn.Dense(8, activation="tanh", l2=1e-3),
        fcnn.BatchNorm(),
        fcnn.Dropout(0.2),
        fcnn.Residual([fcnn.Dense(8, activation="gelu")]),
        fcnn.Dense(N_CLASSES),
    ]
    return fcnn.Sequential(layers, n_in=N_IN, seed=seed, backend="numpy", **options)


def trainer(seed: int = 0, optimizer: Any = None, **options: Any) -> fcnn.Trainer:
    return fcnn.Trainer(network(seed), optimizer=optimizer or fcnn.Adam(0.01), **options)


def fit(t: fcnn.Trainer, x: Any = X, y: Any = Y, **options: Any) -> fcnn.History:
    return t.fit(x, y, **({"epochs": 3, "batch_size": 16, "progress": False} | options))


def values(t: fcnn.Trainer) -> dict[str, Any]:
    """Everything that a run changes, copied."""
    state = {f"optimizer.{name}": array.copy() for name, array in t.optimizer.state.items()}
    counters = {"step": int(t.optimizer.control.step[0]), "random_step": int(t.model.random_step[0])}
    return t.model.snapshot() | state | counters | {"epochs": t.epochs_trained}


def assert_same(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


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


# Divergence


class At(Callback):
    """Calls `act(trainer)` at the beginning of an epoch, and notes the state at each one."""

    def __init__(self, epoch: int, act: Callable[[fcnn.Trainer], None]) -> None:
        self.epoch, self.act = epoch, act
        self.states: list[dict[str, Any]] = []

    def on_epoch_begin(self, trainer: fcnn.Trainer, epoch: int) -> None:
        self.states.append(values(trainer))
        if epoch == self.epoch:
            self.act(trainer)


def poisoned(position: int, epoch: int, value: float = 3e38) -> tuple[Any, int]:
    """X whose sample at `position` of the epoch's order overflows, and that sample's index."""
    bad = X.copy()
    sample = epoch_order(N, 0, epoch - 1, True)[position]
    bad[sample] = value
    return bad, int(sample)


@pytest.mark.parametrize("tick", [0.0, 1e9], ids=["found at once", "found at the end"])
@pytest.mark.parametrize("position", [0, 15, 16, 40, 49])
def test_a_failing_step_is_named_and_leaves_what_was_before_it(
    monkeypatch: pytest.MonkeyPatch, position: int, tick: float
) -> None:
    """Bit for bit what a run that stops one step earlier leaves: weights, moments, running statistics, counters."""
    monkeypatch.setattr(_run, "_TICK_SECONDS", tick)
    step = position // 16
    layers = [fcnn.BatchNorm(), fcnn.Dense(8, activation="relu"), fcnn.Dropout(0.2), fcnn.Dense(N_CLASSES)]

    def make() -> fcnn.Trainer:
        return fcnn.Trainer(fcnn.Sequential(copy.deepcopy(layers), n_in=N_IN, seed=0, backend="numpy"))

    bad, _ = poisoned(position, 1)
    t = make()
    with pytest.raises(fcnn.DivergenceError) as caught:
        fit(t, bad)
    assert (caught.value.epoch, caught.value.step) == (1, step + 1)
    assert "the output of layer 0, BatchNorm(), is not finite" in str(caught.value)
    assert f"epoch 1, step {step + 1}" in str(caught.value)
    assert "smaller learning rate (it was 0.001)" in str(caught.value)
    assert t.history.stopped_by == "error"

    expected = make()
    good = expected.model
    loss = fcnn.CrossEntropy()
    order = epoch_order(N, 0, 0, True)
    for start in range(0, step * 16, 16):
        part = order[start : start + 16]
        loss.forward(good.forward(bad[part], training=True), Y[part])
        good.backward(loss.backward())
        expected.optimizer.step()
    assert_same(values(t), values(expected))

    fit(t)  # and with good samples it goes on
    assert np.isfinite(t.model.flat.values).all()


def test_a_later_epoch_is_named() -> None:
    t = trainer()

    def blow_up(t: fcnn.Trainer) -> None:
        t.model.layers[4].W[...] = 1e38  # type: ignore[attr-defined]

    watch = At(3, blow_up)
    with pytest.raises(fcnn.DivergenceError, match="epoch 3, step 1: the output of layer 4, Dense"):
        fit(t, callbacks=[watch], epochs=5)
    assert len(t.history) == 2
    np.testing.assert_array_equal(t.model.layers[4].W, np.float32(1e38))  # type: ignore[attr-defined]
    for name in ("1.running_mean", "1.running_var", "0.W", "optimizer.m"):
        np.testing.assert_array_equal(values(t)[name], watch.states[-1][name])


def test_the_first_offending_layer_may_be_inside_the_network() -> None:
    layers = [fcnn.Dense(4), fcnn.Residual([fcnn.Dense(4)]), fcnn.Dense(1)]
    model = fcnn.Sequential(layers, n_in=N_IN, seed=0, backend="numpy")
    layers[1].block[0].b[...] = np.inf  # type: ignore[attr-defined]
    with pytest.raises(fcnn.DivergenceError, match=r"the output of layer 1, Residual\(\[Dense\(4 → 4\)\]\)"):
        fit(fcnn.Trainer(model, "mse"), y=X[:, :1])


def test_an_infinite_loss_of_finite_outputs() -> None:
    model = fcnn.Sequential([fcnn.Dense(1)], n_in=N_IN, seed=0, backend="numpy")
    model.layers[0].b[...] = 1e30  # type: ignore[attr-defined]
    with pytest.raises(fcnn.DivergenceError, match="the loss mse is not finite, though all layers' outputs are"):
        fit(fcnn.Trainer(model, "mse"), y=X[:, :1])


def test_an_infinity_that_shows_first_in_the_gradient() -> None:
    model = fcnn.Sequential([fcnn.Dense(4), fcnn.Dense(1)], n_in=N_IN, seed=0, backend="numpy")
    first, last = model.layers
    first.W[...], last.W[...] = 1e-20, 3e38  # type: ignore[attr-defined]
    big = np.full_like(X, 1e3)
    before = model.snapshot()
    t = fcnn.Trainer(model, fcnn.Huber(delta=1e3))
    with pytest.raises(fcnn.DivergenceError, match=r"the gradient of W in layer 0, Dense.* is not finite"):
        fit(t, big, y=np.zeros((N, 1)))
    assert_same(before, model.snapshot())


def test_a_gradient_whose_norm_overflows() -> None:
    model = fcnn.Sequential([fcnn.Dense(1, bias=False)], n_in=N_IN, seed=0, backend="numpy")
    t = fcnn.Trainer(model, "mae")
    with pytest.raises(fcnn.DivergenceError, match="sum of the losses or the norm of the gradient overflows"):
        fit(t, np.full_like(X, 1e25), y=X[:, :1])


def test_a_rate_far_too_large_diverges() -> None:
    with pytest.raises(fcnn.DivergenceError) as caught:
        fit(trainer(optimizer=fcnn.SGD(1e30)), epochs=50)
    assert isinstance(caught.value, ArithmeticError)
    assert caught.value.fault in str(caught.value)


# Ctrl-C


class Press(Callback):
    """Presses Ctrl-C: `times` in the given epoch, at its beginning or end, or after a step."""

    def __init__(self, when: str, epoch: int = 2, times: int = 1) -> None:
        self.when, self.epoch, self.times = when, epoch, times
        self.ended = False

    def press(self, when: str, epoch: int) -> None:
        if (when, epoch) == (self.when, self.epoch):
            for _ in range(self.times):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.01)

    def on_epoch_begin(self, trainer: fcnn.Trainer, epoch: int) -> None:
        self.press("begin", epoch)

    def on_tick(self, trainer: fcnn.Trainer, step: int, n_steps: int, loss: float) -> None:
        if step == 2:
            self.press("tick", trainer.epochs_trained + 1)

    def on_epoch_end(self, trainer: fcnn.Trainer, record: dict[str, float]) -> None:
        self.press("end", int(record["epoch"]))

    def on_train_end(self, trainer: fcnn.Trainer, history: fcnn.History) -> None:
        self.ended = True


POSIX = pytest.mark.skipif(sys.platform == "win32", reason="os.kill ends the process on Windows")


@POSIX
@pytest.mark.parametrize(("when", "epochs", "steps"), [("begin", 1, 5), ("tick", 1, 7), ("end", 2, 8)])
def test_ctrl_c_ends_the_run_after_the_step_and_keeps_the_weights(
    monkeypatch: pytest.MonkeyPatch, when: str, epochs: int, steps: int
) -> None:
    monkeypatch.setattr(_run, "_TICK_SECONDS", 0.0)
    handler = signal.getsignal(signal.SIGINT)
    t, press = trainer(), Press(when)
    history = fit(t, callbacks=[press], epochs=100)
    assert history.stopped_by == "interrupt"
    assert (len(history), int(t.optimizer.control.step[0])) == (epochs, steps)
    assert press.ended
    assert signal.getsignal(signal.SIGINT) is handler
    assert np.isfinite(t.predict(X)).all()
    fit(t, epochs=1)


@POSIX
def test_ctrl_c_in_the_only_step_of_an_epoch_leaves_a_whole_record() -> None:
    history = fit(trainer(), callbacks=[Press("begin", epoch=1)], batch_size=N)
    assert (len(history), history.stopped_by) == (1, "interrupt")
    assert history["seconds"][0] > 0


@POSIX
def test_a_second_ctrl_c_raises() -> None:
    t, press = trainer(), Press("begin", times=2)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(t, callbacks=[press])
    assert press.ended
    assert t.history.stopped_by == "interrupt"
    assert signal.getsignal(signal.SIGINT) is handler


@POSIX
def test_a_process_that_ignores_ctrl_c_goes_on_ignoring_it() -> None:
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        history = fit(trainer(), callbacks=[Press("begin", times=2)])
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, handler)
    assert (len(history), history.stopped_by) == (3, "epochs")


@POSIX
def test_ctrl_c_from_a_terminal() -> None:
    """A process of its own, interrupted from outside in the middle of a long run."""
    script = """
        import numpy as np, sys
        import fcnn_gpu as fcnn

        class Says(fcnn.Callback):
            def on_epoch_end(self, trainer, record):
                print("epoch", flush=True)

        rng = np.random.default_rng(0)
        X, y = rng.normal(size=(1000, 20)), rng.integers(0, 2, 1000)
        model = fcnn.Sequential([fcnn.Dense(16, activation="relu"), fcnn.Dense(2)], n_in=20, seed=0, backend="numpy")
        history = fcnn.Trainer(model).fit(X, y, epochs=10**6, batch_size=10, callbacks=[Says()])
        print(history.stopped_by, np.isfinite(model.flat.values).all(), len(history) > 0)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "epoch\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert out.splitlines()[-1] == "interrupt True True"
    assert err == ""
    assert process.returncode == 0


def test_fitting_in_another_thread_leaves_signals_alone() -> None:
    handler = signal.getsignal(signal.SIGINT)
    found: list[Any] = []

    class Looks(Callback):
        def on_epoch_begin(self, trainer: fcnn.Trainer, epoch: int) -> None:
            found.append(signal.getsignal(signal.SIGINT))

    t, same = trainer(), trainer()
    thread = threading.Thread(target=lambda: fit(t, callbacks=[Looks()]))
    thread.start()
    thread.join()
    assert found == [handler] * 3
    fit(same)
    assert_same(values(t), values(same))


def test_each_trainer_predicts_through_the_link_of_its_own_loss() -> None:
    model = fcnn.Sequential([fcnn.Dense(3)], n_in=2, seed=0, backend="numpy")
    classifier = fcnn.Trainer(model, loss="cross_entropy")
    fcnn.Trainer(model, loss="mse")  # the model's link is now this one's
    X = np.random.default_rng(0).standard_normal((5, 2))
    np.testing.assert_allclose(classifier.predict(X).sum(axis=1), 1.0, rtol=1e-6)
    np.testing.assert_array_equal(classifier.predict_proba(X), classifier.predict(X))


@pytest.mark.parametrize("seed", range(5))
def test_a_split_of_binary_targets_keeps_the_share_of_the_positives(seed: int) -> None:
    X = np.random.default_rng(0).standard_normal((256, 2))
    y = np.zeros(256)
    y[:20] = 1
    model = fcnn.Sequential([fcnn.Dense(1)], n_in=2, seed=seed, backend="numpy")
    trainer = fcnn.Trainer(model, loss="binary_cross_entropy")
    _, validation = trainer._prepare(X, y, None, 0.1, None, None)
    assert validation is not None
    assert validation[1].sum() == 2
