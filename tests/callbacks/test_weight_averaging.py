"""EMA and SWA: the means beside PyTorch's, what validation and other callbacks see of them, who has the last word."""

from __future__ import annotations

import signal
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.callbacks import EMA, SWA, Callback, KeepBest, update_batch_norm
from tests.conftest import compiled_ops, emulated_ops, numpy_ops
from tests.support.tolerances import assert_close

rng = np.random.default_rng(0)
X = rng.normal(size=(50, 3)).astype("float32")
Y = X @ np.array([1.0, -2.0, 0.5], "float32")
X_VAL, Y_VAL = X[:20] + 0.1, Y[:20]
BACKENDS: Any = pytest.mark.parametrize("make", [numpy_ops, compiled_ops, emulated_ops])


def trainer(backend: Any = "numpy", norm: bool = False) -> fcnn.Trainer:
    layers: list[Any] = [fcnn.Dense(4, activation="tanh"), *([fcnn.BatchNorm()] if norm else []), fcnn.Dropout(0.1)]
    model = fcnn.Sequential([*layers, fcnn.Dense(1)], n_in=3, seed=0, backend=backend)
    return fcnn.Trainer(model, "mse", fcnn.Adam(0.02))


def fit(t: fcnn.Trainer, *callbacks: Callback, **options: Any) -> fcnn.History:
    defaults: dict[str, Any] = {"epochs": 4, "batch_size": 8, "progress": False, "validation_data": (X_VAL, Y_VAL)}
    return t.fit(X, Y, callbacks=callbacks, **(defaults | options))


class Weights(Callback):
    """The weights after every step, as training has them."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_step(self, trainer: fcnn.Trainer, step: int, read_loss: Any) -> None:
        self.seen.append(weights_of(trainer))


def weights_of(t: fcnn.Trainer) -> Any:
    return t.model.ops.to_numpy(t.model.flat.values).copy()


def of_torch(seen: list[Any], **options: Any) -> Any:
    """What PyTorch's AveragedModel makes of the same weights."""
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(seen[0].size, 1, bias=False)
    averaged = torch.optim.swa_utils.AveragedModel(model, **options)
    for weights in seen:
        with torch.no_grad():
            model.weight.copy_(torch.from_numpy(weights[None]))
        averaged.update_parameters(model)
    return averaged.module.weight.detach().numpy()[0]


@pytest.mark.torch
@BACKENDS
def test_ema_is_that_of_pytorch(make: Any) -> None:
    swa_utils = pytest.importorskip("torch.optim.swa_utils")
    t, steps = trainer(make()), Weights()
    fit(t, EMA(0.9), steps)
    expected = of_torch(steps.seen, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.9))
    np.testing.assert_allclose(weights_of(t), expected, rtol=1e-5, atol=1e-6)
    assert abs(expected - steps.seen[-1]).max() > 1e-3


@pytest.mark.torch
@BACKENDS
def test_swa_is_that_of_pytorch(make: Any) -> None:
    t, steps = trainer(make()), Weights()
    fit(t, swa := SWA(start=2), steps)
    assert swa.n_averaged == 3
    np.testing.assert_allclose(weights_of(t), of_torch(steps.seen[13::7]), rtol=1e-5, atol=1e-6)


def test_the_decay_warms_up_and_may_be_taken_every_few_steps() -> None:
    t, steps = trainer(), Weights()
    fit(t, EMA(0.5, warm_up=True, every_steps=2), steps, epochs=2)
    mean = steps.seen[1]
    for n, weights in enumerate(steps.seen[3::2], 1):
        decay = min(0.5, (1 + n) / (10 + n))
        mean = decay * mean + (1 - decay) * weights
    np.testing.assert_allclose(weights_of(t), mean, rtol=1e-5)


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_training_goes_on_with_its_own_weights_and_statistics(backend: str) -> None:
    runs = []
    for callbacks in ([], [EMA(0.9)], [SWA(statistics_from=X)], [EMA(0.9, validate=False)]):
        fit(trainer(backend, norm=True), *callbacks, steps := Weights())
        runs.append(np.array(steps.seen))
    for run in runs[1:]:
        np.testing.assert_array_equal(run, runs[0])


