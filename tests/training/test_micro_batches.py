"""Batches in parts: gradients, losses, masks and weights are those of whole batches, up to rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.optimizers import OPTIMIZERS
from tests.conftest import emulated_ops
from tests.support.registry_cases import LOSS_CASES

from ..cuda_on_cpu import missing_compiler

TIGHT = {"rtol": 1e-9, "atol": 1e-12}
"""In float64, with a few steps of a smooth optimizer in between."""

needs_compiler = pytest.mark.skipif(missing_compiler() is not None, reason=str(missing_compiler()))


class Scaled(fcnn.Layer):
    """A = s·A₀ with a learned number per unit: a layer of a user's, which knows nothing of parts."""

    def _build(self, n_in: int, seed: np.random.SeedSequence) -> None:
        self.n_out = n_in
        self._s = fcnn.layers.Parameter("s", np.full((n_in, 1), 1.25), is_weight=True)

    def parameters(self) -> list[Any]:
        return [self._s]

    def forward(self, A0: Any, cache: Any, training: bool) -> Any:
        cache.A0 = A0
        return np.ascontiguousarray((self._s.value * A0).T).T

    def backward(self, dA: Any, cache: Any, needs_input_gradient: bool) -> Any:
        self._s.gradient[...] = (dA * cache.A0).sum(axis=1, keepdims=True)
        dA *= self._s.value
        return dA


class Halved(fcnn.Dense):
    """A layer of ours whose gradient a user changes after the fact."""

    def backward(self, dA: Any, cache: Any, needs_input_gradient: bool) -> Any:
        dA0 = super().backward(dA, cache, needs_input_gradient)
        self.dW[...] *= 0.5
        return dA0


def data_for(n: int, n_in: int = 7, n_out: int = 3, seed: int = 0) -> tuple[HostArray, HostArray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, n_in)), rng.integers(0, n_out, n)


def layers_of(kinds: tuple[str, ...]) -> list[Any]:
    made = {
        "dense": lambda: fcnn.Dense(5, activation="tanh", l2=1e-3),
        "wide": lambda: fcnn.Dense(33, activation="gelu", l1=1e-4),
        "plain": lambda: fcnn.Dense(6, bias=False),
        "ntk": lambda: fcnn.Dense(6, activation="elu", parametrization="ntk"),
        "parametric": lambda: fcnn.ParametricActivation("selu", alpha=0.5),
        "scale": lambda: fcnn.Scale("he_normal"),
        "dropout": lambda: fcnn.Dropout(0.4),
        "layer_norm": lambda: fcnn.LayerNorm(),
        "activation": lambda: fcnn.Activation("silu"),
        "softmax": lambda: fcnn.Dense(4, activation="softmax"),
        "residual": lambda: fcnn.Residual([fcnn.Dense(9, activation="sigmoid"), fcnn.Dropout(0.3), fcnn.Dense(5)]),
        "branches": lambda: fcnn.Branches([[fcnn.Dense(9, activation="tanh"), fcnn.Dropout(0.3)], [fcnn.Dense(2)]]),
        "scaled": Scaled,
        "halved": lambda: Halved(6, activation="tanh"),
    }
    return [*(made[kind]() for kind in kinds), fcnn.Dense(3)]


OURS = (
    "dense",
    "wide",
    "plain",
    "ntk",
    "dropout",
    "layer_norm",
    "activation",
    "parametric",
    "scale",
    "softmax",
    "residual",
    "branches",
)


def trained(
    ops: Ops, kinds: tuple[str, ...], X: HostArray, y: HostArray, micro: int | None, **options: Any
) -> tuple[fcnn.Trainer, fcnn.History]:
    fit = {"epochs": 2, "progress": False, **options}
    optimizer = fit.pop("optimizer", None) or fcnn.SGD(0.05, momentum=0.9, clip_norm=0.5)
    dtype = fit.pop("dtype", "float64")
    model = fcnn.Sequential(layers_of(kinds), n_in=X.shape[1], seed=1, backend=ops, dtype=dtype)
    trainer = fcnn.Trainer(model, fit.pop("loss", "cross_entropy"), optimizer, metrics=["accuracy"])
    return trainer, trainer.fit(X, y, micro_batch_size=micro, **fit)


def assert_alike(a: tuple[fcnn.Trainer, fcnn.History], b: tuple[fcnn.Trainer, fcnn.History], **tolerance: Any) -> None:
    tolerance = tolerance or TIGHT
    to_numpy = a[0].model.ops.to_numpy
    for (name, x), y in zip(a[0].model.named_arrays().items(), b[0].model.named_arrays().values(), strict=True):
        np.testing.assert_allclose(to_numpy(x), to_numpy(y), **tolerance, err_msg=name)
    np.testing.assert_allclose(to_numpy(a[0].model.flat.gradients), to_numpy(b[0].model.flat.gradients), **tolerance)
    for counter in ("step",):
        assert to_numpy(getattr(a[0].optimizer.control, counter)) == to_numpy(getattr(b[0].optimizer.control, counter))
    assert to_numpy(a[0].model.random_step) == to_numpy(b[0].model.random_step)
    for column in a[1].columns:
        if column not in ("seconds", "samples_per_second"):
            np.testing.assert_allclose(a[1][column], b[1][column], **tolerance, err_msg=column)


