"""Sequential.join_members: trained networks as the members of one."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.data import mean_over_members

STACKS: list[Any] = [
    lambda n: [fcnn.Dense(7, activation="relu"), fcnn.Dropout(0.3), fcnn.Dense(n)],
    lambda n: [fcnn.BatchNorm(), fcnn.Residual([fcnn.Dense(4, activation="tanh")]), fcnn.Dense(n)],
    lambda n: [fcnn.PBLD([1], frequencies=3), fcnn.Dense(5, "gelu", parametrization="ntk"), fcnn.Dense(n)],
]
LOSSES = {"cross_entropy": 3, "binary_cross_entropy": 1, "mse": 2}


def data(loss: str, n: int = 50) -> tuple[HostArray, Any]:
    rng = np.random.default_rng(1)
    X = rng.normal(size=(n, 4)).astype(np.float32)
    y: dict[str, Any] = {
        "cross_entropy": (X @ rng.normal(size=(4, 3))).argmax(axis=1),
        "binary_cross_entropy": (X[:, 0] > 0).astype(np.int64),
        "mse": X[:, :2] * X[:, 2:],
    }
    return X, y[loss]


def trained(ops: Any, loss: str = "mse", stacks: Any = None, **options: Any) -> list[fcnn.Sequential]:
    X, y = data(loss)
    models = []
    for seed, stack in enumerate(STACKS if stacks is None else stacks):
        model = fcnn.Sequential(stack(LOSSES[loss]), n_in=4, seed=seed, backend=ops, **options)
        fcnn.Trainer(model, loss, "adam", seed=seed).fit(X, y, epochs=2, batch_size=16, progress=False)
        models.append(model)
    return models


@pytest.mark.parametrize("loss", LOSSES)
def test_outputs_are_those_of_each_and_predictions_the_mean(ops: Ops, loss: str, tmp_path: Path) -> None:
    X, y = data(loss)
    models = trained(ops, loss)
    joined = fcnn.Sequential.join_members(models)
    assert (joined.members, joined.n_predictions, joined.link) == (3, LOSSES[loss], models[0].link)
    np.testing.assert_array_equal(joined(X), np.concatenate([model(X) for model in models], axis=1))
    mean = mean_over_members(np.concatenate([model.predict(X) for model in models], axis=1), 3)
    joined.save(tmp_path / "m")
    for twin in (
        joined,
        fcnn.load(tmp_path / "m", backend=ops),
        *([pickle.loads(pickle.dumps(joined)), copy.deepcopy(joined)] if ops.name in ("numpy", "cpu") else []),
        fcnn.Sequential.join_members([fcnn.Sequential.join_members(models[:1]), *models[1:]]),
    ):
        np.testing.assert_array_equal(twin.predict(X), mean)
        assert twin.signature == models[0].signature
        assert twin.config() == joined.config() | {"seed": twin.seed}
    assert joined.predict_classes(X).shape == (len(X),)
    some = joined.select_members([2, 0])
    np.testing.assert_array_equal(some(X), np.concatenate([models[2](X), models[0](X)], axis=1))
    assert (some.members, [layer.path for layer in some.layers]) == (2, ["0"])
    scores = fcnn.Trainer(joined, fcnn.EnsembleLoss(loss, 3)).evaluate(X, y)
    alone = [fcnn.Trainer(model, loss).evaluate(X, y)["loss"] for model in models]
    assert scores["loss"] == pytest.approx(np.mean(alone), rel=1e-5)


def test_it_is_a_copy_that_trains_on() -> None:
    X, y = data("mse")
    models = trained("numpy")
    before = [model(X) for model in models]
    joined = fcnn.Sequential.join_members(models, backend="cpu")
    assert joined.ops.name == "cpu"
    fcnn.Trainer(joined, fcnn.EnsembleLoss("mse", 3)).fit(X, y, epochs=1, progress=False)
    for model, outputs in zip(models, before, strict=True):
        np.testing.assert_array_equal(model(X), outputs)
    assert joined.n_parameters == sum(model.n_parameters for model in models)


def test_ensembles_of_as_many_members_are_joined_as_they_are() -> None:
    def ensemble(k: int) -> Any:
        return lambda n: [fcnn.Members(k), fcnn.BatchEnsemble(5, k, "relu"), fcnn.DenseEnsemble(n, k)]

    X, y = data("mse")
    models = []
    for seed, k in enumerate((2, 2, 3)):
        model = fcnn.Sequential(ensemble(k)(2), n_in=4, seed=seed, backend="numpy")
        fcnn.Trainer(model, fcnn.EnsembleLoss("mse", k)).fit(X, y, epochs=1, progress=False)
        models.append(model)
    joined = fcnn.Sequential.join_members(models[:2])
    assert joined.members == 4
    np.testing.assert_allclose(
        joined.predict(X), (models[0].predict(X) + models[1].predict(X)) / 2, rtol=1e-5, atol=1e-6
    )
    with pytest.raises(ValueError, match="the networks have 2 and 3 members"):
        fcnn.Sequential.join_members(models)
    with pytest.raises(ValueError, match="select_members: the members of Branches"):
        joined.select_members([0])


def test_centers_and_signatures_that_may_differ() -> None:
    X, _ = data("mse")
    models = trained("cpu", stacks=STACKS[:2])
    models[1].output_center = np.array([1e9, -1.0])
    ranges = [(-1.0, 2.0), (0.0, 3.0)], [(-2.0, 1.0), (0.5, 4.0)]
    for model, ends in zip(models, ranges, strict=True):
        model.signature = replace(model.signature, target_range=ends, input_range=ends[0], feature_names=list("abcd"))
        model.info = {"data": "blobs", "seed": model.seed}
    joined = fcnn.Sequential.join_members(models)
    assert joined.signature.target_range == ((-2.0, 2.0), (0.0, 4.0))
    assert joined.signature.input_range == (-2.0, 2.0)
    assert joined.signature.feature_names == tuple("abcd")
    assert joined.info == {"data": "blobs"}
    np.testing.assert_array_equal(joined(X), np.concatenate([model(X) for model in models], axis=1))
    assert joined.output_center is not None
    assert joined.output_center.tolist() == [0, 0, 1e9, -1]
    with pytest.raises(ValueError, match="output_center that differs among members"):
        fcnn.Trainer(joined, fcnn.EnsembleLoss("mse", 2))
    models[1].signature = replace(models[1].signature, target_range=None)
    assert fcnn.Sequential.join_members(models).signature.target_range is None


def test_categories_are_checked_against_the_smallest_table() -> None:
    def embedded(n: int) -> fcnn.Sequential:
        return fcnn.Sequential([fcnn.Embedding([1], n, 2), fcnn.Dense(1)], n_in=2, seed=0, backend="numpy")

    joined = fcnn.Sequential.join_members([embedded(5), embedded(3), embedded(4)])
    assert joined(np.array([[0.5, 2.0]])).shape == (1, 3)
    with pytest.raises(ValueError, match="an integer from 0 to 2"):
        joined(np.array([[0.5, 3.0]]))


@pytest.mark.parametrize("place", ["host", "disk"])
def test_weights_elsewhere(place: str) -> None:
    X, _ = data("mse")
    stacks = [[fcnn.Dense(6, "relu", placement=where), fcnn.Dense(2)] for where in (place, "device")]
    models = [fcnn.Sequential(stack, n_in=4, seed=seed, backend="numpy") for seed, stack in enumerate(stacks)]
    joined = fcnn.Sequential.join_members(models)
    np.testing.assert_array_equal(joined(X), np.concatenate([model(X) for model in models], axis=1))
    fcnn.Trainer(joined, fcnn.EnsembleLoss("mse", 2)).fit(X, data("mse")[1], epochs=1, progress=False)
    for model in (*models, joined):
        model.close()


DIFFERENCES: dict[str, tuple[dict[str, Any], str]] = {
    "inputs": ({"n_in": 5}, "network 0 and network 1 differ in n_in, 4 and 5"),
    "dtype": ({"dtype": "float64"}, "differ in dtype, float32 and float64"),
    "scale": ({"input_scale": 0.5}, "differ in input_scale, 1.0 and 0.5"),
    "shift": ({"input_shift": 0.5}, "differ in input_shift"),
    "center": ({"input_center": [1, 2, 3, 4]}, r"differ in input_center\. Members take the same X"),
}


@pytest.mark.parametrize("case", DIFFERENCES)
def test_networks_that_differ_are_refused(case: str) -> None:
    options, message = DIFFERENCES[case]
    usual: dict[str, Any] = {"n_in": 4, "backend": "numpy"}
    models = [fcnn.Sequential([fcnn.Dense(2)], **(usual | given)) for given in ({}, options)]
    with pytest.raises(ValueError, match=message):
        fcnn.Sequential.join_members(models)


def test_what_else_is_refused() -> None:
    join: Any = fcnn.Sequential.join_members
    one, two = trained("numpy", stacks=STACKS[:2])
    wide = fcnn.Sequential([fcnn.Dense(3)], n_in=4, backend="numpy")
    with pytest.raises(ValueError, match="differ in n_predictions, 2 and 3"):
        join([one, wide])
    two.link = "exp"
    with pytest.raises(ValueError, match="differ in link, identity and exp"):
        join([one, two])
    two.link = "identity"
    two.signature = replace(two.signature, feature_names=list("abcd"))
    with pytest.raises(ValueError, match=r"differ in signature.feature_names, None and \('a', 'b', 'c', 'd'\)"):
        join([one, two])
    waiting = fcnn.Sequential([fcnn.Dense(2, init="std")], n_in=4, backend="numpy")
    with pytest.raises(ValueError, match="network 1 has initial values that wait for samples"):
        join([one, waiting])
    with pytest.raises(ValueError, match="at least one network"):
        join([])
    with pytest.raises(TypeError, match="expects a list of networks, got Sequential"):
        join(one)
    with pytest.raises(TypeError, match=r"got str \(number 1\)"):
        join([one, "two"])
    joined = join([one, one])
    with pytest.raises(ValueError, match="there is no member 2"):
        joined.select_members([2])
    behind = fcnn.Sequential([fcnn.Members(2), fcnn.Branches([["relu"], ["tanh"]])], n_in=2, backend="numpy")
    with pytest.raises(ValueError, match="are not those of a network from Members on"):
        behind.select_members([0])


def test_branches_in_front_of_members_stay(ops: Ops) -> None:
    layers = [fcnn.Branches([["tanh"], [fcnn.Dense(3)]]), fcnn.Members(2), fcnn.DenseEnsemble(2, 2)]
    model = fcnn.Sequential(layers, n_in=4, seed=0, backend=ops)
    X = data("mse")[0]
    np.testing.assert_array_equal(model.select_members([1])(X), model(X)[:, 2:])


@pytest.mark.parametrize("n_out", [1, 3])
def test_without_a_link_predictions_are_the_mean_of_raw_outputs(n_out: int) -> None:
    """As of networks that were trained in a loop of one's own, or not yet."""
    members = [fcnn.Sequential([fcnn.Dense(n_out)], n_in=4, seed=seed, backend="numpy") for seed in range(3)]
    joined = fcnn.Sequential.join_members(members)
    X = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    mean = np.mean([model(X) for model in members], axis=0)
    np.testing.assert_allclose(joined.predict(X), mean, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(joined.predict_members(X)[:, 1], members[1](X))
    classes = (mean[:, 0] > 0) if n_out == 1 else mean.argmax(axis=1)
    np.testing.assert_array_equal(joined.predict_classes(X), classes)


def test_a_single_number_is_no_list_of_members() -> None:
    joined = fcnn.Sequential.join_members([fcnn.Sequential([fcnn.Dense(2)], n_in=3, seed=i) for i in range(2)])
    with pytest.raises(TypeError, match=r"select_members expects a list of numbers, got 0\. Write \[0\]"):
        joined.select_members(0)  # type: ignore[arg-type]
