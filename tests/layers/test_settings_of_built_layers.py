"""Settings of layers in a network: what is read once cannot be set without effect, and what passes read can be set."""

from __future__ import annotations

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.layers._base import _READ_ONCE
from tests.support.registry_cases import LAYER_CASES, LayerCase

X = np.random.default_rng(0).normal(size=(6, 5)).astype("float32")


@pytest.mark.parametrize("case", [cases[-1] for cases in LAYER_CASES.values()], ids=list(LAYER_CASES))
def test_what_was_read_when_the_network_was_built_is_fixed(case: LayerCase) -> None:
    n_in = case.n_in if case.n_categories else 5
    layer = case.make()
    fcnn.Sequential([*case.before(), layer, fcnn.Dense(2)], n_in, seed=0, backend="numpy")
    for name in _READ_ONCE & set(dir(layer)):
        before = getattr(layer, name)
        with pytest.raises(
            AttributeError, match=rf"^{type(layer).__name__}\.{name} was read when the network was built"
        ):
            setattr(layer, name, before)
        assert getattr(layer, name) is before


def test_a_layer_of_no_network_may_be_changed() -> None:
    layer = fcnn.Dense(2)
    layer.l2 = 0.5
    model = fcnn.Sequential([layer], 5, seed=0, backend="numpy")
    assert model.penalty() == pytest.approx(0.5 * float((layer.W**2).sum()))


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_the_probability_of_dropout_may_be_set_between_runs(backend: str) -> None:
    losses = []
    for later in (0.0, 0.9):
        layer = fcnn.Dropout(0.0)
        model = fcnn.Sequential([layer, fcnn.Dense(1)], 5, seed=0, backend=backend)
        trainer = fcnn.Trainer(model, "mse", fcnn.SGD(0.01))
        trainer.fit(X, X[:, 0], epochs=1, batch_size=3, progress=False)
        layer.p = later
        losses.append(trainer.fit(X, X[:, 0], epochs=1, batch_size=3, progress=False)["loss"])
    assert losses[0] != losses[1]
