"""The same training in PyTorch, in float64: every layer, activation, loss, optimizer and schedule, over 50 steps.

Both start from the same weights and see the same batches; after every step all weights and running statistics agree to
TRAJECTORY (1e-9), relative to the largest value of each array. tests/support/torch_equivalents.py says what is compared
with what.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.activations import ACTIVATIONS, Activation
from fcnn_gpu.data._class_weights import class_weights_to_sample_weights
from fcnn_gpu.data._device_data import epoch_order
from fcnn_gpu.layers import LAYERS
from fcnn_gpu.losses import LOSSES
from fcnn_gpu.model._save_and_load import torch_state
from fcnn_gpu.optimizers import OPTIMIZERS
from fcnn_gpu.schedules import SCHEDULES, Schedule
from tests.support.registry_cases import FAMILIES, LayerCase, LossCase, labelled
from tests.support.tolerances import TRAJECTORY
from tests.test_gradient_check import build, random_layer

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from tests.support import torch_equivalents as equivalents  # noqa: E402 (needs torch)

pytestmark = pytest.mark.torch

STEPS = 50


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """These networks are too small for more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def assert_same_network(model: fcnn.Sequential, module: Any, context: str) -> None:
    theirs = {name: value.numpy() for name, value in module.state_dict().items() if "num_batches" not in name}
    ours = torch_state(model)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        # 1e-3: a bias whose gradient is zero up to rounding (in front of batch norm) stays near 0, as noise
        scale = max(float(np.abs(theirs[name]).max()), 1e-3)
        difference = float(np.abs(value - theirs[name]).max()) / scale
        assert difference <= TRAJECTORY[model.dtype.name], f"{context}: {name} differs by {difference:.1e}"


def compare_trajectories(
    model: fcnn.Sequential,
    loss: fcnn.Loss,
    optimizer: fcnn.optimizers.Optimizer,
    targets: Callable[[np.random.Generator, int], Any],
    batch: int = 8,
    weighted: bool = False,
    steps: int = STEPS,
    case: LayerCase | None = None,
) -> HostArray:
    """Train in both libraries, through the explicit loop here; returns the clip scale of each step.

    On what `case` has for inputs, if it is given.
    """

    def inputs(rng: np.random.Generator, n: int) -> HostArray:
        X = rng.standard_normal((n, model.n_in)) if case is None else case.inputs(rng, n, model.n_in)
        return X.astype(model.dtype)

    module = equivalents.to_torch(model)
    torch_optimizer = equivalents.to_torch_optimizer(optimizer, module)
    optimizer.bind(model)
    rng = np.random.default_rng(0)
    start = {name: value.copy() for name, value in torch_state(model).items()}
    scales = []
    for step in range(steps):
        X, y = inputs(rng, batch), targets(rng, batch)
        weight = rng.uniform(0.2, 2.0, batch) if weighted else None
        value = float(loss.forward(model.forward(X, training=True), y, weight))
        model.backward(loss.backward())
        optimizer.step()
        scales.append(float(optimizer.control.clip_scale[0]))
        reference = equivalents.torch_step(model, module, loss, optimizer, torch_optimizer, X, y, weight)
        tolerance = TRAJECTORY[model.dtype.name]
        assert value == pytest.approx(reference, rel=tolerance, abs=tolerance), f"loss of step {step}"
        assert_same_network(model, module, f"after step {step}")
    for parameter in model.parameters:
        assert np.isfinite(parameter.value).all()
    if model.parameters:
        moved = [np.abs(value - start[name]).max() for name, value in torch_state(model).items()]
        assert max(moved) > 1e-3, "the training moved nothing: the comparison would be empty"
    X = inputs(rng, 11)
    with torch.no_grad():
        outputs = module.eval()(torch.tensor(X)).numpy()
    np.testing.assert_allclose(
        model(X), outputs, rtol=10 * TRAJECTORY[model.dtype.name], atol=10 * TRAJECTORY[model.dtype.name]
    )
    return np.array(scales)


def test_every_member_is_mapped() -> None:
    for registry, mapping in (
        (LAYERS, equivalents.LAYER_MODULES),
        (ACTIVATIONS, equivalents.ACTIVATION_MODULES),
        (LOSSES, equivalents.LOSS_FUNCTIONS),
    ):
        missing = [name for name in registry if name not in mapping]
        assert not missing, f"no PyTorch equivalent of {', '.join(missing)} in tests/support/torch_equivalents.py"
    known = set(SCHEDULE_REFERENCES) | COMPARED_IN_TEST_SCHEDULES
    assert not set(SCHEDULES) - known, "no PyTorch equivalent of a schedule in this file"
    for family in FAMILIES.values():
        assert all(family.cases.get(name) for name in family.registry)


