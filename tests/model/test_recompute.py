"""Layers run again in the backward pass: the same bits in less memory."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.model._recompute import Segment, segments_of
from tests.conftest import emulated_ops
from tests.training.test_micro_batches import Scaled

from ..cuda_on_cpu import missing_compiler

needs_compiler = pytest.mark.skipif(missing_compiler() is not None, reason=str(missing_compiler()))
COMMON = settings(deadline=None, suppress_health_check=list(HealthCheck))

MADE: dict[str, Any] = {
    "dense": lambda: fcnn.Dense(5, activation="tanh", l2=1e-3),
    "wide": lambda: fcnn.Dense(23, activation="gelu"),
    "dropout": lambda: fcnn.Dropout(0.4),
    "none": lambda: fcnn.Dropout(0.0),
    "batch_norm": fcnn.BatchNorm,
    "layer_norm": fcnn.LayerNorm,
    "activation": lambda: fcnn.Activation("silu"),
    "ntk": lambda: fcnn.Dense(11, parametrization="ntk"),
    "scale": fcnn.Scale,
    "parametric": lambda: fcnn.ParametricActivation("gelu", alpha=0.5),
    "prelu": fcnn.PReLU,
    "residual": lambda: fcnn.Residual([fcnn.Dense(9, activation="elu"), fcnn.BatchNorm(), fcnn.Dropout(0.3)]),
    "same": lambda: fcnn.Residual([fcnn.LayerNorm(), "tanh"]),
    "branches": lambda: fcnn.Branches(
        [[fcnn.Dense(4, activation="elu"), fcnn.Dropout(0.3)], ["tanh"], [fcnn.Dense(3)]]
    ),
    "scaled": Scaled,
}
OURS = tuple(name for name in MADE if name != "scaled")


def network(kinds: tuple[str, ...], backend: Ops, **options: Any) -> fcnn.Sequential:
    return fcnn.Sequential(
        [*(MADE[kind]() for kind in kinds), fcnn.Dense(3)], n_in=6, seed=1, backend=backend, **options
    )


def samples(n: int) -> tuple[HostArray, HostArray]:
    rng = np.random.default_rng(n)
    return rng.normal(size=(n, 6)), rng.integers(0, 3, n)


def assert_same_run(a: fcnn.Trainer, b: fcnn.Trainer) -> None:
    to_numpy = a.model.ops.to_numpy
    arrays = [{**t.model.named_arrays(), **t.optimizer.state, "step": t.model.random_step} for t in (a, b)]
    for name, array in arrays[0].items():
        np.testing.assert_array_equal(to_numpy(array), to_numpy(arrays[1][name]), err_msg=name)
    for column in a.history.columns:
        if column not in ("seconds", "samples_per_second"):
            assert a.history[column] == b.history[column]


@st.composite
def runs(draw: st.DrawFn, kinds: tuple[str, ...]) -> dict[str, Any]:
    chosen = tuple(draw(st.lists(st.sampled_from(kinds), max_size=9)))
    mixes = {"batch_norm", "residual"} & set(chosen)
    return {
        "kinds": chosen,
        "recompute": draw(st.just(True) | st.integers(1, 6)),
        "share": draw(st.booleans()),
        "micro": None if mixes else draw(st.none() | st.integers(1, 9)),
        "capture": draw(st.booleans()),
    }


def compare(backend: Ops, run: dict[str, Any]) -> None:
    X, y = samples(22)
    trainers = []
    for options in ({}, {"recompute": run["recompute"], "share_workspace": run["share"]}):
        model = network(run["kinds"], backend, dtype="float64", **options)
        trainer = fcnn.Trainer(model, "cross_entropy", fcnn.Adam(0.01), metrics=["accuracy"])
        fit = {"batch_size": 8, "micro_batch_size": run["micro"], "capture": run["capture"]}
        # 5 samples are the last batch's, and validation's are more than a batch: shared arrays have no room for them.
        trainer.fit(X[:21], y[:21], epochs=2, validation_data=(X, y), progress=False, **fit)
        trainers.append(trainer)
    whole, parts = (t.history["val_loss"] for t in trainers)
    np.testing.assert_allclose(whole, parts, rtol=1e-12)  # evaluated in smaller batches
    for trainer in trainers:
        for record in trainer.history.records:
            del record["val_loss"]
    assert_same_run(*trainers)


@settings(COMMON, max_examples=60)
@given(runs((*OURS, "scaled")))
def test_any_network_on_numpy(run: dict[str, Any]) -> None:
    compare(Ops(), run)


@needs_compiler
@settings(COMMON, max_examples=12)
@given(runs(OURS))
def test_any_network_on_the_emulated_device(run: dict[str, Any]) -> None:
    compare(emulated_ops(), run)


@pytest.mark.parametrize("recompute", [1, 2, 3, True])
@pytest.mark.parametrize("input_gradient", [False, True])
def test_the_explicit_loop(recompute: Any, input_gradient: bool) -> None:
    X, _ = samples(9)
    results = []
    for options in ({}, {"recompute": recompute}):
        model = network(("none", "wide", "dropout", "batch_norm", "residual", "dense"), Ops(), **options)
        for _ in range(2):
            out = model.forward(X, training=True)
            dX = model.backward(out.copy(), input_gradient)
        arrays = [
            model.flat.gradients,
            *model.named_arrays().values(),
            model.random_step,
            *([dX] if dX is not None else []),
        ]
        results.append([array.copy() for array in arrays])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_segments() -> None:
    assert segments_of([True] * 5, 2) == [Segment(0, 2, True), Segment(2, 4, True), Segment(4, 5, True)]
    assert segments_of([True, False, False, True, True], 3) == [
        Segment(0, 1, True),
        Segment(1, 3, False),
        Segment(3, 5, True),
    ]


def test_layers_of_users_are_run_once() -> None:
    class Counting(fcnn.Layer):
        n_passes = 0

        def forward(self, A0: Any, cache: Any, training: bool) -> Any:
            Counting.n_passes += training
            return A0

        def backward(self, dA: Any, cache: Any, needs_input_gradient: bool) -> Any:
            return dA

    layers = [fcnn.Dense(4), fcnn.Dense(4), Counting(), fcnn.Dense(4), Counting(), fcnn.Dense(4), fcnn.Dense(3)]
    model = fcnn.Sequential(layers, n_in=6, seed=0, backend="numpy", recompute=1)
    out = model.forward(samples(5)[0], training=True)
    model.backward(out)
    assert Counting.n_passes == 2


def test_deep_networks_take_far_less() -> None:
    """Of 64 layers that are alike, True keeps about eight outputs and the arrays of eight layers."""
    layers = lambda: [fcnn.Dense(64, activation="gelu") for _ in range(64)]  # noqa: E731
    model = fcnn.Sequential(layers(), n_in=64, seed=0, backend="numpy", recompute=True)
    whole, less = model.memory_report(256, recompute=False), model.memory_report(256)
    one = 64 * 256 * 4
    assert whole.activations >= 128 * one
    assert 18 * one <= less.activations <= 26 * one  # k outputs and 2·(64/k) matrices, at best 22.6, and scratch
    model.batch_arrays(256, training=True)
    assert abs(model._workspace.nbytes - less.activations) < 0.02 * less.activations
    for every in (1, 4, 6, 16, 64, 1000):
        assert model.memory_report(256, recompute=every).activations >= less.activations


def test_saved_and_copied_with_the_model(tmp_path: Any) -> None:
    model = network(("dense",), Ops(), recompute=3, share_workspace=True)
    path = tmp_path / "model.safetensors"
    model.save(path)
    for other in (copy.deepcopy(model), fcnn.load(path, backend="numpy")):
        assert (other.recompute, other.share_workspace) == (3, True)


@pytest.mark.parametrize("value", [0, -1, 1.5, "yes", None])
def test_what_is_no_number_of_layers(value: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=r"Sequential\(recompute\)"):
        fcnn.Sequential([fcnn.Dense(3)], n_in=2, backend="numpy", recompute=value)


# A workspace that training and evaluation share


@pytest.mark.parametrize("recompute", [False, True])
def test_evaluation_makes_no_memory_of_its_own(recompute: bool) -> None:
    X, y = samples(500)
    kinds = ("wide", "dropout", "layer_norm", "dense", "same", "wide")
    model = network(kinds, Ops(), recompute=recompute, share_workspace=True)
    model.predict(X)  # before there is anything to share
    trainer = fcnn.Trainer(model)
    trainer.fit(X, y, epochs=1, batch_size=64, validation_data=(X, y), progress=False)
    trained = sum(x.nbytes for x in model._workspace._held[True].arrays.buffers.values())
    model.predict(X)
    assert model._workspace.nbytes == trained
    assert model.memory_report(64, validation=500).activations == model.memory_report(64).activations
    assert model.inference_batch(1024) >= 64
    apart = network(kinds, Ops())
    apart.restore(model.snapshot())
    np.testing.assert_allclose(model.predict(X), _softmax(apart(X)), rtol=1e-5)


def _softmax(Z: HostArray) -> HostArray:
    e = np.exp(Z - Z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_inference_between_forward_and_backward_is_an_error() -> None:
    X, y = samples(8)
    model = network(("dense", "dropout"), Ops(), share_workspace=True)
    trainer = fcnn.Trainer(model)
    for infer in (lambda: model.predict(X), lambda: model(X), lambda: trainer.evaluate(X, y), lambda: model.forward(X)):
        out = model.forward(X, training=True)
        infer()
        with pytest.raises(RuntimeError, match=r"model\.backward needs model\.forward"):
            model.backward(np.ones((8, 3), np.float32))
        out = model.forward(X, training=True)
        model.backward(np.ones_like(out))


def test_other_threads_predict_in_memory_of_their_own() -> None:
    X, _ = samples(8)
    model = network(("dense", "wide"), Ops(), share_workspace=True)
    reference = network(("dense", "wide"), Ops())
    out = model.forward(X, training=True)
    with ThreadPoolExecutor(1) as pool:
        there = pool.submit(model._workspace.batch, 4, False).result()
    assert not there.is_shared
    model.backward(np.ones_like(out))
    reference.backward(np.ones_like(reference.forward(X, training=True)))
    np.testing.assert_array_equal(model.flat.gradients, reference.flat.gradients)


def test_a_thread_that_gets_the_number_of_the_one_that_trained_has_memory_of_its_own() -> None:
    model, shared, numbers = network(("dense", "wide"), Ops(), share_workspace=True), list[bool](), list[int]()

    def train() -> None:
        model.forward(samples(8)[0], training=True)
        shared.append(model._workspace.batch(4, False).is_shared)

    def predict() -> None:
        shared.append(model._workspace.batch(4, False).is_shared)

    def run_in_a_thread(work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work)
        thread.start()
        numbers.append(thread.ident or 0)
        thread.join()

    run_in_a_thread(train)
    while numbers.count(numbers[0]) == 1 and len(numbers) < 1000:  # mostly the next one has it
        run_in_a_thread(predict)
    assert numbers.count(numbers[0]) > 1
    assert shared == [True, *[False] * (len(numbers) - 1)]


def test_networks_that_do_not_recompute_are_not_asked_whether_they_could(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[fcnn.Layer] = []

    def may_repeat(layer: fcnn.Layer) -> bool:
        asked.append(layer)
        return True

    monkeypatch.setattr("fcnn_gpu.model._network.may_repeat", may_repeat)
    fcnn.Sequential([fcnn.Dense(4), fcnn.Dense(2)], 3, backend="numpy")
    assert not asked
    fcnn.Sequential([fcnn.Dense(4), fcnn.Dense(2)], 3, backend="numpy", recompute=True)
    assert len(asked) == 2
