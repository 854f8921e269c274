"""Sample weights of each member, and cross-validation in one run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.data import split_validation
from fcnn_gpu.training import _feed

from ..support.tolerances import assert_close

K, N, N_IN = 3, 40, 4
OUTPUTS = {"cross_entropy": 3, "binary_cross_entropy": 1, "mse": 2}


def data(loss: str = "cross_entropy") -> tuple[HostArray, Any]:
    rng = np.random.default_rng(1)
    X = rng.normal(size=(N, N_IN))
    y: dict[str, Any] = {
        "cross_entropy": (X @ rng.normal(size=(N_IN, 3))).argmax(axis=1),
        "binary_cross_entropy": (X[:, 0] > 0).astype(np.int64),
        "mse": X[:, :2] * X[:, 2:],
    }
    return X, y[loss]


def weights_of_each() -> HostArray:
    """Those of folds, and of some samples others."""
    weights = fcnn.fold_weights(N, K).astype(np.float64)
    weights[::5] *= np.random.default_rng(2).uniform(0.5, 2.0, weights[::5].shape)
    return weights


def ensemble(ops: Ops | str, n: int = 3, dtype: str = "float64", **options: Any) -> fcnn.Sequential:
    layers = [fcnn.Members(K), fcnn.DenseEnsemble(5, K, "gelu"), fcnn.DenseEnsemble(n, K)]
    return fcnn.Sequential(layers, n_in=N_IN, seed=0, dtype=dtype, backend=ops, **options)


def member(model: fcnn.Sequential, g: int) -> fcnn.Sequential:
    """A single network with the weights of member g."""
    of_g = model.select_members([g])
    widths = [layer.n_out for layer in of_g.layers[1:]]
    alone = fcnn.Sequential(
        [fcnn.Dense(widths[0], "gelu"), fcnn.Dense(widths[1])], n_in=N_IN, dtype="float64", backend="numpy"
    )
    for old, new in zip(of_g.parameters, alone.parameters, strict=True):
        new.value[...] = of_g.ops.to_numpy(old.value)
    return alone


def values(model: fcnn.Sequential) -> HostArray:
    return np.array(model.ops.to_numpy(model.flat.values))


@pytest.mark.parametrize("loss", OUTPUTS)
def test_each_member_learns_as_a_network_by_itself(ops: Ops, loss: str) -> None:
    X, y = data(loss)
    weights = weights_of_each()
    model = ensemble(ops, OUTPUTS[loss])
    singles = [member(model, g) for g in range(K)]
    trainer = fcnn.Trainer(model, fcnn.EnsembleLoss(loss, K), fcnn.SGD(0.3, momentum=0.5), seed=1)
    fit: dict[str, Any] = {"epochs": 3, "batch_size": 16, "progress": False}
    history = trainer.fit(X, y, sample_weight=weights, validation_data=(X, y, weights), **fit)
    losses = []
    for g, alone in enumerate(singles):
        # The mean over members divides each gradient by their number.
        one = fcnn.Trainer(alone, loss, fcnn.SGD(0.3 / K, momentum=0.5), seed=1)
        own = weights[:, g]
        losses.append(one.fit(X, y, sample_weight=own, validation_data=(X, y, own), **fit))
        assert_close(values(member(model, g)), values(alone), "training", f"member {g}")
    for column in ("loss", "val_loss"):
        assert history[column] == pytest.approx(np.mean([of_one[column] for of_one in losses], axis=0))
    expected = np.mean([one["val_loss"][-1] for one in losses])
    assert trainer.evaluate(X, y, weights)["loss"] == pytest.approx(expected)


def test_equal_weights_of_all_members_are_weights_of_samples(ops: Ops) -> None:
    X, y = data()
    of_samples = np.random.default_rng(0).uniform(0.5, 2.0, N)
    made = []
    for weights in (of_samples, np.tile(of_samples[:, np.newaxis], (1, K))):
        model = ensemble(ops)
        trainer = fcnn.Trainer(model, fcnn.EnsembleLoss("cross_entropy", K), seed=1)
        trainer.fit(X, y, sample_weight=weights, class_weight={0: 2.0, 1: 1.0, 2: 0.5}, epochs=2, progress=False)
        made.append(values(model))
    np.testing.assert_array_equal(made[0], made[1])


@pytest.mark.parametrize("way", ["recorded", "in parts", "streamed"])
def test_every_way_through_a_run(device_ops: Ops, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = data()
    np.save(tmp_path / "X.npy", X.astype(np.float32))
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    ways: dict[str, dict[str, Any]] = {
        "recorded": {"capture": False},
        "in parts": {"micro_batch_size": 5},
        "streamed": {"memory_limit": None},
    }
    made, histories = [], []
    for more in ({}, ways[way]):
        model = ensemble(device_ops, dtype="float32")
        trainer = fcnn.Trainer(model, fcnn.EnsembleLoss("cross_entropy", K), fcnn.SGD(0.1), seed=1)
        given: dict[str, Any] = {"epochs": 2, "batch_size": 16, "progress": False, **more}
        if "memory_limit" in given:  # of the model, and of little more than two batches
            monkeypatch.delattr(_feed, "DeviceData")
            given["memory_limit"] = model.memory_report(16, fcnn.SGD(0.1), loss=trainer.loss).total + 1600
        histories.append(trainer.fit(mapped, y, sample_weight=weights_of_each(), **given))
        made.append(values(model))
    if way == "in parts":
        assert_close(made[0], made[1], "training")
    else:
        np.testing.assert_array_equal(made[0], made[1])
        assert histories[0]["loss"] == histories[1]["loss"]


def test_samples_that_are_held_out_keep_their_weights() -> None:
    X, y = data()
    weights = weights_of_each()
    trainer = fcnn.Trainer(ensemble("numpy"), fcnn.EnsembleLoss("cross_entropy", K), seed=1)
    history = trainer.fit(X, y, sample_weight=weights, validation_split=0.25, epochs=1, progress=False)
    _, held_out = split_validation(N, 0.25, y, 1)
    expected = trainer.evaluate(X[held_out], y[held_out], weights[held_out])["loss"]
    assert history["val_loss"][-1] == pytest.approx(expected, rel=1e-12)


def test_it_is_trained_in_16_bits(device_ops: Ops) -> None:
    X, y = data()
    model = ensemble(device_ops, dtype="float32", precision="float16")
    trainer = fcnn.Trainer(model, fcnn.EnsembleLoss("cross_entropy", K), fcnn.Adam(0.02), seed=1)
    history = trainer.fit(X, y, sample_weight=weights_of_each(), epochs=8, batch_size=16, progress=False)
    assert history["loss"][-1] < 0.7 * history["loss"][0]


def test_memory_is_counted() -> None:
    X, y = data()
    model = ensemble("numpy")
    reports = [
        model.memory_report(16, data=(X, y, weights), loss=fcnn.EnsembleLoss("cross_entropy", K))
        for weights in (np.ones(N), np.ones((N, K)))
    ]
    assert reports[1].data - reports[0].data == 8 * (K - 1) * N


def test_what_is_refused(tmp_path: Path) -> None:
    X, y = data()
    of_one = fcnn.Trainer(member(ensemble("numpy"), 0), "cross_entropy")
    with pytest.raises(ValueError, match=r"got \(40, 3\). Weights of each member are for EnsembleLoss"):
        of_one.fit(X, y, sample_weight=np.ones((N, K)), progress=False)
    trainer = fcnn.Trainer(ensemble("numpy"), fcnn.EnsembleLoss("cross_entropy", K))
    with pytest.raises(ValueError, match=r"shape \(40,\), one weight per sample, or \(40, 3\), one per sample and mem"):
        trainer.fit(X, y, sample_weight=np.ones((N, 2)), progress=False)
    weights = weights_of_each()
    weights[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"finite weights of at least 0, got nan in row 3"):
        trainer.fit(X, y, sample_weight=weights, progress=False)
    weights = weights_of_each()
    weights[:, 2] = 0
    with pytest.raises(ValueError, match="sample_weight of member 2 is 0 for every sample: there is nothing to learn"):
        trainer.fit(X, y, sample_weight=weights, progress=False)
    weights[:, 2] = 1e-300
    small = fcnn.Trainer(ensemble("numpy", dtype="float32"), fcnn.EnsembleLoss("cross_entropy", K))
    with pytest.raises(ValueError, match="sample_weight of member 2 rounds to 0 in float32"):
        small.fit(X, y, sample_weight=weights, progress=False)
    source = fcnn.datasets.open_arrays(X, y)
    with pytest.raises(ValueError, match="fit: a data source takes one weight for each sample"):
        trainer.fit(source, sample_weight=np.ones((N, K)), progress=False)
    with pytest.raises(ValueError, match="validation_data: a data source takes one weight"):
        trainer.fit(X, y, validation_data=(source, None, np.ones((N, K))), progress=False)


def test_folds_leave_each_sample_out_once() -> None:
    weights = fcnn.fold_weights(23, 5, seed=3)
    assert weights.shape == (23, 5)
    assert weights.dtype == np.float32
    assert set(np.unique(weights)) == {0.0, 1.0}
    np.testing.assert_array_equal((weights == 0).sum(axis=1), 1)
    assert sorted((weights == 0).sum(axis=0)) == [4, 4, 5, 5, 5]
    np.testing.assert_array_equal(weights, fcnn.fold_weights(np.int64(23), 5, seed=3))
    assert (weights != fcnn.fold_weights(23, 5, seed=4)).any()


@pytest.mark.parametrize("names", [[0, 7], ["no", "yes"], np.array(["no", "yes"], object), [False, True]])
def test_folds_of_labels_have_their_shares(names: Any) -> None:
    labels = np.asarray(names)[np.repeat([0, 1], [30, 10])]
    weights = fcnn.fold_weights(labels, 5)
    for g in range(5):
        out = labels[weights[:, g] == 0]
        assert [(out == name).sum() for name in names] == [6, 2]


@given(st.lists(st.integers(0, 4), min_size=2, max_size=60), st.integers(2, 9), st.integers(0, 2**32))
def test_every_sample_is_dealt_once_and_classes_evenly(labels: list[int], n_folds: int, seed: int) -> None:
    """As scikit-learn's StratifiedKFold, and also where a class has fewer samples than there are folds."""
    y, n_folds = np.array(labels), min(n_folds, len(labels))
    left_out = fcnn.fold_weights(y, n_folds, seed=seed) == 0
    np.testing.assert_array_equal(left_out.sum(axis=1), 1)
    for label in set(labels):
        of_each = left_out[y == label].sum(axis=0)
        assert of_each.max() - of_each.min() <= 1
    assert np.ptp(left_out.sum(axis=0)) <= 1