# Optimizers


def penalized_network() -> fcnn.Sequential:
    layers = [
        fcnn.Dense(16, activation="tanh", l1=1e-3, l2=2e-3),
        fcnn.Dense(12, activation="relu", l2=1e-2, bias=False),
        fcnn.LayerNorm(),
        fcnn.Dense(3, l1=2e-3),
    ]
    return build(layers, n_in=6)


def labels(rng: np.random.Generator, batch: int) -> HostArray:
    return rng.integers(0, 3, batch)


@pytest.mark.parametrize("clip", [{}, {"clip_norm": 0.2}, {"clip_value": 0.02}], ids=["", "clip_norm", "clip_value"])
@pytest.mark.parametrize(("name", "make"), labelled("optimizer"))
def test_optimizer(name: str, make: Callable[..., fcnn.optimizers.Optimizer], clip: dict[str, float]) -> None:
    """With L1 and L2 as terms of PyTorch's loss; the gradient that is clipped includes theirs."""
    optimizer = make(**clip)
    assert optimizer.name == name
    scales = compare_trajectories(penalized_network(), fcnn.CrossEntropy(), optimizer, labels)
    assert (scales < 0.9).any() == ("clip_norm" in clip), "clipping was not exercised"


@pytest.mark.parametrize("clip", [{"clip_norm": 0.2}, {"clip_value": 0.02}], ids=["clip_norm", "clip_value"])
@pytest.mark.parametrize(("name", "make"), labelled("optimizer"))
def test_optimizer_over_several_blocks(
    name: str, make: Callable[..., fcnn.optimizers.Optimizer], clip: dict[str, float]
) -> None:
    """The flat buffer is walked in blocks of BLOCK elements and segments of equal penalties: here three of each."""
    layers = [fcnn.Dense(200, activation="tanh", l1=1e-4), fcnn.Dense(200, activation="silu", l2=1e-3), fcnn.Dense(3)]
    model = build(layers, n_in=6)
    assert len(list(model.flat.blocks(decay_matters=True))) > len(model.flat.segments) >= 3
    compare_trajectories(model, fcnn.CrossEntropy(), make(**clip), labels, steps=5)


_THEIR_OPTIONS = [
    *("momentum", "nesterov", "eps", "alpha", "lr_decay", "rho", "momentum_decay", "amsgrad", "centered"),
    *("ns_steps", "ns_coefficients"),
]


@pytest.mark.parametrize("optimizer", [name for name in OPTIMIZERS if name != "lion"])
def test_default_options_are_torch_s(optimizer: str) -> None:
    """All but SGD's learning rate and what Muon's is adjusted by, which their docstrings name."""
    weight = torch.nn.Linear(2, 2).weight
    ours: Any = OPTIMIZERS.resolve(optimizer)
    theirs = getattr(torch.optim, type(ours).__name__)([weight]).defaults
    mapped = {} if optimizer == "sgd" else {"learning_rate": theirs["lr"]}
    mapped |= {key: theirs[key] for key in _THEIR_OPTIONS if key in theirs}
    mapped |= {"beta1": theirs["betas"][0], "beta2": theirs["betas"][1]} if "betas" in theirs else {}
    mapped |= {"weight_decay": theirs["weight_decay"]}
    assert {key: getattr(ours, key) for key in mapped} == mapped


def test_adamw_that_decays_all_is_torch_s_of_all_parameters() -> None:
    """`torch.optim.AdamW(module.parameters())`, biases and normalization parameters included."""
    layers = [fcnn.Dense(5, activation="tanh"), fcnn.BatchNorm(), fcnn.LayerNorm(), fcnn.Dense(3)]
    model = build(layers, n_in=4)
    module = equivalents.to_torch(model)
    reference = torch.optim.AdamW(module.parameters(), lr=0.05, weight_decay=0.5)
    optimizer, loss = fcnn.AdamW(0.05, weight_decay=0.5, decay_all=True).bind(model), fcnn.MSE()
    rng = np.random.default_rng(1)
    for step in range(STEPS):
        X, y = rng.standard_normal((8, 4)), rng.standard_normal((8, 3))
        equivalents.torch_step(model, module, loss, optimizer, reference, X, y)
        loss.forward(model.forward(X, training=True), y)
        model.backward(loss.backward())
        optimizer.step()
        assert_same_network(model, module, f"after step {step}")


