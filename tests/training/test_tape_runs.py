"""Whole runs that replay tapes are, bit for bit, the runs that call everything anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fcnn_gpu as fcnn
from fcnn_gpu import losses, optimizers, schedules
from fcnn_gpu.activations import ACTIVATIONS, Tanh
from fcnn_gpu.backend._ops import Ops, Replay
from fcnn_gpu.callbacks import Callback

from ..support.compiled import best_level
from ..support.small_runs import N_CLASSES, N_IN, X, Y, assert_same, fit, values


class Eager(Ops):
    """The primitives without tapes."""

    def capture(self, fn: Callable[[], None]) -> Replay:
        def run(n_times: int = 1) -> None:
            for _ in range(n_times):
                fn()

        return run


_ACTIVATION = st.one_of(st.sampled_from(["relu", None]), st.sampled_from(sorted(ACTIVATIONS)))
_PENALTY = st.sampled_from([0.0, 0.0, 1e-2])
_WIDTH = st.sampled_from([1, 2, 5, 33, 130])


@st.composite
def _dense(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "name": "dense",
        "n_out": draw(_WIDTH),
        "activation": draw(_ACTIVATION),
        "init": "he_uniform",
        "bias": draw(st.booleans()),
        "parametrization": draw(st.sampled_from(["standard", "standard", "ntk"])),
        "l1": draw(_PENALTY),
        "l2": draw(_PENALTY),
    }


_OTHER = st.sampled_from(
    [{"name": "dropout", "p": p} for p in (0.0, 0.25)]
    + [{"name": "batch_norm"}, {"name": "layer_norm"}, {"name": "scale"}, {"name": "prelu"}]
    + [{"name": "parametric_activation", "activation": name, "alpha": 0.5} for name in ("selu", "tanh")]
    + [{"name": "activation", "activation": name} for name in ("relu", "gelu", "softmax")]
)
_LAYER = st.one_of(_dense(), _OTHER)
_RESIDUAL = st.lists(_LAYER, min_size=1, max_size=2).map(lambda block: {"name": "residual", "block": block})
_RATE = st.sampled_from([1e-3, 0.1, 0.1, 1e4, 1e30])  # the last two diverge sooner or later
_CLIP = st.sampled_from([{}, {}, {"clip_norm": 0.5}, {"clip_value": 0.01}])


@st.composite
def _schedule(draw: st.DrawFn) -> Any:
    rate = draw(_RATE)
    kinds: list[Any] = [
        rate,
        schedules.StepDecay(rate, every=1.0),
        schedules.Exponential(rate),
        schedules.Cosine(rate),
        schedules.Linear(rate),
        schedules.Warmup(schedules.Constant(rate), epochs=1.5),
        schedules.OneCycle(rate),
        schedules.ReduceOnPlateau(rate, patience=0, column="loss"),
    ]
    return draw(st.sampled_from(kinds))


@st.composite
def _optimizer(draw: st.DrawFn) -> Callable[[], optimizers.Optimizer]:
    kinds: list[tuple[Any, dict[str, Any]]] = [
        (optimizers.SGD, {}),
        (optimizers.SGD, {"momentum": 0.9}),
        (optimizers.SGD, {"momentum": 0.9, "nesterov": True}),
        (optimizers.Adam, {}),
        (optimizers.AdamW, {"weight_decay": 0.1}),
        (optimizers.RMSprop, {}),
        (optimizers.RMSprop, {"momentum": 0.5}),
        (optimizers.Adagrad, {"lr_decay": 0.1, "weight_decay": 0.1}),
        (optimizers.NAdam, {}),
        (optimizers.RAdam, {}),
        (optimizers.Lion, {"weight_decay": 0.1}),
        (optimizers.RMSprop, {"centered": True, "momentum": 0.5}),
        (optimizers.Muon, {"orthogonalize": ["*.W"]}),
    ]
    kind, options = draw(st.sampled_from(kinds))
    first = kind(draw(_schedule()), **options, **draw(_CLIP))
    return lambda: optimizers.OPTIMIZERS.build(optimizers.OPTIMIZERS.config(first))


def _distributions(rng: np.random.Generator, n: int, n_out: int) -> Any:
    return rng.dirichlet(np.ones(n_out), n)


def _labels(rng: np.random.Generator, n: int, n_out: int) -> Any:
    return rng.integers(0, n_out, n)


def _values(rng: np.random.Generator, n: int, n_out: int) -> Any:
    return rng.normal(size=(n, n_out))


def _bits(rng: np.random.Generator, n: int, n_out: int) -> Any:
    return rng.integers(0, 2, (n, n_out)).astype(float)


@st.composite
def _task(draw: st.DrawFn) -> tuple[int, Callable[[], losses.Loss], Callable[..., Any], list[str], dict[str, Any]]:
    """n_out, the loss, what makes targets, metrics, options of fit."""
    if draw(st.booleans()):
        n_out = draw(st.sampled_from([2, 3, 10, 32, 33, 200]))
        smoothing = draw(st.sampled_from([0.0, 0.0, 0.1]))
        weights = draw(st.sampled_from([None, [0.5 + i % 3 for i in range(n_out)]]))
        hard = draw(st.booleans())
        metrics = draw(st.sampled_from([[], ["accuracy"], ["accuracy", "f1"] if hard else ["accuracy"]]))
        options = draw(st.sampled_from([{}, {"class_weight": "balanced"}])) if hard else {}
        make = _labels if hard else _distributions
        of_classes: dict[str, Callable[[], losses.Loss]] = {
            "cross_entropy": lambda: losses.CrossEntropy(smoothing, weights),
            "kl_divergence": losses.KLDivergence,
            "focal": lambda: losses.Focal(0.5 + smoothing, weights),
        }
        name = draw(st.sampled_from(["cross_entropy", "kl_divergence", *(["focal"] if hard else [])]))
        return n_out, of_classes[name], make, metrics, options
    n_out = draw(st.sampled_from([1, 2, 17]))
    kind, make = draw(
        st.sampled_from(
            [
                (losses.MSE, _values),
                (losses.MAE, _values),
                (lambda: losses.Huber(0.5), _values),
                (losses.BinaryCrossEntropy, _bits),
            ]
        )
    )
    metrics = draw(st.sampled_from([[], ["mse"] if make is _values else []]))
    return n_out, kind, make, metrics, {}


_FIT = st.fixed_dictionaries(
    {
        "epochs": st.integers(1, 3),
        "batch_size": st.sampled_from([1, 2, 7, 16, 64]),
        "drop_last": st.booleans(),
        "shuffle": st.booleans(),
        "validation_split": st.sampled_from([0.0, 0.0, 0.4]),
    }
)


@settings(deadline=None, max_examples=150)
@given(
    body=st.lists(st.one_of(_LAYER, _LAYER, _RESIDUAL), max_size=3),
    task=_task(),
    make_optimizer=_optimizer(),
    dtype=st.sampled_from(["float32", "float32", "float64"]),
    n_samples=st.integers(4, 40),
    fits=st.lists(_FIT, min_size=1, max_size=3),
    weighted=st.booleans(),
    poison=st.sampled_from([None, None, None, 1e25]),
)
def test_a_run_from_tapes_is_the_eager_run(
    body: list[dict[str, Any]],
    task: tuple[Any, ...],
    make_optimizer: Callable[[], optimizers.Optimizer],
    dtype: str,
    n_samples: int,
    fits: list[dict[str, Any]],
    weighted: bool,
    poison: float | None,
) -> None:
    n_out, make_loss, make_targets, metrics, task_options = task
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(n_samples, 6)), make_targets(rng, n_samples, n_out)
    if poison is not None:
        X[n_samples // 2, 3] = poison
    weight: dict[str, Any] = {"sample_weight": rng.random(n_samples)} if weighted else {}

    def outcome(backend: Ops) -> tuple[dict[str, Any], list[Any]]:
        head = {"name": "dense", "n_out": n_out, "init": "he_uniform"}
        model = fcnn.Sequential([*body, head], n_in=6, seed=0, backend=backend, dtype=dtype)
        trainer = fcnn.Trainer(model, make_loss(), make_optimizer(), metrics=metrics)
        told: list[Any] = []
        for options in fits:
            try:
                history = trainer.fit(X, y, progress=False, **options, **task_options, **weight)
                told.append([{k: v for k, v in r.items() if "second" not in k} for r in history.records])
                with np.errstate(all="ignore"):
                    told.append([model.predict(X[:k], batch_size=7) for k in (1, n_samples, 3)])
                    told.append(trainer.evaluate(X, y))
            except (ValueError, ArithmeticError) as error:
                told.append(repr(error))
        return values(trainer), told

    (eager, eager_told), (replayed, replayed_told) = outcome(Eager()), outcome(Ops())
    np.testing.assert_equal(replayed_told, eager_told)
    assert_same(replayed, eager)


# What happens between steps


class HalvedTanh(Tanh):
    """An activation of the user's own that computes without primitives."""

    def forward(self, ops: Any, Z: Any, b: Any, A: Any) -> None:
        super().forward(ops, Z, b, A)
        A *= 0.5


