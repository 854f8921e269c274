"""Weights within limits: `Dense(max_norm=, unit_norm=, non_negative=)`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.backend._ops import Ops
from tests.conftest import compiled_ops, emulated_ops

X = np.random.default_rng(0).normal(size=(20, 6))
Y = np.random.default_rng(1).integers(0, 3, 20)
LIMITS: list[dict[str, Any]] = [{"max_norm": 0.4}, {"unit_norm": True}, {"non_negative": True, "max_norm": 0.7}]


def network(backend: Any, settings: dict[str, Any], dtype: str = "float64") -> fcnn.Sequential:
    layers = [fcnn.Dense(37, "tanh", **settings), fcnn.Dropout(0.2), fcnn.Dense(3, l2=0.01, **settings), fcnn.Scale()]
    return fcnn.Sequential(layers, 6, seed=0, backend=backend, dtype=dtype)


def fit(model: fcnn.Sequential, **options: Any) -> None:
    fcnn.Trainer(model, "cross_entropy", fcnn.AdamW(0.05)).fit(X, Y, **{"epochs": 3, "batch_size": 8} | options)


@pytest.mark.parametrize("settings", LIMITS)
@pytest.mark.parametrize("ops", [Ops, compiled_ops, emulated_ops])
def test_every_step_leaves_weights_within_their_limits(ops: Any, settings: dict[str, Any]) -> None:
    expected, model = network(Ops(), settings), network(ops(), settings)
    fit(expected)
    fit(model)
    for name in ("0.W", "2.W"):
        W = model.ops.to_numpy(model.named_arrays()[name])
        norms = np.linalg.norm(W, axis=1)
        assert norms.max() <= settings.get("max_norm", 1.0) * (1 + 1e-12)
        assert norms.min() > (0.999999 if "unit_norm" in settings else 0.0)
        assert W.min() >= 0.0 or "non_negative" not in settings
        np.testing.assert_allclose(W, expected.named_arrays()[name], rtol=1e-8, atol=1e-12)


def test_max_norm_is_pytorch_s_renorm_behind_the_step() -> None:
    torch = pytest.importorskip("torch")
    model = fcnn.Sequential([fcnn.Dense(5, max_norm=0.3)], 6, seed=0, backend="numpy", dtype="float64")
    module = torch.nn.Linear(6, 5).double()
    module.weight.data = torch.tensor(model.named_arrays()["0.W"].copy())
    module.bias.data.zero_()
    optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
    for _ in range(5):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(module(torch.tensor(X)), torch.tensor(Y)).backward()
        optimizer.step()
        module.weight.data = torch.renorm(module.weight.data, 2, 0, 0.3)
    trainer = fcnn.Trainer(model, "cross_entropy", fcnn.Adam(0.05))
    trainer.fit(X, Y, epochs=5, batch_size=20, shuffle=False)
    found = model.named_arrays()["0.W"]
    np.testing.assert_allclose(found, module.weight.detach().numpy(), 1e-5, 1e-6)  # its divisor is ‖w‖ + 10⁻⁷


def test_frozen_weights_are_left_alone_and_a_diverged_step_changes_nothing() -> None:
    model = network("cpu", {"unit_norm": True})
    before = model.named_arrays()["0.W"].copy()
    model.freeze("0.W")
    fit(model, epochs=1)
    assert np.array_equal(model.named_arrays()["0.W"], before)
    model.unfreeze("0.W")
    with pytest.raises(fcnn.DivergenceError), np.errstate(all="ignore"):
        fit(model, epochs=1, sample_weight=np.full(20, 1e300), batch_size=20)
    assert np.array_equal(model.named_arrays()["0.W"], before)
    fit(model, epochs=1)
    np.testing.assert_allclose(np.linalg.norm(model.named_arrays()["0.W"], axis=1), 1.0)


@pytest.mark.parametrize("settings", LIMITS)
def test_a_saved_network_has_its_limits(settings: dict[str, Any], tmp_path: Path) -> None:
    model = network("numpy", settings)
    model.save(tmp_path / "m.safetensors")
    loaded = fcnn.load(tmp_path / "m.safetensors", backend="numpy")
    assert loaded.config() == model.config()
    assert loaded.flat.limited == model.flat.limited
    assert len(model.flat.limited) == 2
    assert not {"max_norm", "unit_norm", "non_negative"} & {*network("numpy", {}).config()["layers"][0]}


def test_a_line_search_keeps_no_limits() -> None:
    model = fcnn.Sequential([fcnn.Dense(3, unit_norm=True)], 6, seed=0, backend="numpy")
    with pytest.raises(ValueError, match="weights within limits"):
        fcnn.Trainer(model, "cross_entropy", fcnn.LBFGS()).fit(X, Y)


def test_such_weights_stay_on_the_device() -> None:
    limited = fcnn.Dense(64, max_norm=1.0)
    model = fcnn.Sequential([limited, fcnn.Dense(64, placement="host")], 64, seed=0, backend="numpy")
    fcnn.Trainer(model, "mse", fcnn.SGD(0.1)).fit(np.ones((4, 64)), np.ones((4, 64)), epochs=1)
    assert np.linalg.norm(limited.W, axis=1).max() < 1.000001


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"max_norm": 0.0}, "max_norm"),
        ({"max_norm": np.nan}, "max_norm"),
        ({"unit_norm": True, "max_norm": 2.0}, "choose one of max_norm and unit_norm"),
        ({"non_negative": True, "placement": "disk"}, r"placement='disk'\) has weights that no update sees as a whole"),
    ],
)
def test_what_cannot_be_kept_is_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        fcnn.Dense(3, **settings)
    with pytest.raises((TypeError, ValueError), match="unit_norm"):
        fcnn.Dense(3, unit_norm=1)  # type: ignore[arg-type]
