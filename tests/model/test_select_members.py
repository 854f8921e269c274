"""Networks of some members of an ensemble: the same numbers as those members gave within it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.backend._ops import Ops

from ..support.tolerances import assert_close

K, N_OUT = 4, 3


def network(ops: Ops | str = "numpy") -> fcnn.Sequential:
    layers: list[Any] = [
        fcnn.Dense(6, "tanh"),
        fcnn.Members(K),
        fcnn.Scale("random_signs"),
        fcnn.BatchEnsemble(7, K, "gelu", scale_in="random_signs", bias_init="normal"),
        fcnn.BatchNorm(),
        fcnn.BatchEnsemble(7, K, scale_in=None, scale_out=None, bias="shared"),
        fcnn.ParametricActivation(),
        fcnn.Residual([fcnn.DenseEnsemble(7, K, "silu"), fcnn.Dropout(0.2), fcnn.PReLU()]),
        fcnn.DenseEnsemble(N_OUT, K, parametrization="ntk"),
    ]
    return fcnn.Sequential(layers, n_in=5, seed=0, dtype="float64", backend=ops)


def trained(ops: Ops | str = "numpy") -> tuple[fcnn.Sequential, Any]:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(50, 5)), rng.integers(0, N_OUT, 50)
    model = network(ops)
    fcnn.Trainer(model, fcnn.EnsembleLoss("cross_entropy", K)).fit(X, y, epochs=2, batch_size=16, progress=False)
    model.info["kept"] = True
    return model, X


@pytest.mark.parametrize("chosen", [[2], [3, 0], [0, 1, 2, 3]], ids=str)
def test_outputs_are_those_of_the_members(ops: Ops, chosen: list[int], tmp_path: Path) -> None:
    model, X = trained(ops)
    before = {name: np.array(ops.to_numpy(x)) for name, x in model.named_arrays().items()}
    some = model.select_members(chosen)
    raw = model(X).reshape(len(X), K, N_OUT)[:, chosen]
    assert_close(some(X), raw.reshape(len(X), -1), "sum")
    P = np.exp(raw) / np.exp(raw).sum(axis=2, keepdims=True)
    assert_close(some.predict(X), P.mean(axis=1), "sum")
    assert (some.members, some.n_predictions, some.info) == (len(chosen), N_OUT, {"kept": True})
    some.save(tmp_path / "m")
    assert_close(fcnn.load(tmp_path / "m", backend="numpy").predict(X), P.mean(axis=1), "sum")
    for name, x in model.named_arrays().items():
        np.testing.assert_array_equal(ops.to_numpy(x), before[name])


def test_what_is_refused() -> None:
    model = network()
    for members, message in (
        ([4], "there is no member 4; the network has 4, from 0 to 3"),
        ([], "at least one member, each of them once"),
        ([1, 1], "at least one member, each of them once"),
        ([-1], "expects an integer of at least 0"),
    ):
        with pytest.raises(ValueError, match=message):
            model.select_members(members)
    with pytest.raises(ValueError, match="from Members on"):
        fcnn.Sequential([fcnn.Dense(2)], n_in=3, backend="numpy").select_members([0])


@pytest.mark.parametrize(
    "layer",
    [fcnn.Dense(4), fcnn.LayerNorm(), fcnn.Activation("softmax"), fcnn.Residual([fcnn.DenseEnsemble(3, 2)])],
    ids=lambda layer: layer.name,
)
def test_layers_that_mix_members(layer: fcnn.Layer) -> None:
    model = fcnn.Sequential([fcnn.Members(2), layer], n_in=4, backend="numpy")
    with pytest.raises(ValueError, match="mixes"):
        model.select_members([0])