def _layer(t: fcnn.Trainer, i: int) -> Any:
    return t.model.layers[i]


CHANGES: dict[str, Callable[[fcnn.Trainer], None]] = {
    "Dropout.p": lambda t: setattr(_layer(t, 2), "p", 0.6),
    "Dropout.p = 0": lambda t: setattr(_layer(t, 2), "p", 0.0),
    "BatchNorm.eps": lambda t: setattr(_layer(t, 1), "eps", 0.5),
    "BatchNorm.momentum": lambda t: setattr(_layer(t, 1), "momentum", 0.7),
    "BatchNorm.running_mean": lambda t: setattr(_layer(t, 1), "running_mean", np.ones((8, 1), np.float32)),
    "Dense.activation": lambda t: setattr(_layer(t, 0), "activation", fcnn.activations.Sigmoid()),
    "Dense.activation of one's own": lambda t: setattr(_layer(t, 3).block[0], "activation", HalvedTanh()),
    "CrossEntropy.label_smoothing": lambda t: setattr(t.loss, "label_smoothing", 0.3),
    "CrossEntropy.class_weight": lambda t: setattr(t.loss, "class_weight", [1.0, 3.0, 0.5]),
    "weights": lambda t: t.model.flat.values.__imul__(0.5),
    "nothing": lambda t: None,
}


