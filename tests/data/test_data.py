"""Batches on the device, sample orders, the validation split and class weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_sample_weight

from fcnn_gpu.backend import Ops
from fcnn_gpu.data._class_weights import class_weights_to_sample_weights
from fcnn_gpu.data._device_data import DeviceData, epoch_order, leaves_single_sample
from fcnn_gpu.data._validation_split import split_validation


def test_batches_follow_the_order_and_the_cursor() -> None:
    ops = Ops()
    X, y, w = np.arange(20.0).reshape(10, 2), np.arange(10), np.arange(10.0)
    data = DeviceData(ops, X, y, w, 4)
    order = np.random.default_rng(0).permutation(10)
    data.start_epoch(order)
    for start, stop in ((0, 4), (4, 8), (8, 10)):
        views = data.views(stop - start)
        data.gather(views)
        part = order[start:stop]
        np.testing.assert_array_equal(views.X, X[part])
        np.testing.assert_array_equal(views.targets, y[part])
        np.testing.assert_array_equal(views.sample_weight, w[part])
        assert np.shares_memory(views.X, data.views(4).X)
        ops.advance(data.cursor, stop - start)
    data.start_epoch(order[::-1].copy())
    data.gather(data.views(4))
    np.testing.assert_array_equal(data.views(4).X, X[order[::-1][:4]])


def test_a_batch_is_no_larger_than_the_data_and_weights_may_be_absent() -> None:
    data = DeviceData(Ops(), np.zeros((3, 2)), np.zeros((3, 1)), None, 100)
    assert data.batch_size == 3
    data.gather(data.views(3))
    assert data.views(3).sample_weight is None


def test_an_epochs_order_is_a_permutation_fixed_by_seed_and_epoch() -> None:
    order = epoch_order(50, 3, 7, True)
    assert order.dtype == np.int64
    np.testing.assert_array_equal(np.sort(order), np.arange(50))
    np.testing.assert_array_equal(order, epoch_order(50, 3, 7, True))
    assert (order != epoch_order(50, 3, 8, True)).any()
    assert (order != epoch_order(50, 4, 7, True)).any()
    np.testing.assert_array_equal(epoch_order(50, 3, 7, False), np.arange(50))


def test_integer_labels_are_split_class_by_class() -> None:
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    train, held_out = split_validation(100, 0.2, labels, seed=0)
    assert np.bincount(labels[held_out]).tolist() == [12, 6, 2]
    np.testing.assert_array_equal(np.sort(np.concatenate([train, held_out])), np.arange(100))
    again = split_validation(100, 0.2, labels, seed=0)
    np.testing.assert_array_equal(held_out, again[1])
    assert (split_validation(100, 0.2, labels, seed=1)[1] != held_out).any()


def test_a_split_of_small_classes_holds_out_its_share_of_the_whole() -> None:
    labels = np.repeat(np.arange(50), 4)  # a tenth of each class alone rounds to nothing
    train, held_out = split_validation(200, 0.1, labels, seed=0)
    assert (len(train), len(held_out)) == (180, 20)
    assert np.bincount(labels[held_out]).max() == 1


def test_a_class_of_one_sample_is_trained_on() -> None:
    labels = np.array([7] * 9 + [3])
    for seed in range(5):
        train, held_out = split_validation(10, 0.5, labels, seed)
        assert 3 in labels[train]
        assert len(held_out) == 5


def test_values_are_split_at_random() -> None:
    train, held_out = split_validation(50, 0.3, np.random.default_rng(0).normal(size=(50, 2)), seed=0)
    assert (len(train), len(held_out)) == (35, 15)
    assert not set(train) & set(held_out)


@pytest.mark.parametrize(("n", "share"), [(1, 0.5), (10, 0.01), (4, 0.99)])
def test_a_split_that_leaves_nothing_on_one_side_is_refused(n: int, share: float) -> None:
    message = rf"validation_split={share:g} of {n} samples leaves \d+ for training and \d+ for validation"
    with pytest.raises(ValueError, match=message):
        split_validation(n, share, np.zeros((n, 1)), seed=0)


def test_classes_of_one_sample_each_are_named_as_the_reason() -> None:
    with pytest.raises(ValueError, match=r"leaves none for validation: each of the 20 classes .*values\?"):
        split_validation(20, 0.25, np.arange(20), seed=0)


def test_balanced_weights_are_scikit_learns() -> None:
    labels = np.array([0, 0, 0, 1, 1, 3])
    np.testing.assert_allclose(
        class_weights_to_sample_weights("balanced", labels, 5), compute_sample_weight("balanced", labels)
    )


def test_classes_without_a_weight_count_once() -> None:
    weights = class_weights_to_sample_weights({np.int64(2): 3, 0: 0.5}, np.array([0, 1, 2]), 3)
    np.testing.assert_array_equal(weights, [0.5, 1, 3])


@pytest.mark.parametrize(
    ("class_weight", "error", "message"),
    [
        ("balance", ValueError, "class_weight is 'balanced' or a dict of label: weight, got 'balance'"),
        ([1.0, 2.0], TypeError, "class_weight is 'balanced' or a dict of label: weight, got list"),
        ({3: 1.0}, ValueError, "names the class 3; the classes are 0 ... 2"),
        ({-1: 1.0}, ValueError, "names the class -1"),
        ({True: 1.0}, ValueError, "names the class True"),
        ({"a": 1.0}, ValueError, "names the class 'a'"),
        ({1.0: 1.0}, ValueError, "names the class 1.0"),
        ({0: -1.0}, ValueError, "class_weight of class 0 expects a finite number of at least 0, got -1"),
        ({0: np.nan}, ValueError, "class_weight of class 0 expects a finite number"),
        ({0: "heavy"}, TypeError, "class_weight of class 0 expects a number, got 'heavy'"),
    ],
)
def test_class_weights_that_are_refused(class_weight: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        class_weights_to_sample_weights(class_weight, np.array([0, 1, 2]), 3)


@pytest.mark.parametrize(
    ("n_samples", "batch_size", "leaves"),
    [(9, 4, True), (8, 4, False), (3, 1, False), (1, 4, False), (5, 8, False), (4, 4, False)],
)
def test_a_single_sample_is_left_over(n_samples: int, batch_size: int, leaves: bool) -> None:
    assert leaves_single_sample(n_samples, batch_size) == leaves