@pytest.mark.parametrize(("name", "make"), labelled("optimizer"))
def test_factors_are_torch_s_parameter_groups(name: str, make: Callable[..., fcnn.optimizers.Optimizer]) -> None:
    rates, decays = {"*.b": 0.25, "0.*": 3.0, "2.b": 0.0}, {"2.W": 0.5, "*.b": 2.0}
    expected = {"0.W": (3.0, 1.0), "0.b": (3.0, 2.0), "2.W": (1.0, 0.5), "2.b": (0.0, 2.0)}
    optimizer = make(rate_factors=rates, decay_factors=decays)
    model, loss = build([fcnn.Dense(5, activation="tanh"), "silu", fcnn.Dense(3)], n_in=4), fcnn.MSE()
    module = equivalents.to_torch(model)
    reference = equivalents.to_torch_optimizer(optimizer, module)
    group = dict(reference.param_groups[0])
    first, last = equivalents.linear_modules(module)
    parameters = {"0.W": first.weight, "0.b": first.bias, "2.W": last.weight, "2.b": last.bias}
    reference.param_groups.clear()
    for parameter, (rate, decay) in expected.items():
        settings = group | {"params": [parameters[parameter]], "lr": group["lr"] * rate}
        key = "weight_decay" if name == "adamw" else "decay"
        reference.add_param_group(settings | {key: group[key] * decay})
    optimizer.bind(model)
    start = {key: value.copy() for key, value in torch_state(model).items()}
    rng = np.random.default_rng(1)
    for step in range(STEPS):
        X, y = rng.standard_normal((8, 4)), rng.standard_normal((8, 3))
        loss.forward(model.forward(X, training=True), y)
        model.backward(loss.backward())
        optimizer.step()
        reference.zero_grad()
        torch.nn.MSELoss()(module(torch.tensor(X)), torch.tensor(y)).backward()
        reference.step()
        assert_same_network(model, module, f"after step {step}")
    moved = [not np.array_equal(value, start[key]) for key, value in torch_state(model).items()]
    assert moved == [True, True, True, False], "a factor of 0 freezes, and no other does"


def test_l2_is_torch_s_weight_decay_over_two() -> None:
    """The regularizers' docstring: PyTorch's weight_decay is 2λ₂ (in SGD, on the weights alone)."""
    model = build([fcnn.Dense(5, activation="tanh", l2=0.03), fcnn.Dense(3, l2=0.03)], n_in=4)
    module = equivalents.to_torch(model)
    parts = equivalents.linear_modules(module)
    reference = torch.optim.SGD(
        [
            {"params": [part.weight for part in parts], "weight_decay": 0.06},
            {"params": [part.bias for part in parts]},
        ],
        lr=0.1,
        momentum=0.9,
    )
    optimizer, loss = fcnn.SGD(0.1, momentum=0.9).bind(model), fcnn.MSE()
    rng = np.random.default_rng(1)
    for step in range(STEPS):
        X, y = rng.standard_normal((8, 4)), rng.standard_normal((8, 3))
        loss.forward(model.forward(X, training=True), y)
        model.backward(loss.backward())
        optimizer.step()
        reference.zero_grad()
        torch.nn.MSELoss()(module(torch.tensor(X)), torch.tensor(y)).backward()
        reference.step()
        assert_same_network(model, module, f"after step {step}")


def test_gradient_accumulation() -> None:
    """`fit(micro_batch_size=5)` against PyTorch's loop: losses of parts as shares of the batch's, one step for all."""
    model = penalized_network()
    module = equivalents.to_torch(model)
    optimizer = fcnn.AdamW(0.01, weight_decay=0.1, clip_norm=0.5)
    reference = equivalents.to_torch_optimizer(optimizer, module)
    rng = np.random.default_rng(2)
    X, y, w = rng.standard_normal((40, 6)), labels(rng, 40), rng.uniform(0.2, 2.0, 40)
    fit: dict[str, Any] = {"epochs": 1, "batch_size": 12, "shuffle": False, "progress": False, "sample_weight": w}
    fcnn.Trainer(model, "cross_entropy", optimizer).fit(X, y, micro_batch_size=5, **fit)
    for start in range(0, 40, 12):
        batch = np.arange(start, min(start + 12, 40))
        reference.zero_grad()
        for part in np.split(batch, range(5, len(batch), 5)):
            each = torch.nn.functional.cross_entropy(
                module(torch.tensor(X[part])), torch.tensor(y[part]), reduction="none"
            )
            ((each * torch.tensor(w[part])).sum() / len(batch)).backward()
        equivalents.penalty(model, module).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 0.5)
        reference.step()
    assert_same_network(model, module, "after an epoch")


# Losses, activations, layers


@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize(("name", "case"), labelled("loss"))
def test_loss(name: str, case: LossCase, weighted: bool) -> None:
    model = build([fcnn.Dense(10, activation="silu"), fcnn.Dense(case.n_outputs)], n_in=5)
    compare_trajectories(model, case.loss, fcnn.Adam(0.01), case.targets, weighted=weighted)