@pytest.mark.torch
def test_running_statistics_are_those_of_update_bn() -> None:
    torch = pytest.importorskip("torch")
    t = trainer(norm=True)
    fit(t, SWA(statistics_from=X, batch_size=7))  # 7 batches, and a last one of a single sample, which is left out
    W, b, norm = t.model.layers[0].W, t.model.layers[0].b, t.model.layers[1]  # type: ignore[attr-defined]
    H = torch.tanh(torch.from_numpy(X @ W.T + b.T))
    module = torch.nn.Sequential(torch.nn.BatchNorm1d(4))
    torch.optim.swa_utils.update_bn([H[i : i + 7] for i in range(0, 49, 7)], module)
    assert_close(norm.running_mean[:, 0], module[0].running_mean.numpy(), "sum")  # type: ignore[attr-defined]
    assert_close(norm.running_var[:, 0], module[0].running_var.numpy(), "sum")  # type: ignore[attr-defined]


@pytest.mark.parametrize("mean", [EMA(0.9), SWA()])
@pytest.mark.parametrize("make", [numpy_ops, compiled_ops])
def test_what_is_frozen_stays_as_it_is_bit_for_bit(make: Any, mean: Callback) -> None:
    t = trainer(make(), norm=True)
    fit(t, epochs=1)
    t.model.freeze("0.*", "1.*")
    frozen = [name for name in t.model.named_arrays() if name[0] in "01"]
    before = {name: t.model.ops.to_numpy(t.model.named_arrays()[name]).copy() for name in frozen}
    fit(t, mean)
    update_batch_norm(t.model, X)
    for name in frozen:
        np.testing.assert_array_equal(t.model.ops.to_numpy(t.model.named_arrays()[name]), before[name], err_msg=name)


def test_random_draws_go_on_after_new_statistics() -> None:
    model = trainer(norm=True).model
    before = int(model.random_step[0])
    update_batch_norm(model, X)
    assert int(model.random_step[0]) == before


def test_validation_and_what_is_kept_are_of_the_mean() -> None:
    class Saves(Callback):
        def on_epoch_end(self, trainer: fcnn.Trainer, record: dict[str, float]) -> None:
            saved.append(weights_of(trainer))

    saved: list[Any] = []
    t = trainer()
    history = fit(t, Saves(), EMA(0.9))
    assert t.evaluate(X_VAL, Y_VAL)["loss"] == pytest.approx(history["val_loss"][-1], rel=1e-6)
    np.testing.assert_array_equal(weights_of(t), saved[-1])
    plain = trainer()
    assert fit(plain)["val_loss"] != history["val_loss"]
    assert fit(trainer(), EMA(0.9, validate=False))["val_loss"] == plain.history["val_loss"]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("kind", [fcnn.EarlyStopping, fcnn.callbacks.KeepBest])
def test_the_epoch_that_another_callback_restores_stays(first: bool, kind: Any) -> None:
    class Worse(Callback):
        def on_epoch_end(self, trainer: fcnn.Trainer, record: dict[str, float]) -> None:
            saved.append(weights_of(trainer))
            record["val_loss"] = float([3, 1, 2, 2][int(record["epoch"]) - 1])

    saved: list[Any] = []
    t, pair = trainer(), [EMA(0.9), kind("val_loss")]
    history = fit(t, Worse(), *(pair if first else pair[::-1]))
    assert history.best_epoch == 2
    np.testing.assert_array_equal(weights_of(t), saved[1])