def test_folds_that_cannot_be_made() -> None:
    folds: Any = fcnn.fold_weights
    with pytest.raises(ValueError, match="3 samples do not make 5 folds"):
        folds(3)
    with pytest.raises(ValueError, match="0 samples do not make 5 folds"):
        folds(np.zeros(0, int))
    for values_of in (np.linspace(0, 1, 20), np.zeros((20, 2), int)):
        with pytest.raises(ValueError, match=r"For values, and several labels of a sample, pass len\(y\)"):
            folds(values_of)
    with pytest.raises(ValueError, match=r"fold_weights\(n_folds\)"):
        folds(20, 1)


@pytest.mark.parametrize("loss", OUTPUTS)
def test_out_of_fold_predictions_are_those_of_who_has_not_seen_a_sample(loss: str) -> None:
    X, y = data(loss)
    weights = fcnn.fold_weights(y if loss != "mse" else N, K)
    weights[:2, :2] = 0  # two of these three have not seen them
    model = ensemble("cpu", OUTPUTS[loss])
    fcnn.Trainer(model, fcnn.EnsembleLoss(loss, K)).fit(X, y, sample_weight=weights, epochs=1, progress=False)
    predictions = fcnn.out_of_fold(model, X, weights, batch_size=7)
    each = model.predict_members(X)
    assert each.shape == (N, K, OUTPUTS[loss])
    assert_close(each.mean(axis=1), model.predict(X), "elementwise")
    for j in range(N):
        assert_close(predictions[j], each[j, weights[j] == 0].mean(axis=0), "elementwise")
        for g in range(K):
            if j < 3:
                assert_close(each[j, g], model.select_members([g]).predict(X[j : j + 1])[0], "sum")
    with pytest.raises(ValueError, match=r"of shape \(40, 3\), one for each sample and member, as fit was given, got"):
        fcnn.out_of_fold(model, X, weights[:, :2])
    weights[[3, 8]] = 1
    with pytest.raises(ValueError, match=r"every member was trained on sample 3 \(2 samples in all\)"):
        fcnn.out_of_fold(model, X, weights)