@pytest.mark.parametrize(
    ("loss", "reference"),
    [
        (fcnn.CrossEntropy(), "CrossEntropyLoss"),
        (fcnn.MSE(), "MSELoss"),
        (fcnn.MAE(), "L1Loss"),
        (fcnn.Huber(), "HuberLoss"),
        (fcnn.BinaryCrossEntropy(), "BCEWithLogitsLoss"),
        (fcnn.Poisson(), "PoissonNLLLoss"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_loss_is_torch_s_module_with_its_defaults(loss: fcnn.Loss, reference: str) -> None:
    rng = np.random.default_rng(2)
    outputs = rng.standard_normal((7, 3))
    y: Any = rng.integers(0, 3, 7) if reference == "CrossEntropyLoss" else rng.uniform(0, 1, (7, 3))
    z = torch.tensor(outputs, requires_grad=True)
    value = getattr(torch.nn, reference)()(z, torch.tensor(y))
    value.backward()
    assert float(loss.forward(outputs, y)) == pytest.approx(value.item(), rel=1e-14)
    np.testing.assert_allclose(loss.backward(), z.grad.numpy(), rtol=1e-13, atol=1e-16)


def test_kl_divergence_is_torch_s_mean_over_the_batch() -> None:
    rng = np.random.default_rng(2)
    outputs, y, loss = rng.standard_normal((7, 3)), rng.dirichlet(np.ones(3), 7), fcnn.KLDivergence()
    z = torch.tensor(outputs, requires_grad=True)
    value = torch.nn.KLDivLoss(reduction="batchmean")(torch.log_softmax(z, dim=1), torch.tensor(y))
    value.backward()
    assert float(loss.forward(outputs, y)) == pytest.approx(value.item(), rel=1e-13)
    np.testing.assert_allclose(loss.backward(), z.grad.numpy(), rtol=1e-13, atol=1e-16)


def test_class_weights_divide_by_the_batch_not_by_the_weights() -> None:
    """The docstring's difference: batch·L is PyTorch's reduction="sum"; its "mean" divides by Σ_j v_{y_j}."""
    rng = np.random.default_rng(3)
    outputs, y, v = rng.standard_normal((9, 3)), rng.integers(0, 3, 9), [0.5, 2.0, 1.25]
    ours = float(fcnn.CrossEntropy(class_weight=v).forward(outputs, y))
    z, t, w = torch.tensor(outputs), torch.tensor(y), torch.tensor(v, dtype=torch.float64)
    total = torch.nn.CrossEntropyLoss(weight=w, reduction="sum")(z, t).item()
    mean = torch.nn.CrossEntropyLoss(weight=w)(z, t).item()
    assert 9 * ours == pytest.approx(total, rel=1e-14)
    assert ours * 9 / w[t].sum().item() == pytest.approx(mean, rel=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "case"), labelled("loss"))
def test_loss_is_stable_at_large_outputs(name: str, case: LossCase, dtype: str) -> None:
    """Raw outputs of ±10⁴, ±100, ±20: values and gradients finite, and PyTorch's."""
    rng = np.random.default_rng(10)
    outputs = rng.choice([-1e4, -100.0, -20.0, 0.0, 20.0, 100.0, 1e4], (40, case.n_outputs)).astype(dtype)
    if name == "poisson":  # which predicts e^z
        outputs = np.minimum(outputs, 20)
    y = case.targets(rng, 40)
    z = torch.tensor(outputs, requires_grad=True)
    reference = equivalents.data_loss(case.loss, z, equivalents.targets_to_torch(y, z.dtype), None)
    reference.backward()
    value = float(case.loss.forward(outputs, y))
    gradient: Any = case.loss.backward()
    units = 16 * float(np.finfo(dtype).eps)
    assert np.isfinite(gradient).all()
    assert value == pytest.approx(reference.item(), rel=units)
    scale = float(z.grad.abs().max())
    np.testing.assert_allclose(gradient, z.grad.numpy(), rtol=units, atol=units * scale)


@pytest.mark.parametrize(("name", "activation"), labelled("activation"))
def test_activation(name: str, activation: Activation) -> None:
    init = "normal" if name == "exp" else None  # e^(e^z) grows fast
    layers = [
        fcnn.Dense(10, activation=activation, init=init),
        fcnn.Dense(7, init=init),
        fcnn.Activation(activation),
        fcnn.Dense(2),
    ]
    optimizer = fcnn.SGD(1e-3 if name == "exp" else 0.05, momentum=0.9)
    compare_trajectories(build(layers, n_in=5), fcnn.MSE(), optimizer, lambda rng, n: rng.standard_normal((n, 2)))


@pytest.mark.parametrize("name", list(ACTIVATIONS))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_activation_is_stable_at_large_inputs(name: str, dtype: str) -> None:
    """Values and derivatives at ±10⁴, ±100, ±20 and around 0: finite, and PyTorch's."""
    z = np.array([[-1e4, -100.0, -20.0, -3.0, -1e-3, 1e-3, 3.0, 20.0, 100.0, 1e4]], dtype)
    if name == "softmax":
        z = np.vstack([z, z[:, ::-1], np.roll(z, 1)])
    if name == "exp":  # which overflows where e^z does
        z = np.minimum(z, 20).astype(dtype)
    activation = ACTIVATIONS.resolve(name)
    model = fcnn.Sequential([fcnn.Activation(activation)], n_in=10, dtype=dtype, seed=0, backend="numpy")
    t = torch.tensor(z, requires_grad=True)
    if name == "softplus":
        reference = torch.logaddexp(t, torch.zeros_like(t))  # PyTorch's module overflows or cuts off
    else:
        reference = equivalents.ACTIVATION_MODULES[name](activation)(t)
    C = np.random.default_rng(0).standard_normal(z.shape).astype(dtype)
    reference.backward(torch.tensor(C))
    outputs = np.array(model.forward(z, training=True))
    gradient: Any = model.backward(C, input_gradient=True)
    units = 16 * float(np.finfo(dtype).eps)
    assert np.isfinite(outputs).all()
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(outputs, reference.detach().numpy(), rtol=units, atol=units)
    np.testing.assert_allclose(gradient, t.grad.numpy(), rtol=4 * units, atol=4 * units)


@pytest.mark.parametrize(("name", "case"), labelled("layer"))
def test_layer(name: str, case: LayerCase) -> None:
    layers = [*case.before(), case.make(), fcnn.Dense(3)]
    model = build(layers, n_in=case.n_in if case.n_categories else 5)
    compare_trajectories(model, fcnn.CrossEntropy(), fcnn.SGD(0.05, momentum=0.9), labels, case=case)


@pytest.mark.parametrize(("name", "case"), labelled("layer"))
def test_input_gradient(name: str, case: LayerCase) -> None:
    model = build([case.make()], case.n_in)
    module = equivalents.to_torch(model)
    rng = np.random.default_rng(4)
    X, C = case.inputs(rng, 6), rng.standard_normal((6, model.n_out))
    x = torch.tensor(X, requires_grad=True)
    reference = module(x)
    reference.backward(torch.tensor(C))
    outputs = np.array(model.forward(X, training=True))
    gradient: Any = model.backward(C, input_gradient=True)
    np.testing.assert_allclose(outputs, reference.detach().numpy(), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(gradient, x.grad.numpy(), rtol=1e-11, atol=1e-12)


def test_dropout_draws_the_documented_bits() -> None:
    """400,000 draws, so that each of the 65,536 values comes up, those at the threshold included."""
    layer = fcnn.Dropout(0.3)
    model = fcnn.Sequential([layer], 50_000, seed=5, dtype="float64", backend="numpy")
    reference = equivalents.PhiloxDropout(layer, seed=5)
    X = np.random.default_rng(9).standard_normal((8, 50_000))
    for _ in range(2):
        np.testing.assert_array_equal(model.forward(X, training=True), reference(torch.tensor(X)).numpy())


# Networks of everything


def mixed_network(seed: int = 0, dtype: str = "float64", part: slice = slice(None)) -> fcnn.Sequential:
    """Some of the activations, penalties, dropout, normalization, nested residuals with and without projection."""
    layers: list[Any] = [fcnn.Dense(12, bias=False, l1=1e-4), fcnn.BatchNorm()]
    for i, activation in enumerate(list(ACTIVATIONS)[part]):
        block = [fcnn.Dense(10 + i % 3, activation=activation, l2=1e-3), fcnn.Dropout(0.1), fcnn.LayerNorm()]
        layers.append(fcnn.Residual([*block, fcnn.Residual([fcnn.Dense(6), activation, fcnn.Dense(10 + i % 3)])]))
    return fcnn.Sequential(
        [*layers, fcnn.Dropout(0.2), fcnn.Dense(3, l2=1e-3)], 5, seed=seed, dtype=dtype, backend="numpy"
    )


@pytest.mark.parametrize("part", [slice(0, None, 2), slice(1, None, 2)], ids=["one half", "the other"])
@pytest.mark.parametrize(("name", "make"), labelled("optimizer"))
def test_a_network_of_everything(name: str, make: Callable[..., fcnn.optimizers.Optimizer], part: slice) -> None:
    """Every activation, half of them in a network, at a twentieth of the usual rates.

    At those, one of some forty layers multiplies a difference of 10⁻¹⁵ between two copies of itself by up to 10¹⁴ in 50
    steps, so that no two programs could agree.
    """
    optimizer = make(clip_norm=1.0)
    optimizer.learning_rate /= 20
    loss = fcnn.CrossEntropy(label_smoothing=0.1, class_weight=[1.0, 2.0, 0.5])
    compare_trajectories(mixed_network(part=part), loss, optimizer, labels, batch=9, weighted=True)


@pytest.mark.parametrize("seed", range(20))
def test_random_stack(seed: int) -> None:
    """The random networks of the gradient check, trained by plain SGD with a bounded step."""
    rng = np.random.default_rng([77, seed])
    n_in = int(rng.integers(1, 8))
    cases = FAMILIES["loss"].all_cases()
    case: LossCase = cases[seed % len(cases)][1]
    layers = [random_layer(rng, n_in, 0) for _ in range(int(rng.integers(1, 6)))]
    model = build([*layers, fcnn.Dense(case.n_outputs, l2=0.05)], n_in, seed)
    optimizer = fcnn.SGD(0.02, clip_norm=1.0)
    compare_trajectories(model, case.loss, optimizer, case.targets, batch=7, weighted=seed % 2 == 0)


@pytest.mark.parametrize(("name", "make"), labelled("optimizer"))
def test_float32(name: str, make: Callable[..., fcnn.optimizers.Optimizer]) -> None:
    layers = [fcnn.Dense(16, activation="tanh", l2=1e-3), fcnn.LayerNorm(), fcnn.Dense(3)]
    model = fcnn.Sequential(layers, 6, seed=0, backend="numpy")
    compare_trajectories(model, fcnn.CrossEntropy(), make(), labels)


# The trainer


@pytest.mark.parametrize("shuffle", [False, True])
def test_trainer(shuffle: bool) -> None:
    """`Trainer.fit` is the loop one would write: batches in order, a smaller last one, weights, schedule, history."""
    rng = np.random.default_rng(5)
    X, y = rng.standard_normal((77, 5)), rng.integers(0, 3, 77)
    weight = rng.uniform(0.5, 2.0, 77)
    class_weight = {0: 2.0, 2: 0.5}
    model = mixed_network(seed=3)
    module = equivalents.to_torch(model)
    schedule = fcnn.schedules.Warmup(fcnn.schedules.Cosine(1e-3), epochs=1.0)
    optimizer = fcnn.AdamW(schedule, weight_decay=0.1, clip_norm=2.0)
    trainer = fcnn.Trainer(model, fcnn.CrossEntropy(), optimizer, metrics=["accuracy"], seed=9)
    reference = equivalents.to_torch_optimizer(optimizer, module)
    epochs, batch, n_steps = 5, 8, 10
    history = trainer.fit(
        X,
        y,
        epochs=epochs,
        batch_size=batch,
        sample_weight=weight,
        class_weight=class_weight,
        shuffle=shuffle,
        progress=False,
        validation_data=(X[:20], y[:20]),
    )

    combined = weight * class_weights_to_sample_weights(class_weight, y, 3)
    for epoch in range(epochs):
        order = epoch_order(77, 9, epoch, shuffle)
        total = 0.0
        for step in range(n_steps):
            index = order[step * batch : (step + 1) * batch]
            rate = schedule(epoch + step / n_steps, float(epochs))
            for group in reference.param_groups:
                group["lr"] = rate
            value = equivalents.torch_step(
                model, module, trainer.loss, optimizer, reference, X[index], y[index], combined[index]
            )
            total += value * len(index)
        assert history["loss"][epoch] == pytest.approx(total / 77, rel=TRAJECTORY["float64"])
        assert history["learning_rate"][epoch] == rate
    assert_same_network(model, module, "after the run")
    with torch.no_grad():
        assert history["penalty"][-1] == pytest.approx(equivalents.penalty(model, module).item(), rel=1e-9)
        outputs = module.eval()(torch.tensor(X[:20]))
    t = torch.tensor(y[:20])
    assert history["val_loss"][-1] == pytest.approx(torch.nn.CrossEntropyLoss()(outputs, t).item(), rel=1e-8)
    assert history["val_accuracy"][-1] == pytest.approx((outputs.argmax(1) == t).double().mean().item())
    np.testing.assert_allclose(model.predict(X[:20]), outputs.softmax(1).numpy(), rtol=1e-8, atol=1e-10)


# Schedules


def torch_rates(make: Callable[[Any], Any], base: float, n: int, metrics: HostArray | None = None) -> list[float]:
    """The learning rate before each of n epochs, under a scheduler of torch.optim.lr_scheduler."""
    optimizer = torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), lr=base)
    with warnings.catch_warnings():
        # SequentialLR calls its members in a way that PyTorch itself has deprecated
        warnings.filterwarnings("ignore", message="The epoch parameter in `scheduler.step", category=UserWarning)
        scheduler = make(optimizer)
        rates = []
        for epoch in range(n):
            rates.append(float(optimizer.param_groups[0]["lr"]))
            optimizer.step()
            scheduler.step(*([] if metrics is None else [metrics[epoch]]))
    return rates


def _rates(schedule: Schedule, n: int, n_epochs: float) -> list[float]:
    return [schedule(float(epoch), n_epochs) for epoch in range(n)]


def _flat_then_cosine(optimizer: Any, s: Any, n: int) -> Any:
    flat = int(s.flat * n)
    constant = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0, flat)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n - flat, s.final)
    return torch.optim.lr_scheduler.SequentialLR(optimizer, [constant, cosine], [flat])