class Between(Callback):
    """Calls `act(trainer)` after the first epoch."""

    def __init__(self, act: Callable[[fcnn.Trainer], Any]) -> None:
        self._act = act

    def on_epoch_end(self, trainer: fcnn.Trainer, record: dict[str, float]) -> None:
        if record["epoch"] == 1:
            self._act(trainer)


def _trainer(backend: Ops) -> fcnn.Trainer:
    layers = [
        fcnn.Dense(8, activation="tanh"),
        fcnn.BatchNorm(),
        fcnn.Dropout(0.2),
        fcnn.Residual([fcnn.Dense(8, activation="tanh")]),
        fcnn.Dense(N_CLASSES),
    ]
    return fcnn.Trainer(fcnn.Sequential(layers, n_in=N_IN, seed=0, backend=backend))


@pytest.mark.parametrize("change", CHANGES)
def test_a_setting_changed_between_steps_counts_from_the_next_one_on(change: str) -> None:
    def outcome(backend: Ops, change: str) -> dict[str, Any]:
        t = _trainer(backend)
        fit(t, callbacks=[Between(CHANGES[change])])
        return values(t)

    changed, unchanged = outcome(Eager(), change), outcome(Eager(), "nothing")
    assert_same(outcome(Ops(), change), changed)
    assert (change != "nothing") == any(not np.array_equal(changed[name], unchanged[name]) for name in changed)


