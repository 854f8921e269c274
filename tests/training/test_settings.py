"""Settings that follow schedules, dropout and weight decay: each step has its own, on every backend and every path."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.backend._ops._dropout import realized_dropout
from fcnn_gpu.callbacks import Callback
from fcnn_gpu.schedules import CosLog4, FlatCos, Linear, Schedule, StepDecay

from ..conftest import cuda_ops, emulated_ops
from ..support.tolerances import assert_close

DROPOUT, DECAY = FlatCos(0.5, flat=0.25), Linear(3.0, final=0.5)
N, BATCH, EPOCHS = 40, 16, 4


def data() -> tuple[HostArray, HostArray]:
    rng = np.random.default_rng(4)
    return rng.normal(size=(N, 6)).astype(np.float32), rng.integers(0, 3, N)


def network(ops: Any, p: Any, **options: Any) -> fcnn.Sequential:
    layers = [fcnn.Dense(9, activation="tanh"), fcnn.Dropout(p), fcnn.Dense(7, activation="gelu"), fcnn.Dropout(p)]
    return fcnn.Sequential([*layers, fcnn.Dense(3)], n_in=6, seed=5, backend=ops, **options)


def trained(ops: Any, p: Any, decay: Any, **options: Any) -> fcnn.Sequential:
    model = network(ops, p)
    trainer = fcnn.Trainer(model, optimizer=fcnn.AdamW(CosLog4(0.05), weight_decay=decay))
    trainer.fit(*data(), **({"epochs": EPOCHS, "batch_size": BATCH, "progress": False} | options))
    return model


def values(model: fcnn.Sequential) -> HostArray:
    return np.array(model.ops.to_numpy(model.flat.values))


def step_by_step(ops: Ops, p: Schedule, decay: Schedule) -> HostArray:
    """The same run, each step with numbers in the place of the schedules."""
    model, loss = network(ops, 0.0), fcnn.CrossEntropy()
    (X, y), rate = data(), CosLog4(0.05)
    optimizer = fcnn.AdamW(0.0, weight_decay=1.0).bind(model)
    n_steps = -(-N // BATCH)
    for epoch in range(EPOCHS):
        order = np.random.default_rng([5, epoch]).permutation(N)
        for i in range(n_steps):
            time, batch = epoch + i / n_steps, order[i * BATCH : (i + 1) * BATCH]
            for layer in model.layers:
                if isinstance(layer, fcnn.Dropout):
                    layer.p = p(time, EPOCHS)
            object.__setattr__(optimizer, "weight_decay", decay(time, EPOCHS))
            optimizer.set_learning_rate(rate(time, EPOCHS))
            loss.forward(model.forward(X[batch], training=True), y[batch])
            model.backward(loss.backward())
            optimizer.step()
    return values(model)


@pytest.mark.parametrize("backend", ["numpy", "cpu", emulated_ops, cuda_ops])
def test_each_step_has_its_own_numbers(backend: Any) -> None:
    ops = backend() if callable(backend) else network(backend, 0.0).ops
    expected = step_by_step(ops, DROPOUT, DECAY)
    for options in ({}, {"capture": False}):
        actual = values(trained(ops, DROPOUT, DECAY, **options))
        assert_close(actual, expected, "training")
    assert np.abs(expected - values(trained(ops, 0.5, DECAY))).max() > 1e-2
    assert np.abs(expected - values(trained(ops, DROPOUT, 3.0))).max() > 1e-2


def test_backends_agree_and_parts_of_batches_as_well() -> None:
    expected = values(trained("numpy", DROPOUT, DECAY))
    assert_close(values(trained("cpu", DROPOUT, DECAY)), expected, "training")
    parts = trained("numpy", DROPOUT, DECAY, micro_batch_size=5)
    assert_close(values(parts), expected, "training")


def test_masks_drop_the_share_that_the_schedule_says() -> None:
    model = fcnn.Sequential([fcnn.Dense(400), fcnn.Dropout(StepDecay(0.75, every=1)), fcnn.Dense(1)], n_in=3, seed=1)
    shares = []

    class Looks(Callback):
        def on_epoch_end(self, trainer: fcnn.Trainer, record: Any) -> None:
            outputs = trainer.model.forward(np.ones((8, 3), np.float32), training=True)
            assert outputs.shape == (8, 1)
            mask = trainer.model.batch_arrays(8, True).caches[1].mask
            shares.append(1.0 - float(np.asarray(trainer.model.ops.to_numpy(mask)).mean()))

    trainer = fcnn.Trainer(model, loss="mse", optimizer=fcnn.SGD(1e-3))
    trainer.fit(np.ones((8, 3), np.float32), np.ones(8), epochs=3, batch_size=8, progress=False, callbacks=[Looks()])
    np.testing.assert_allclose(shares, [0.75, 0.075, 0.0075], atol=0.03)


def test_a_run_begins_anew_and_a_copy_has_its_own() -> None:
    one = network("numpy", FlatCos(0.4))
    trainer = fcnn.Trainer(one, optimizer=fcnn.AdamW(0.01, weight_decay=FlatCos(1.0)))
    trainer.fit(*data(), epochs=2, progress=False)
    twins = [copy.deepcopy(trainer), pickle.loads(pickle.dumps(trainer))]
    for each in (trainer, *twins):
        each.fit(*data(), epochs=2, progress=False)
    for twin in twins:
        assert values(twin.model).tobytes() == values(one).tobytes()
        assert twin.model.timetable is not one.timetable


def test_saved_and_loaded(tmp_path: Path) -> None:
    model = network("numpy", FlatCos(0.4, flat=0.25))
    model.save(tmp_path / "m.safetensors")
    loaded = fcnn.load(tmp_path / "m.safetensors", backend="numpy")
    dropout: Any = loaded.layers[1]
    assert dropout.p == FlatCos(0.4, flat=0.25)
    assert repr(dropout) == "Dropout(FlatCos(0.4, flat=0.25))"
    X = data()[0]
    assert loaded.predict(X).tobytes() == model.predict(X).tobytes()


def test_weights_on_the_host_decay_by_the_same_numbers() -> None:
    factors: dict[str, Any] = {"rate_factors": {"*.b": 0.25, "0.W": 3.0}, "decay_factors": {"2.W": 0.5, "0.b": 1.0}}

    def run(placement: str) -> HostArray:
        layers = [fcnn.Dense(9, activation="tanh", placement=placement), "silu", fcnn.Dense(3, placement=placement)]
        model = fcnn.Sequential(layers, n_in=6, seed=5, backend="numpy")
        optimizer = fcnn.AdamW(0.05, weight_decay=FlatCos(2.0, flat=0.0), **factors)
        fcnn.Trainer(model, optimizer=optimizer).fit(*data(), epochs=3, batch_size=16, progress=False)
        return np.concatenate([np.asarray(a[...]).ravel() for a in model.named_arrays().values()])

    assert_close(run("host"), run("device"), "training")


def test_after_a_step_that_diverged_the_next_has_its_own_number_again() -> None:
    p = FlatCos(0.5, flat=0.0)
    model = fcnn.Sequential([fcnn.Dropout(p), fcnn.Dense(3)], n_in=6, seed=5, backend=Ops())
    X, y = data()
    bad = X.copy()
    bad[np.random.default_rng([5, 0]).permutation(N)[-8:]] = 3e38
    trainer = fcnn.Trainer(model, optimizer=fcnn.AdamW(0.01, weight_decay=FlatCos(1.0)))
    with pytest.raises(fcnn.DivergenceError, match="step 3"):
        trainer.fit(bad, y, epochs=2, batch_size=BATCH, progress=False)
    assert int(model.timetable.position[0]) == 2
    table = model.timetable.scheduled(model.layers[0].settings()[0]).table
    np.testing.assert_array_equal(table, [realized_dropout(p(i / 3, 2.0)) for i in range(3)])


def test_what_is_out_of_bounds_is_refused_before_anything_changes() -> None:
    with pytest.raises(ValueError, match=r"Dropout\(p\), FlatCos.* must be .*< 1|Dropout\(p\).*1\.5"):
        fcnn.Dropout(FlatCos(1.5))
    with pytest.raises(ValueError, match=r"Dropout\(p\)"):
        fcnn.Dropout(1.0)
    model = network("numpy", Linear(0.5, final=2.0))
    before = values(model)
    with pytest.raises(ValueError, match=r"Dropout\(p\), Linear.*after 0?\.?\d+.* epochs"):
        fcnn.Trainer(model).fit(*data(), epochs=4, progress=False)
    assert values(model).tobytes() == before.tobytes()
    with pytest.raises(ValueError, match="matches no parameter"):
        fcnn.Trainer(network("numpy", 0.5), optimizer=fcnn.Adam(rate_factors={"*.beta": 0.1}))
    with pytest.raises(TypeError, match="patterns of parameter names"):
        fcnn.AdamW(decay_factors=[0.1])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"rate_factors.*'\*\.b'"):
        fcnn.SGD(rate_factors={"*.b": -1.0})


def test_a_plateau_lowers_dropout_once_an_epoch_however_often_it_is_used() -> None:
    p = fcnn.schedules.ReduceOnPlateau(0.5, factor=0.5, patience=0, column="epoch")
    model = network("numpy", p)
    fcnn.Trainer(model, optimizer=fcnn.SGD(0.05)).fit(*data(), epochs=3, progress=False)
    assert p(0.0, 1.0) == 0.125
    with pytest.raises(ValueError, match=r"schedule of Dropout\(p\) monitors 'val_loss'"):
        fcnn.Trainer(network("numpy", fcnn.schedules.ReduceOnPlateau(0.5))).fit(*data(), epochs=1, progress=False)