def _compare_one_cycle(s: Any) -> tuple[list[float], list[float]]:
    """PyTorch peaks at step pct_start·T − 1 and ends at T − 1: each leg is the same curve over a span of its own."""
    T, peak = 101, 0.3 * 101 - 1
    theirs = torch_rates(
        lambda o: torch.optim.lr_scheduler.OneCycleLR(
            o, s.max_learning_rate, total_steps=T, pct_start=0.3, cycle_momentum=False
        ),
        0.1,
        T - 1,
    )
    shares = [i / peak * s.rise if i <= peak else s.rise + (i - peak) / (T - 1 - peak) * (1 - s.rise) for i in range(T)]
    return [s(share, 1.0) for share in shares[: T - 1]], theirs


def _compare_plateau(s: Any) -> tuple[list[float], list[float]]:
    rng = np.random.default_rng(6)
    metrics = np.concatenate([np.linspace(2, 1, 6), 1 + 0.1 * rng.random(15), [0.5], 0.5 + rng.random(15)])
    theirs = torch_rates(
        lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(
            o, factor=s.factor, patience=s.patience, threshold=s.threshold, eps=0.0
        ),
        s.learning_rate,
        len(metrics),
        metrics,
    )
    ours = []
    for value in metrics:
        ours.append(s(0.0, 1.0))
        s.observe({s.column: float(value)})
    return ours, theirs