@pytest.mark.parametrize("change", CHANGES)
def test_a_setting_changed_between_epochs_counts_in_the_validation(
    monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """Of several batches, the last smaller, whose losses programs add up from the second epoch on."""
    monkeypatch.setattr("fcnn_gpu.training._evaluation.EVALUATION_BATCH", 16)
    weight = np.random.default_rng(1).random(40)

    def history(backend: Ops, change: str) -> dict[str, list[float]]:
        t = _trainer(backend)
        t = fcnn.Trainer(t.model, metrics=["accuracy"])
        found = fit(t, epochs=4, callbacks=[Between(CHANGES[change])], validation_data=(X[:40], Y[:40], weight))
        return {name: found[name] for name in ("val_loss", "val_accuracy")}

    def without(backend: Ops) -> Ops:
        monkeypatch.setattr(backend, "captures_over", False)
        return backend

    changed = history(best_level(), change)
    assert changed == history(without(best_level()), change)
    differs = changed["val_loss"][1:] != history(best_level(), "nothing")["val_loss"][1:]
    assert differs == (change != "nothing")


@pytest.mark.parametrize("change", [name for name in CHANGES if not name.startswith(("Dropout", "CrossEntropy"))])
def test_a_setting_changed_after_inference_counts_in_the_next(change: str) -> None:
    def outputs(backend: Ops) -> Any:
        t = _trainer(backend)
        t.model(X)
        CHANGES[change](t)
        return t.model(X)

    np.testing.assert_array_equal(outputs(Ops()), outputs(Eager()))
    unchanged = np.array_equal(outputs(Ops()), _trainer(Ops()).model(X))
    assert unchanged == (change in ("nothing", "BatchNorm.momentum"))


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda t: (t.model.predict(X), t.evaluate(X, Y), t.model(X, batch_size=7)), id="inference"),
        pytest.param(lambda t: t.model.backward(t.model.forward(X[:16], training=True)), id="a pass of the same size"),
        pytest.param(lambda t: t.model.backward(t.model.forward(X, training=True)), id="a larger pass"),
        pytest.param(lambda t: fit(_trainer(t.model.ops), batch_size=11), id="a run of another model"),
        pytest.param(lambda t: fit(fcnn.Trainer(t.model), batch_size=11), id="a run of the same model"),
    ],
)
def test_what_a_callback_computes_does_not_disturb_the_tape(act: Callable[[fcnn.Trainer], Any]) -> None:
    def outcome(backend: Ops) -> dict[str, Any]:
        t = _trainer(backend)
        fit(t, callbacks=[Between(act)])
        return values(t)

    assert_same(outcome(Ops()), outcome(Eager()))


def test_backward_is_refused_once_replayed_steps_have_overwritten_what_it_needs() -> None:
    t = _trainer(Ops())
    fit(t, callbacks=[Between(lambda t: t.model.forward(X[:16], training=True))])
    with pytest.raises(RuntimeError, match="right before it"):
        t.model.backward(np.ones((16, N_CLASSES), np.float32))


def test_a_method_replaced_on_a_layer_is_called_in_every_pass() -> None:
    model = fcnn.Sequential([fcnn.Dense(4), fcnn.Dense(N_CLASSES)], n_in=N_IN, seed=0, backend=Ops())
    model(X)  # captured
    layer, calls = model.layers[1], list[bool]()
    forward = layer.forward

    def traced(A0: Any, cache: Any, training: bool) -> Any:
        calls.append(training)
        return forward(A0, cache, training)

    layer.forward = traced  # type: ignore[method-assign]
    model(X)
    model(X)
    fit(fcnn.Trainer(model), epochs=1)
    assert calls == [False] * 2 + [True] * 4