def test_the_mean_is_taken_after_ctrl_c_and_not_after_an_error() -> None:
    class Ends(Callback):
        def __init__(self, interrupts: bool) -> None:
            self.interrupts = interrupts

        def on_step(self, trainer: fcnn.Trainer, step: int, read_loss: Any) -> None:
            if step == 5 and self.interrupts:
                signal.raise_signal(signal.SIGINT)
            if step == 5 and not self.interrupts:
                raise LookupError

    t, steps = trainer(), Weights()
    assert fit(t, EMA(0.5), steps, Ends(True)).stopped_by == "interrupt"
    assert abs(weights_of(t) - steps.seen[-1]).max() > 0
    t, steps = trainer(), Weights()
    with pytest.raises(LookupError):
        fit(t, EMA(0.5), steps, Ends(False))
    np.testing.assert_array_equal(weights_of(t), steps.seen[-1])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: EMA(1.0), ValueError, r"EMA\(decay\)"),
        (lambda: EMA(warm_up=1), TypeError, r"EMA\(warm_up\)"),  # type: ignore[arg-type]
        (lambda: EMA(every_steps=0), ValueError, r"EMA\(every_steps\)"),
        (lambda: SWA(0), ValueError, r"SWA\(start\)"),
        (lambda: SWA(batch_size=1), ValueError, r"SWA\(batch_size\)"),
    ],
)
def test_fields_that_are_refused(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_runs_that_are_refused() -> None:
    with pytest.raises(ValueError, match=r"SWA\(start\) is epoch 9, but this run has 4"):
        fit(trainer(), SWA(9))
    with pytest.raises(ValueError, match=r"SWA needs samples .*statistics_from=X"):
        fit(trainer(norm=True), SWA())
    t = trainer(norm=True)
    with pytest.raises(ValueError, match=r"expects X of shape \(n_samples, 3\), got \(2, 2\)"):
        fit(t, SWA(statistics_from=X[:, :2]))
    assert t.epochs_trained == 0


def test_estimators_predict_with_the_mean() -> None:
    model = fcnn.FCNNRegressor(hidden_layer_sizes=(4,), epochs=3, random_state=0, callbacks=[EMA(0.9)]).fit(X, Y)
    plain = fcnn.FCNNRegressor(hidden_layer_sizes=(4,), epochs=3, random_state=0).fit(X, Y)
    assert abs(model.predict(X) - plain.predict(X)).max() > 0


@BACKENDS
@pytest.mark.parametrize("non_negative", [False, True])
@pytest.mark.parametrize("mean", [EMA(0.9), SWA()], ids=["EMA", "SWA"])
def test_a_mean_of_rows_of_norm_1_has_norm_1(make: Any, non_negative: bool, mean: Callback) -> None:
    class Kept(Callback):
        def on_epoch_end(self, trainer: fcnn.Trainer, record: dict[str, float]) -> None:
            seen.append(model.ops.to_numpy(layer.W).copy())

    seen: list[Any] = []
    layer = fcnn.Dense(4, activation="tanh", unit_norm=True, non_negative=non_negative)
    model = fcnn.Sequential([layer, fcnn.Dense(1)], n_in=3, seed=0, backend=make())
    fit(fcnn.Trainer(model, "mse", fcnn.SGD(0.05)), mean, Kept())
    last = model.ops.to_numpy(layer.W)
    for W in (*seen, last):
        norms = np.linalg.norm(W, axis=1)
        assert_close(norms, np.sign(norms), "sum")  # a row of zeros stays one
        assert (W >= 0).all() or not non_negative
    np.testing.assert_array_equal(last, seen[-1])


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ([EMA(0.9), SWA()], "EMA and SWA each make a mean"),
        ([SWA(), SWA(2)], "SWA and SWA each make a mean"),
        ([KeepBest(), KeepBest("loss")], "KeepBest and KeepBest each give the model the weights of their best epoch"),
        ([fcnn.EarlyStopping(), KeepBest()], r"EarlyStopping\(restore_best=False\) it ends the run alone"),
        ([EMA(0.9, validate=False), KeepBest()], r"EMA\(validate=False\) makes a mean that KeepBest would replace"),
    ],
)
def test_two_that_would_replace_each_others_weights_are_refused(pair: Any, message: str) -> None:
    t = trainer()
    before = weights_of(t)
    with pytest.raises(ValueError, match=message):
        fit(t, *pair)
    np.testing.assert_array_equal(weights_of(t), before)


def test_an_end_without_weights_goes_with_an_epoch_that_is_kept() -> None:
    history = fit(trainer(), fcnn.EarlyStopping(restore_best=False), KeepBest())
    assert history.best_epoch is not None