def _linear(o: Any, s: Any, span: int) -> Any:
    factor = s.final / s.learning_rate
    if factor <= 1:
        return torch.optim.lr_scheduler.LinearLR(o, 1.0, factor, span)
    return torch.optim.lr_scheduler.LinearLR(o, 1 / factor, 1.0, span)  # PyTorch's factors are at most 1


SCHEDULE_REFERENCES: dict[str, Callable[[Any], tuple[list[float], list[float]]]] = {
    "constant": lambda s: (
        _rates(s, 8, 8.0),
        torch_rates(lambda o: torch.optim.lr_scheduler.ConstantLR(o, 1.0), s.learning_rate, 8),
    ),
    "step": lambda s: (
        _rates(s, 20, 20.0),
        torch_rates(lambda o: torch.optim.lr_scheduler.StepLR(o, int(s.every), s.factor), s.learning_rate, 20),
    ),
    "exponential": lambda s: (
        _rates(s, 20, 20.0),
        torch_rates(lambda o: torch.optim.lr_scheduler.ExponentialLR(o, s.factor), s.learning_rate, 20),
    ),
    "cosine": lambda s: (
        _rates(s, int(s.epochs or 9) + 1, 9.0),
        torch_rates(
            lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, int(s.epochs or 9), s.final),
            s.learning_rate,
            int(s.epochs or 9) + 1,
        ),
    ),
    "linear": lambda s: (
        _rates(s, 14, 9.0),
        torch_rates(lambda o: _linear(o, s, int(s.epochs or 9)), max(s.learning_rate, s.final), 14),
    ),
    "warmup": lambda s: (
        _rates(s, 10, 10.0),
        torch_rates(lambda o: torch.optim.lr_scheduler.LinearLR(o, s.start, 1.0, int(s.epochs)), 0.1, 10),
    ),
    "one_cycle": _compare_one_cycle,
    "flat_cos": lambda s: (
        _rates(s, 17, 16.0),
        torch_rates(lambda o: _flat_then_cosine(o, s, 16), s.learning_rate, 17),
    ),
    "coslog4": lambda s: (
        _rates(s, 41, 40.0),
        torch_rates(
            lambda o: torch.optim.lr_scheduler.LambdaLR(
                o, lambda t: (1 - math.cos(2 * math.pi * math.log2(1 + (2**s.cycles - 1) * t / 40))) / 2
            ),
            s.learning_rate,
            41,
        ),
    ),
    "reduce_on_plateau": _compare_plateau,
}