@st.composite
def runs(draw: st.DrawFn, kinds: tuple[str, ...]) -> dict[str, Any]:
    n = draw(st.integers(2, 40))
    batch_size = draw(st.integers(1, 24))
    return {
        "kinds": tuple(draw(st.lists(st.sampled_from(kinds), max_size=4))),
        "n": n,
        "micro": draw(st.integers(1, batch_size + 2)),
        "options": {
            "batch_size": batch_size,
            "drop_last": draw(st.booleans()),
            "shuffle": draw(st.booleans()),
            "capture": draw(st.booleans()),
            "sample_weight": np.random.default_rng(3).uniform(0.1, 2.0, n) if draw(st.booleans()) else None,
            "class_weight": draw(st.sampled_from([None, {0: 0.5, 1: 2.0}])),
        },
    }


def compare(ops: Ops, run: dict[str, Any], **tolerance: Any) -> None:
    X, y = data_for(run["n"])
    options = run["options"]

    def train(micro: int | None) -> tuple[fcnn.Trainer, fcnn.History]:
        rate = fcnn.schedules.Cosine(0.05)
        return trained(ops, run["kinds"], X, y, micro, optimizer=fcnn.SGD(rate, momentum=0.9, clip_norm=0.5), **options)

    assert_alike(train(None), train(run["micro"]), **tolerance)


COMMON = settings(deadline=None, suppress_health_check=list(HealthCheck))


@settings(COMMON, max_examples=60)
@given(runs((*OURS, "scaled", "halved")))
def test_any_network_on_numpy(run: dict[str, Any]) -> None:
    compare(Ops(), run)


@needs_compiler
@settings(COMMON, max_examples=15)
@given(runs(OURS))
def test_any_network_on_the_emulated_device(run: dict[str, Any]) -> None:
    compare(emulated_ops(), run)


@pytest.mark.parametrize("case", [pytest.param(c, id=f"{k}-{c.label}") for k, v in LOSS_CASES.items() for c in v])
def test_every_loss(case: Any) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(22, 4)), case.targets(rng, 22)

    def run(micro: int | None) -> tuple[fcnn.Trainer, fcnn.History]:
        layers = [fcnn.Dense(6, activation="tanh"), fcnn.Dense(case.n_outputs)]
        model = fcnn.Sequential(layers, n_in=4, seed=0, backend="numpy", dtype="float64")
        trainer = fcnn.Trainer(model, case.loss, fcnn.SGD(0.1))
        return trainer, trainer.fit(X, y, epochs=2, batch_size=8, micro_batch_size=micro, progress=False)

    assert_alike(run(None), run(3))


class Squares(fcnn.Loss):
    """A user's loss, whose gradient nobody can scale but from outside."""

    name = "squares"
    link = "identity"

    def prepare_targets(self, y: Any, n_outputs: int, dtype: Any) -> HostArray:
        return np.asarray(y, dtype).reshape(-1, n_outputs)

    def compute(  # type: ignore[override]  # as losses were before there was a loss_scale
        self, ops: Any, Z: Any, targets: Any, sample_weight: Any, losses: Any, dZ: Any
    ) -> None:
        dZ[...] = 2 * (Z - targets.T) / Z.shape[1]
        losses[...] = ((Z - targets.T) ** 2).sum(axis=0)


def test_a_loss_of_a_users() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(22, 4)), rng.normal(size=(22, 2))

    def run(micro: int | None) -> tuple[fcnn.Trainer, fcnn.History]:
        model = fcnn.Sequential([fcnn.Dense(2)], n_in=4, seed=0, backend="numpy", dtype="float64")
        trainer = fcnn.Trainer(model, Squares(), fcnn.SGD(0.01))
        return trainer, trainer.fit(X, y, epochs=2, batch_size=8, micro_batch_size=micro, progress=False)

    assert_alike(run(None), run(5))


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_every_optimizer(ops: Ops, name: str) -> None:
    X, y = data_for(30)
    runs = [
        trained(ops, ("dense", "dropout"), X, y, micro, batch_size=12, optimizer=OPTIMIZERS.resolve(name))
        for micro in (None, 5)
    ]
    assert_alike(*runs, rtol=1e-6, atol=1e-8)  # Adam's first steps divide numbers of the size of ε by each other


def test_batch_norm_is_refused_before_anything_changes() -> None:
    layers = [fcnn.Dense(4), fcnn.Residual([fcnn.BatchNorm()]), fcnn.Dense(3)]
    model = fcnn.Sequential(layers, n_in=7, seed=0, backend="numpy")
    trainer = fcnn.Trainer(model)
    before = model.snapshot()
    X, y = data_for(20)
    with pytest.raises(ValueError, match=r"micro_batch_size=4.*layer 1\.block\.0, BatchNorm\(\), takes its statistics"):
        trainer.fit(X, y, batch_size=8, micro_batch_size=4, progress=False)
    assert all(np.array_equal(x, before[name]) for name, x in model.named_arrays().items())
    assert int(model.random_step[0]) == 0
    trainer.fit(X, y, epochs=1, batch_size=8, micro_batch_size=8, progress=False)  # a whole batch is none of two parts


