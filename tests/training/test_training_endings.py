"""How a run ends before its time: by numbers that are not finite, by Ctrl-C; and what it leaves."""

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
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.callbacks import Callback
from fcnn_gpu.data._device_data import epoch_order
from fcnn_gpu.data._supply import ArraySupply
from fcnn_gpu.training import _run

from ..support.small_runs import N_CLASSES, N_IN, N, X, Y, assert_same, fit, trainer, values

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
        history = fcnn.Trainer(model).fit(X, y, epochs=10**6, batch_size=10, progress=False, callbacks=[Says()])
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
    _, validation = trainer._intake.split(trainer._intake.prepare(X, y, None, "fit"), 0.1)
    assert isinstance(validation, ArraySupply)
    assert validation.targets.sum() == 2
