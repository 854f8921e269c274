"""Whole runs of compiled kernels: no call of Python within a step, and the same bits by any threads and vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._compiled import _program

from ..support.compiled import Watched, at_level, best_level, calls_of
from ..support.registry_cases import LayerCase, LossCase, labelled

N_IN, BATCH = 4, 16
N_SAMPLES = 4 * BATCH + 6
LABELS = np.arange(N_SAMPLES) % 3


def assert_no_gap(
    layers: list[Any], X: Any, y: HostArray, loss: Any = "cross_entropy", optimizer: Any = "adam", **options: Any
) -> None:
    """The steps of a run, of whole batches and the last, and passes over many batches are compiled calls alone."""
    ops = Watched()
    model = fcnn.Sequential(layers, X.shape[1], seed=0, backend=ops)
    trainer = fcnn.Trainer(model, loss=loss, optimizer=optimizer)
    trainer.fit(X, y, epochs=3, batch_size=BATCH, validation_data=(X, y), progress=False, **options)
    for _ in range(3):
        model.predict(X, batch_size=BATCH)
    assert len(ops.tapes) >= 2
    for tape in ops.tapes:
        calls_of(tape)
    assert all(ops.passes)
    assert ops.passes


@pytest.mark.parametrize(("name", "case"), labelled("layer"))
def test_every_layer(name: str, case: LayerCase) -> None:
    X = case.inputs(np.random.default_rng(0), N_SAMPLES)
    assert_no_gap([*case.before(), case.make(), fcnn.Dense(3)], X, LABELS)


@pytest.mark.parametrize(("name", "activation"), labelled("activation"))
def test_every_activation(name: str, activation: Any) -> None:
    X = np.random.default_rng(0).normal(size=(N_SAMPLES, N_IN))
    assert_no_gap([fcnn.Dense(5, activation=activation), fcnn.Dense(3)], X, LABELS)


@pytest.mark.parametrize(("name", "case"), labelled("loss"))
def test_every_loss(name: str, case: LossCase) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(N_SAMPLES, N_IN)), case.targets(rng, N_SAMPLES)
    assert_no_gap([fcnn.Dense(5, activation="relu"), fcnn.Dense(case.n_outputs)], X, y, case.loss)


@pytest.mark.parametrize(("name", "make"), labelled("optimizer"))
def test_every_optimizer(name: str, make: Any) -> None:
    X = np.random.default_rng(0).normal(size=(N_SAMPLES, N_IN))
    layers = [fcnn.Dense(5, activation="relu"), fcnn.Dense(4, l2=0.01, activation="tanh"), fcnn.Dense(3)]
    assert_no_gap(layers, X, LABELS, optimizer=make(clip_norm=0.5))


@pytest.mark.parametrize("options", [{"micro_batch_size": 8}, {"sample_weight": np.linspace(0.5, 1.5, N_SAMPLES)}])
@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64"])
def test_every_way_of_a_batch(dtype: str, options: dict[str, Any]) -> None:
    X = np.random.default_rng(0).integers(0, 9, (N_SAMPLES, N_IN)).astype(dtype)
    assert_no_gap([fcnn.Dense(5, activation="relu", l1=0.01, l2=0.1), fcnn.Dense(3)], X, LABELS, **options)


def test_a_gap_is_seen() -> None:
    class Mine(fcnn.Dropout):
        """Outside the package: Python is called in every step."""

        name = "mine"

    X = np.random.default_rng(0).normal(size=(N_SAMPLES, N_IN))
    with pytest.raises(AssertionError):
        assert_no_gap([fcnn.Dense(5), Mine(0.5), fcnn.Dense(3)], X, LABELS)


OPTIMIZERS: dict[str, Callable[..., fcnn.optimizers.Optimizer]] = {
    "adamw": lambda: fcnn.AdamW(fcnn.schedules.Cosine(3e-3), clip_norm=1.0),
    "muon": lambda: fcnn.Muon(fcnn.schedules.Cosine(3e-3), clip_norm=1.0, orthogonalize=["*.W"]),
}


def run(
    level: str, n_threads: int, dtype: str, batch_size: int = 128, optimizer: str = "adamw"
) -> dict[str, HostArray]:
    """What a run leaves of a network of many kinds of layers, on six batches an epoch."""
    layers = [
        fcnn.Dense(96, activation="gelu", l2=1e-3),
        fcnn.Dropout(0.25),
        fcnn.Dense(64, bias=False),
        fcnn.BatchNorm(),
        fcnn.Residual([fcnn.Dense(64, activation="tanh", l1=1e-4), fcnn.LayerNorm()]),
        fcnn.Dense(5),
    ]
    model = fcnn.Sequential(layers, 70, seed=3, dtype=dtype, backend=at_level(level))
    trainer = fcnn.Trainer(model, optimizer=OPTIMIZERS[optimizer]())
    rng = np.random.default_rng(8)
    n = 700 * batch_size // 128
    X, y = rng.normal(size=(n, 70)), rng.integers(0, 5, n)
    options: dict[str, Any] = {
        "batch_size": batch_size,
        "validation_split": 0.1,
        "threads": n_threads,
        "progress": False,
    }
    history = trainer.fit(X, y, epochs=3, **options)
    found = {name: array.copy() for name, array in model.named_arrays().items()}
    losses = {column: np.array(history[column]) for column in ("loss", "penalty", "val_loss")}
    return found | losses | {"outputs": model.predict(X, batch_size=batch_size)}


@pytest.mark.parametrize(("optimizer", "dtype"), [("adamw", "float32"), ("adamw", "float64"), ("muon", "float32")])
def test_the_same_seed_gives_the_same_bits(optimizer: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With any number of threads, which have parts of each phase, and at each level that has fused multiply-add."""
    monkeypatch.setattr(_program, "_PART", 100.0)
    levels = [level for level in best_level()._library.levels if level != "v2"]
    if not levels:
        pytest.skip("this CPU has no fused multiply-add")
    expected = run(levels[0], 1, dtype, optimizer=optimizer)
    for level in levels:
        for n_threads in (1, 2, 7):
            actual = run(level, n_threads, dtype, optimizer=optimizer)
            for name, value in expected.items():
                np.testing.assert_array_equal(actual[name], value, err_msg=f"{level}, {n_threads} threads: {name}")


def test_large_batches_have_the_same_bits_too() -> None:
    """Their sums over samples are sums over blocks, which threads share."""
    level = best_level()._library.levels[0]
    expected = run(level, 1, "float32", 2100)
    for n_threads in (2, 7):
        actual = run(level, n_threads, "float32", 2100)
        for name, value in expected.items():
            np.testing.assert_array_equal(actual[name], value, err_msg=f"{n_threads} threads: {name}")