@pytest.mark.parametrize("size", [0, -1, 2.5, "8", True])
def test_sizes_that_are_none(size: Any) -> None:
    trainer = fcnn.Trainer(fcnn.Sequential([fcnn.Dense(3)], n_in=7, seed=0, backend="numpy"))
    X, y = data_for(8)
    with pytest.raises((ValueError, TypeError), match=r"fit\(micro_batch_size\)"):
        trainer.fit(X, y, micro_batch_size=size, progress=False)


@pytest.mark.parametrize("recompute", [False, 1])
def test_the_step_that_diverged_is_named(recompute: bool | int) -> None:
    X, y = data_for(24)
    layers = [fcnn.Dense(4, activation="relu"), fcnn.Dense(3)]
    model = fcnn.Sequential(layers, n_in=7, seed=0, backend="numpy", recompute=recompute)
    trainer = fcnn.Trainer(model, optimizer=fcnn.SGD(0.01))
    X = X.astype(np.float32)
    X[13] = 3e38  # in the second batch of ten, the second part of four
    with pytest.raises(fcnn.DivergenceError, match=r"epoch 1, step 2: the output of layer 0"):
        trainer.fit(X, y, batch_size=10, micro_batch_size=4, shuffle=False, progress=False)
    once = fcnn.Sequential([fcnn.Dense(4, activation="relu"), fcnn.Dense(3)], n_in=7, seed=0, backend="numpy")
    fcnn.Trainer(once, optimizer=fcnn.SGD(0.01)).fit(
        X[:10], y[:10], epochs=1, batch_size=10, micro_batch_size=4, shuffle=False, progress=False
    )
    for name, x in model.named_arrays().items():
        np.testing.assert_array_equal(x, once.named_arrays()[name])  # the weights from before that step
    assert int(model.random_step[0]) == 1
    assert trainer.history.micro_batch_size == 4


def test_a_network_can_be_used_as_ever_afterwards() -> None:
    """The explicit loop after a run in parts overwrites gradients, and draws the masks of a whole batch."""
    X, y = data_for(24)
    model, fresh = (
        fcnn.Sequential([fcnn.Dropout(0.5), fcnn.Dense(3)], n_in=7, seed=0, backend="numpy") for _ in range(2)
    )
    snapshot = model.snapshot()
    fcnn.Trainer(model).fit(X, y, epochs=1, batch_size=12, micro_batch_size=5, progress=False)
    model.restore(snapshot)
    model.random_step[0] = 0
    for network in (model, fresh):
        out = network.forward(X[:5], training=True)
        network.backward(np.ones_like(out))
    np.testing.assert_array_equal(model.flat.gradients, fresh.flat.gradients)


@needs_compiler
def test_float16_scales_the_loss_alike() -> None:
    X, y = data_for(40)
    runs = []
    for micro in (None, 6):
        layers = [fcnn.Dense(16, activation="relu"), fcnn.Dropout(0.2), fcnn.Dense(3)]
        model = fcnn.Sequential(layers, n_in=7, seed=1, backend=emulated_ops(), precision="float16")
        trainer = fcnn.Trainer(model, "cross_entropy", fcnn.SGD(0.05))
        runs.append((trainer, trainer.fit(X, y, epochs=3, batch_size=16, micro_batch_size=micro, progress=False)))
    assert_alike(*runs, rtol=2e-2, atol=1e-2)
    assert runs[0][1]["loss_scale"] == runs[1][1]["loss_scale"]
    assert runs[0][1]["skipped_steps"] == runs[1][1]["skipped_steps"]


@pytest.mark.parametrize("backend", ["numpy", pytest.param("emulated", marks=needs_compiler)])
def test_weights_have_no_second_gradient(backend: str) -> None:
    layers = [fcnn.Dense(2048), fcnn.Dropout(0.1), fcnn.LayerNorm(), fcnn.Residual([fcnn.Dense(1024)]), fcnn.Dense(10)]
    ops = Ops() if backend == "numpy" else emulated_ops()
    model = fcnn.Sequential(layers, n_in=2048, seed=0, backend=ops)
    whole, parts = model.memory_report(64), model.memory_report(64, micro_batch_size=8)
    assert parts.micro_batch_size == 8
    assert "64, 8 samples at a time, on" in str(parts)
    assert parts.activations < whole.activations / 7.5
    assert parts.gradients == whole.gradients
    assert parts.scratch - whole.scratch < 4 * 2**19 + 4 * 30_000  # a block of a product, and small gradients
    assert parts.gradients > 4 * 2**20 * 4
    with pytest.raises(ValueError, match=r"memory_report\(micro_batch_size=8\) would change"):
        fcnn.Sequential([fcnn.BatchNorm()], n_in=3, backend="numpy").memory_report(64, micro_batch_size=8)
