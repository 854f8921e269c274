"""The workspace: views for any batch size from buffers made once, training and inference apart."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.model import _workspace


def network() -> fcnn.Sequential:
    layers = [
        fcnn.Dense(7, activation="relu"),
        fcnn.Residual([fcnn.BatchNorm(), fcnn.Dense(5, activation="gelu"), fcnn.Dropout(0.2)]),
        fcnn.LayerNorm(),
        fcnn.Dense(3),
    ]
    return fcnn.Sequential(layers, n_in=4, seed=0, backend="numpy", dtype="float64")


def arrays_of(cache: Any) -> list[HostArray]:
    found = []
    for value in vars(cache).values():
        if isinstance(value, np.ndarray):
            found.append(value)
        elif isinstance(value, list):
            found += [array for inner in value for array in arrays_of(inner)]
    return found


def test_one_batch_size_is_one_set_of_arrays() -> None:
    model = network()
    assert model.batch_arrays(8, True) is model.batch_arrays(8, True)
    assert model.batch_arrays(8, True) is not model.batch_arrays(8, False)


def test_a_smaller_batch_takes_the_front_of_the_same_memory() -> None:
    model = network()
    large, small = model.batch_arrays(8, True), model.batch_arrays(3, True)
    assert model.batch_arrays(8, True) is large
    for a, b in zip(large.caches, small.caches, strict=True):
        for x, y in zip(arrays_of(a), arrays_of(b), strict=True):
            assert x.ctypes.data == y.ctypes.data
            assert y.flags.f_contiguous or 1 in y.shape
    before = model._workspace.nbytes
    model.batch_arrays(5, True)
    assert model._workspace.nbytes == before


def test_a_larger_batch_makes_new_arrays_and_old_ones_stay_whole() -> None:
    model = network()
    old = model.batch_arrays(3, True)
    new = model.batch_arrays(8, True)
    assert not any(
        np.shares_memory(x, y)
        for a, b in zip(old.caches, new.caches, strict=True)
        for x in arrays_of(a)
        for y in arrays_of(b)
    )
    assert model.batch_arrays(3, True) is not old  # cut anew from the larger buffers


def test_inference_neither_disturbs_nor_enlarges_what_training_computes_in() -> None:
    model = network()
    training = model.batch_arrays(4, True)
    before = model._workspace.nbytes
    model.forward(np.random.default_rng(0).normal(size=(4, 4)), training=True)
    kept = [array.copy() for cache in training.caches for array in arrays_of(cache)]
    model(np.ones((500, 4)))
    assert model.batch_arrays(4, True) is training
    now = [array for cache in training.caches for array in arrays_of(cache)]
    for a, b in zip(kept, now, strict=True):
        np.testing.assert_array_equal(a, b)
    inference = model._workspace.nbytes - before
    model.batch_arrays(2, True)
    assert model._workspace.nbytes == before + inference


def test_results_do_not_depend_on_what_the_workspace_held_before() -> None:
    """Batches of sizes up and down, each as if it were the first; buffers are filled with NaN in between."""
    X = np.random.default_rng(0).normal(size=(9, 4))
    used = network()
    for batch in (3, 9, 2, 9, 5):
        for held in used._workspace._held.values():
            for buffer in held.arrays.buffers.values():
                buffer.fill(np.nan if buffer.dtype.kind == "f" else 255)
        fresh = network()
        fresh.restore(used.snapshot())
        fresh.random_step[...] = used.random_step
        outputs = [model.forward(X[:batch], training=True).copy() for model in (used, fresh)]
        np.testing.assert_array_equal(outputs[0], outputs[1])
        dX = [np.array(model.backward(np.ones((batch, 3)), input_gradient=True)) for model in (used, fresh)]
        np.testing.assert_array_equal(dX[0], dX[1])
        np.testing.assert_array_equal(used.flat.gradients, fresh.flat.gradients)
        np.testing.assert_array_equal(used(X[:batch]), fresh(X[:batch]))


def test_gradients_take_two_scratch_buffers_however_deep_the_network() -> None:
    deep = fcnn.Sequential([fcnn.Dense(6) for _ in range(20)], n_in=6, backend="numpy")
    deep.batch_arrays(10, True)
    names = set(deep._workspace._held[True].arrays.buffers)
    assert {name for name in names if name.startswith("gradient")} == {"gradient 0", "gradient 1"}
    assert len(names) == 22
    assert deep._workspace.nbytes == 22 * 6 * 10 * 4


def test_threads_that_predict_with_one_model_do_not_share_arrays() -> None:
    everyone = threading.Barrier(2)

    class Meet(fcnn.Layer):
        def forward(self, A0: HostArray, cache: SimpleNamespace, training: bool) -> HostArray:
            everyone.wait(timeout=60)  # both threads are behind the first layer, neither is behind the second
            return A0

    ends = [fcnn.Dense(5, activation="tanh"), fcnn.Dense(2)]
    met = fcnn.Sequential([ends[0], Meet(), ends[1]], n_in=4, seed=0, backend="numpy")
    X = np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32)
    with ThreadPoolExecutor(2) as pool:
        outputs = list(pool.map(met, X))
    for rows, found in zip(X, outputs, strict=True):
        expected = np.tanh(rows @ ends[0].W.T + ends[0].b.T) @ ends[1].W.T + ends[1].b.T
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("training", [False, True])
def test_views_of_many_batch_sizes_do_not_pile_up(training: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_workspace, "_KEPT_SIZES", 3)
    model, X = network(), np.random.default_rng(0).normal(size=(9, 4))
    for n in (9, 8, 7, 6, 5, 9, 4, 8):
        model.random_step[0] = 0
        outputs = model.forward(X[:n], training).copy()
        fresh = network()
        np.testing.assert_array_equal(outputs, fresh.forward(X[:n], training))
        assert len(model._workspace._held[training].arrays.views) <= 3
