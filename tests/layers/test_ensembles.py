"""Members of an ensemble side by side: the same numbers as networks one by one, and as TabM's reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._ops import Ops

from ..support.tolerances import assert_close

K, N_IN, BATCH = 3, 6, 11


def model_of(ops: Ops | str, layers: list[Any], **options: Any) -> fcnn.Sequential:
    return fcnn.Sequential(layers, n_in=N_IN, seed=1, backend=ops, **({"dtype": "float64"} | options))


def samples(n_outputs: int) -> tuple[HostArray, HostArray]:
    """X and the gradient of the outputs."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(BATCH, N_IN)), rng.normal(size=(BATCH, n_outputs))


def passes(model: fcnn.Sequential, X: HostArray, gradient: HostArray) -> tuple[HostArray, HostArray]:
    """Outputs and input gradient."""
    ops = model.ops
    outputs = np.array(ops.to_numpy(model.forward(X, training=True)))
    return outputs, np.array(ops.to_numpy(model.backward(ops.asarray(gradient), input_gradient=True)))


def assign(ops: Ops, out: Any, x: HostArray) -> None:
    ops.assign(out, np.asarray(x, np.float64).reshape(out.shape))


@pytest.mark.parametrize("parametrization", ["standard", "ntk"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_dense_ensemble_is_a_loop_over_networks(ops: Ops, activation: str, parametrization: str) -> None:
    more: dict[str, Any] = {"parametrization": parametrization, "bias_init": "fan_in_uniform"}
    first, last = fcnn.DenseEnsemble(7, K, activation, **more), fcnn.DenseEnsemble(2, K, **more)
    X, gradient = samples(2 * K)
    outputs, dX = passes(model_of(ops, [fcnn.Members(K), first, "tanh", last]), X, gradient)
    total = np.zeros_like(X)
    host = ops.to_numpy
    for g in range(K):
        alone = [fcnn.Dense(7, activation, **more), fcnn.Activation("tanh"), fcnn.Dense(2, **more)]
        single = model_of(ops, alone)
        for ours, theirs in ((first, alone[0]), (last, alone[2])):
            assert isinstance(theirs, fcnn.Dense)
            n_out, n_in = theirs.W.shape
            assign(ops, theirs.W, host(ours.W)[:, g * n_in : (g + 1) * n_in])
            assign(ops, theirs.b, host(ours.b)[g * n_out : (g + 1) * n_out])
        expected, d = passes(single, X, np.ascontiguousarray(gradient[:, 2 * g : 2 * g + 2]))
        assert_close(outputs[:, 2 * g : 2 * g + 2], expected, "sum")
        total += d
        for ours, theirs in ((first, alone[0]), (last, alone[2])):
            assert isinstance(theirs, fcnn.Dense)
            n_out, n_in = theirs.W.shape
            assert_close(host(ours.dW)[:, g * n_in : (g + 1) * n_in], host(theirs.dW), "sum")
            assert_close(host(ours.db)[g * n_out : (g + 1) * n_out], host(theirs.db), "sum")
    assert_close(dX, total, "sum")


def test_each_member_starts_as_a_dense_layer_of_its_seed() -> None:
    ensemble = fcnn.DenseEnsemble(4, K, "selu", bias_init="normal")
    ensemble.build(K * N_IN, np.random.SeedSequence(5), "0")
    for g, seed in enumerate(np.random.SeedSequence(5).spawn(K)):
        alone = fcnn.Dense(4, "selu", bias_init="normal")
        alone.build(N_IN, seed, "0")
        for ours, theirs in zip(ensemble.parameters(), alone.parameters(), strict=True):
            axis = 1 if ours.name == "W" else 0
            np.testing.assert_array_equal(np.split(ours.initial, K, axis)[g], theirs.initial)


def test_the_scales_of_members_differ_and_their_biases_do_not() -> None:
    layer = fcnn.BatchEnsemble(4, K, scale_in="random_signs", scale_out="he_normal", bias_init="normal")
    model_of("numpy", [fcnn.Members(K), layer])
    r, s, b = (np.split(x, K) for x in (layer.r, layer.s, layer.b))
    assert not np.array_equal(r[0], r[1])
    assert set(layer.r.ravel()) == {-1.0, 1.0}
    assert not np.array_equal(s[0], s[1])
    np.testing.assert_array_equal(b[0], b[1])


@pytest.mark.parametrize("bias", ["member", "shared"])
@pytest.mark.parametrize("scale", [None, 1.0])
def test_one_member_with_scales_of_one_is_a_dense_layer(ops: Ops, bias: str, scale: float | None) -> None:
    X, gradient = samples(5)
    given: dict[str, Any] = {"init": "he_normal", "bias_init": "fan_in_uniform"}
    ours = fcnn.BatchEnsemble(5, 1, "gelu", scale_in=scale, scale_out=scale, bias=bias, **given)
    theirs = fcnn.Dense(5, "gelu", **given)
    model, reference = model_of(ops, [ours]), model_of(ops, [theirs])
    assign(ops, theirs.W, ops.to_numpy(ours.W))
    assign(ops, theirs.b, ops.to_numpy(ours.b))
    for actual, expected in zip(passes(model, X, gradient), passes(reference, X, gradient), strict=True):
        assert_close(actual, expected, "sum")
    for name in ("dW", "db"):
        assert_close(ops.to_numpy(getattr(ours, name)), ops.to_numpy(getattr(theirs, name)), "sum")


def test_batch_ensemble_is_that_of_tabm(ops: Ops) -> None:
    tabm, torch = pytest.importorskip("tabm"), pytest.importorskip("torch")
    module = tabm.LinearBatchEnsemble(N_IN, 4, k=K, scaling_init=("random-signs", "normal"), dtype=torch.float64)
    with torch.no_grad():
        module.bias.normal_()
    ours = fcnn.BatchEnsemble(4, K)
    model = model_of(ops, [fcnn.Members(K), ours])
    for name, theirs in (("W", module.weight), ("r", module.r), ("s", module.s), ("b", module.bias)):
        assign(ops, getattr(ours, name), theirs.detach().numpy())
    X, gradient = samples(4 * K)
    x = torch.tensor(X, requires_grad=True)
    y = module(tabm.EnsembleView(k=K)(x))
    outputs, dX = passes(model, X, gradient)
    assert_close(outputs, y.detach().numpy().reshape(BATCH, -1), "sum")
    y.backward(torch.tensor(gradient).reshape(y.shape))
    assert_close(dX, x.grad.numpy(), "sum")
    gradients = {"dW": module.weight, "dr": module.r, "ds": module.s, "db": module.bias}
    for name, parameter in gradients.items():
        actual = ops.to_numpy(getattr(ours, name))
        assert_close(actual, parameter.grad.numpy().reshape(actual.shape), "sum", name)


def test_dense_ensemble_is_that_of_tabm(ops: Ops) -> None:
    tabm, torch = pytest.importorskip("tabm"), pytest.importorskip("torch")
    module = tabm.LinearEnsemble(N_IN, 4, k=K, dtype=torch.float64)
    ours = fcnn.DenseEnsemble(4, K)
    model = model_of(ops, [fcnn.Members(K), ours])
    assign(ops, ours.W, module.weight.detach().numpy().transpose(2, 0, 1))  # theirs are (k, n_in, n_out)
    assign(ops, ours.b, module.bias.detach().numpy())
    X, gradient = samples(4 * K)
    y = module(tabm.EnsembleView(k=K)(torch.tensor(X)))
    outputs, _ = passes(model, X, gradient)
    assert_close(outputs, y.detach().numpy().reshape(BATCH, -1), "sum")
    y.backward(torch.tensor(gradient).reshape(y.shape))
    assert_close(ops.to_numpy(ours.dW), module.weight.grad.numpy().transpose(2, 0, 1).reshape(4, -1), "sum")


def ensemble() -> list[Any]:
    return [
        fcnn.Dense(5, "tanh"),
        fcnn.Members(K),
        fcnn.BatchEnsemble(6, K, "gelu", scale_in="random_signs", l2=1e-3),
        fcnn.BatchEnsemble(5, K, "relu", scale_in=None, scale_out=None, bias="shared"),
        fcnn.Dropout(0.2),
        fcnn.DenseEnsemble(4, K, "silu", parametrization="ntk"),
        fcnn.ParametricActivation("tanh"),
        fcnn.DenseEnsemble(2, K),
    ]


def trained(ops: Ops, **options: Any) -> fcnn.Sequential:
    X, Y = np.random.default_rng(2).normal(size=(50, N_IN)), np.random.default_rng(3).normal(size=(50, 2 * K))
    model = model_of(ops, ensemble(), **{k: options.pop(k) for k in ("precision", "dtype") if k in options})
    fcnn.Trainer(model, "mse").fit(X, Y, epochs=2, batch_size=16, progress=False, **options)
    return model


def test_a_recorded_step_is_the_eager_one(ops: Ops) -> None:
    recorded, eager = (trained(ops, capture=capture) for capture in (True, False))
    np.testing.assert_array_equal(ops.to_numpy(recorded.flat.values), ops.to_numpy(eager.flat.values))


def test_batches_in_parts(ops: Ops) -> None:
    whole, parts = trained(ops), trained(ops, micro_batch_size=5)
    actual, expected = (ops.to_numpy(model.flat.values) for model in (parts, whole))
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-12)


def test_backends_agree(other_ops: Ops) -> None:
    actual, expected = trained(other_ops), trained(Ops())
    assert_close(other_ops.to_numpy(actual.flat.values), expected.flat.values, "training")


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_16_bits(device_ops: Ops, precision: str) -> None:
    X = np.random.default_rng(2).normal(size=(50, N_IN))
    low = model_of(device_ops, ensemble(), precision=precision, dtype="float32")
    reference = model_of(Ops(), ensemble(), dtype="float32")
    unit = 2.0 ** (-8 if precision == "bfloat16" else -11)
    expected = reference(X)
    np.testing.assert_allclose(low(X), expected, rtol=0, atol=16 * unit * np.abs(expected).max())
    outputs = low.forward(X, training=True)
    low.backward(device_ops.asarray(np.ones(outputs.shape, outputs.dtype)))
    assert np.isfinite(device_ops.to_numpy(low.flat.gradients)).all()


LAYER: Any = fcnn.layers


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: LAYER.Members(0), ValueError, r"Members\(members\) expects an integer of at least 1"),
        (lambda: LAYER.DenseEnsemble(2, 2.0), TypeError, r"DenseEnsemble\(members\) expects an integer"),
        (lambda: LAYER.DenseEnsemble(2, 2, "softmax"), ValueError, "expects an elementwise activation, got Softmax"),
        (lambda: LAYER.DenseEnsemble(2, 2, bias=False, bias_init="normal"), ValueError, "has no biases"),
        (lambda: LAYER.BatchEnsemble(2, 2, scale_in="sings"), ValueError, "Unknown initializer 'sings'"),
        (lambda: LAYER.BatchEnsemble(2, 2, bias="memeber"), ValueError, "Did you mean 'member'"),
        (lambda: LAYER.BatchEnsemble(2, 2, bias="none", bias_init="normal"), ValueError, "has no biases"),
        (lambda: LAYER.BatchEnsemble(2, 2, bias_init="orthogonal"), ValueError, "makes whole weight matrices"),
    ],
)
def test_arguments_that_are_refused(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("layer", [fcnn.DenseEnsemble(2, 4), fcnn.BatchEnsemble(2, 4)], ids=["dense", "batch"])
def test_a_width_that_is_not_that_of_all_members(layer: fcnn.Layer) -> None:
    with pytest.raises(ValueError, match=r"outputs of 4 members.*Put Members\(4\) in front"):
        model_of("numpy", [layer])


def test_what_a_layer_does_not_have() -> None:
    layer = fcnn.BatchEnsemble(2, K, scale_in=None, scale_out=None, bias="none")
    model_of("numpy", [layer])
    for name, without in (("r", "scale_in=None"), ("ds", "scale_out=None"), ("b", "bias='none'")):
        with pytest.raises(AttributeError, match=without):
            getattr(layer, name)