def test_one_member_s_weights_are_those_of_its_samples() -> None:
    X, y = np.random.default_rng(0).normal(size=(30, 3)), np.arange(30) % 2
    model = fcnn.Sequential([fcnn.Members(1), fcnn.DenseEnsemble(2, 1)], n_in=3, seed=0, backend="numpy")
    trainer = fcnn.Trainer(model, fcnn.EnsembleLoss("cross_entropy", 1))
    W = np.zeros((30, 1))
    W[:20] = 1
    with pytest.raises(ValueError, match=r"Give its only column: sample_weight\[:, 0\]"):
        trainer.fit(X, y, sample_weight=W, epochs=1, progress=False)
    trainer.fit(X, y, sample_weight=W[:, 0], epochs=1, progress=False)
    for weights in (W[20:], W[20:, 0]):
        np.testing.assert_array_equal(fcnn.out_of_fold(model, X[20:], weights), model.predict(X[20:]))
    with pytest.raises(ValueError, match="finite and of at least 0"):
        fcnn.out_of_fold(model, X, W * np.nan)


def test_missing_labels_are_in_no_fold() -> None:
    with pytest.raises(ValueError, match="fold_weights: y has no label in row 2"):
        fcnn.fold_weights(["a", "b", np.nan, "a", "b", np.nan], 2)
    np.testing.assert_array_equal(
        fcnn.fold_weights(np.array([0, 1] * 4, object), 2), fcnn.fold_weights(np.array([0, 1] * 4), 2)
    )
    with pytest.raises(ValueError, match="astype"):
        fcnn.fold_weights(np.array([0.0, 1.0] * 4), 2)