COMPARED_IN_TEST_SCHEDULES = {"polynomial", "piecewise_constant", "cosine_restarts", "invscaling", "adaptive"}
"""With PyTorch's, and the last two with scikit-learn's."""


@pytest.mark.parametrize(
    ("name", "schedule"), [case for case in labelled("schedule") if case.values[0] not in COMPARED_IN_TEST_SCHEDULES]
)
def test_schedule(name: str, schedule: Schedule) -> None:
    """At whole epochs, where PyTorch's schedulers are stepped; PyTorch multiplies rate by rate, hence not exactly."""
    ours, theirs = SCHEDULE_REFERENCES[name](SCHEDULES.build(SCHEDULES.config(schedule)))
    assert len(ours) == len(theirs)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-17)
    assert name == "constant" or len(set(theirs)) > 2, "the comparison is of a constant"


def test_warmup_before_cosine_is_torch_s_sequence() -> None:
    schedule = fcnn.schedules.Warmup(fcnn.schedules.Cosine(0.1, final=0.01), epochs=4.0, start=0.25)

    def sequence(o: Any) -> Any:
        warmup = torch.optim.lr_scheduler.LinearLR(o, 0.25, 1.0, 4)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(o, 8, 0.01)
        return torch.optim.lr_scheduler.SequentialLR(o, [warmup, cosine], [4])

    np.testing.assert_allclose(_rates(schedule, 13, 12.0), torch_rates(sequence, 0.1, 13), rtol=1e-12)


