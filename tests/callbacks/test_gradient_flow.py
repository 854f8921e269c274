"""GradientFlow: its numbers against those of single steps, its shares, and what it warns of."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.callbacks import Callback, GradientFlow, GradientFlowWarning

rng = np.random.default_rng(0)
X = rng.normal(size=(40, 3)).astype("float32")
Y = X @ np.array([1.0, -2.0, 0.5], "float32")


def trainer(*layers: fcnn.Layer, backend: str = "numpy", rate: float = 0.01, precision: Any = None) -> fcnn.Trainer:
    stack = [*(layers or (fcnn.Dense(6, activation="tanh"), fcnn.Dense(4, activation="relu"))), fcnn.Dense(1)]
    model = fcnn.Sequential(stack, n_in=3, seed=0, backend=backend, precision=precision)
    return fcnn.Trainer(model, "mse", fcnn.SGD(rate))


def fit(t: fcnn.Trainer, *callbacks: Callback, **options: Any) -> fcnn.History:
    options = {"epochs": 2, "batch_size": 10, "progress": False} | options
    return t.fit(X, Y, callbacks=callbacks, **options)


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
@pytest.mark.parametrize("steps", [1, 3, None])
def test_norms_are_those_of_the_steps(backend: str, steps: int | None) -> None:
    class Weights(Callback):
        def on_train_begin(self, trainer: fcnn.Trainer) -> None:
            self.seen = [trainer.model.layers[1].W.copy()]  # type: ignore[attr-defined]

        def on_step(self, trainer: fcnn.Trainer, step: int, read_loss: Any) -> None:
            self.seen.append(trainer.model.layers[1].W.copy())  # type: ignore[attr-defined]

    t = trainer(backend=backend)
    fit(t, flow := GradientFlow(steps), weights := Weights())
    rows = [record for record in flow.records if record["layer"] == "1.W"]
    every = steps or 4
    assert [row["step"] for row in rows] == list(range(every, 9, every))
    for row in rows:
        before, after = weights.seen[row["step"] - 1 : row["step"] + 1]
        assert row["weight"] == pytest.approx(np.linalg.norm(before), rel=1e-5)
        # An update is a hundredth of the weights whose difference it is, and has two digits of float32's fewer.
        assert row["update"] == pytest.approx(np.linalg.norm(after - before), rel=1e-4)
        assert row["gradient"] == pytest.approx(row["update"] / 0.01, rel=1e-4)
        assert row["ratio"] == pytest.approx(row["update"] / row["weight"])
        assert math.isnan(row["dead"])
    assert {record["layer"] for record in flow.records} == {"0.W", "1.W", "2.W"}
    assert len(flow.to_dict()["step"]) == 3 * len(rows)


def test_watching_changes_nothing() -> None:
    twins = [trainer(fcnn.Dense(6, activation="tanh"), fcnn.BatchNorm(), fcnn.Dropout(0.2)) for _ in "ab"]
    fit(twins[0])
    fit(twins[1], GradientFlow(1, X))
    for a, b in zip(*(t.model.named_arrays().values() for t in twins), strict=True):
        np.testing.assert_array_equal(a, b)


def test_dead_and_saturated_shares_are_counted_and_told_once() -> None:
    t = trainer(fcnn.Dense(4, activation="relu"), fcnn.Dense(6, activation="tanh"), rate=1e-9)
    relu, tanh = t.model.layers[:2]
    relu.b[:3] = -100.0  # type: ignore[attr-defined]
    tanh.b[:5] = 50.0  # type: ignore[attr-defined]
    with pytest.warns(GradientFlowWarning) as caught:
        fit(t, flow := GradientFlow(samples=X), epochs=3)
    dead = [row["dead"] for row in flow.records if row["layer"] == "0.W"]
    saturated = [row["saturated"] for row in flow.records if row["layer"] == "1.W"]
    assert dead == [0.75] * 3
    assert saturated == pytest.approx([5 / 6] * 3)
    told = [str(warning.message) for warning in caught]
    assert sum("75% of the units of 0.W are 0 for every sample. Try" in text for text in told) == 1
    assert sum("of the outputs of 1.W are saturated. Try" in text for text in told) == 1
    assert len(told) == 2


def test_vanishing_and_exploding_gradients_are_told() -> None:
    deep = [fcnn.Dense(8, activation="sigmoid", init=fcnn.initializers.Normal(0.01)) for _ in range(4)]
    with pytest.warns(GradientFlowWarning, match=r"Step 4: gradients vanish: the gradient of 0\.W is .* that of 4\.W"):
        fit(trainer(*deep), GradientFlow(), epochs=1)
    wide = [fcnn.Dense(8, init=fcnn.initializers.Normal(1e-6)), fcnn.Dense(8, init=fcnn.initializers.Normal(3e3))]
    with pytest.warns(GradientFlowWarning, match=r"gradients explode"):
        fit(trainer(*wide, rate=1e-12), GradientFlow(), epochs=1)
    with pytest.warns(GradientFlowWarning, match=r"the update of .* times its weights\. Try a smaller learning rate"):
        fit(trainer(fcnn.Dense(4), rate=0.3), GradientFlow(1), epochs=1, batch_size=40)


def test_frozen_layers_have_no_gradients_that_vanish() -> None:
    t = trainer()
    t.model.freeze("0.*")
    fit(t, flow := GradientFlow())
    assert [row["gradient"] for row in flow.records if row["layer"] == "0.W"] == [0.0, 0.0]


def test_weights_that_begin_as_zeros_let_no_gradient_through_and_that_is_no_trouble() -> None:
    model = fcnn.Sequential([fcnn.Dense(4, activation="tanh"), fcnn.Dense(1, init="zeros")], 3, seed=0, backend="numpy")
    fit(fcnn.Trainer(model, "mse", fcnn.SGD(1e-9)), flow := GradientFlow(1), epochs=1, batch_size=40)
    assert next(row["gradient"] for row in flow.records) == 0.0


def test_a_sound_network_is_told_nothing_and_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    fit(trainer(), flow := GradientFlow(samples=X))
    figure = flow.plot(tmp_path / "flow.png")
    assert [axes.get_title() for axes in figure.axes] == ["‖dW‖", "‖ΔW‖/‖W‖"]
    assert (tmp_path / "flow.png").stat().st_size > 1000


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"GradientFlow\(steps\)"):
        GradientFlow(0)
    with pytest.raises(ValueError, match="has recorded no step"):
        GradientFlow().plot()
    t = trainer()
    with pytest.raises(ValueError, match=r"expects X of shape \(n_samples, 3\), got \(40, 2\)"):
        fit(t, GradientFlow(samples=X[:, :2]))
    assert t.epochs_trained == 0