# Files


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "case"), labelled("layer"))
def test_saved_model_loads_into_torch(name: str, case: LayerCase, dtype: str, tmp_path: Path) -> None:
    """`torch.nn.Sequential.load_state_dict` takes the file of every layer, strictly, and computes the same outputs."""
    from safetensors.torch import load_file

    layers, n_in = [*case.before(), case.make(), fcnn.Dense(3)], case.n_in if case.n_categories else 5
    model = fcnn.Sequential(layers, n_in, seed=1, dtype=dtype, backend="numpy")
    rng = np.random.default_rng(7)
    for _ in range(3):  # so that running statistics are not at their initial values
        model.forward(case.inputs(rng, 16, n_in), training=True)
    model.save(tmp_path / "model.safetensors")
    state = load_file(tmp_path / "model.safetensors")
    module = equivalents.to_torch(
        fcnn.Sequential(
            [LAYERS.build(LAYERS.config(layer)) for layer in model.layers], n_in, seed=2, dtype=dtype, backend="numpy"
        )
    )
    module.load_state_dict(state, strict=True)
    X = case.inputs(rng, 9, n_in).astype(dtype)
    with torch.no_grad():
        outputs = module.eval()(torch.tensor(X)).numpy()
    units = 64 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(model(X), outputs, rtol=units, atol=units)


def test_saved_model_loads_into_a_plain_torch_network(tmp_path: Path) -> None:
    """As the README's reader would write it, with no help of this package."""
    from safetensors.torch import load_file

    layers = [fcnn.Dense(16, activation="relu"), fcnn.BatchNorm(), fcnn.Dropout(0.3), fcnn.Dense(4)]
    model = fcnn.Sequential(layers, 8, seed=0, backend="numpy")
    model.save(tmp_path / "model.safetensors")
    nn = torch.nn
    module = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.BatchNorm1d(16), nn.Dropout(0.3), nn.Linear(16, 4))
    module.load_state_dict(load_file(tmp_path / "model.safetensors"))
    X = np.random.default_rng(8).standard_normal((5, 8)).astype("float32")
    with torch.no_grad():
        np.testing.assert_allclose(model(X), module.eval()(torch.tensor(X)).numpy(), rtol=1e-5, atol=1e-6)


# Initial values


@pytest.mark.parametrize(("n_in", "n_out"), [(3, 2000), (64, 500), (1000, 50)])
def test_fan_in_uniform_has_the_bounds_of_torchs_linear(n_in: int, n_out: int) -> None:
    """Both fill their bounds, so that the largest of many numbers are alike; weights and biases have one bound."""
    torch.manual_seed(0)
    theirs = torch.nn.Linear(n_in, n_out)
    layer = fcnn.Dense(n_out, init="fan_in_uniform", bias_init="fan_in_uniform")
    fcnn.Sequential([layer], n_in=n_in, seed=0, backend="numpy")
    for ours, reference in ((layer.W, theirs.weight), (layer.b, theirs.bias)):
        largest = float(reference.detach().abs().max())
        assert np.abs(ours).max() == pytest.approx(largest, rel=10 / n_out)
        assert np.abs(ours).max() <= 1 / np.sqrt(n_in)
        assert ours.std() == pytest.approx(float(reference.detach().std()), rel=4 / np.sqrt(ours.size))
