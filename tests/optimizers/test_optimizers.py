"""Optimizers: each rule against plain NumPy, penalties and clipping, binding, state, and what is refused."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._ops import BLOCK
from fcnn_gpu.optimizers import OPTIMIZERS, Optimizer


def network(**dense: Any) -> fcnn.Sequential:
    layers = [fcnn.Dense(300, **dense), fcnn.LayerNorm(), fcnn.Dense(3)]
    model = fcnn.Sequential(layers, n_in=130, seed=0, backend="numpy", dtype="float64")
    assert model.flat.values.size > BLOCK
    return model


def gradients(model: fcnn.Sequential) -> Iterator[HostArray]:
    """Random gradients, put into the model, step by step."""
    rng = np.random.default_rng(1)
    while True:
        model.flat.gradients[...] = rng.normal(size=model.flat.gradients.size)
        yield model.flat.gradients.copy()


Rule = Callable[[int, float, HostArray, HostArray, dict[str, Any]], HostArray]
"""(t from 1, η, θ, g, state) → θ after the step, as the literature writes it."""


def sgd(momentum: float = 0.0, nesterov: bool = False) -> Rule:
    def step(t: int, eta: float, theta: HostArray, g: HostArray, s: dict[str, Any]) -> HostArray:
        s["v"] = momentum * s.get("v", 0) + g
        return theta - eta * ((g + momentum * s["v"]) if nesterov else s["v"])

    return step


def adam(beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8) -> Rule:
    def step(t: int, eta: float, theta: HostArray, g: HostArray, s: dict[str, Any]) -> HostArray:
        s["m"] = beta1 * s.get("m", 0) + (1 - beta1) * g
        s["v"] = beta2 * s.get("v", 0) + (1 - beta2) * g * g
        m_hat, v_hat = s["m"] / (1 - beta1**t), s["v"] / (1 - beta2**t)
        return theta - eta * m_hat / (np.sqrt(v_hat) + eps)

    return step


def rmsprop(alpha: float = 0.99, eps: float = 1e-8, momentum: float = 0.0) -> Rule:
    def step(t: int, eta: float, theta: HostArray, g: HostArray, s: dict[str, Any]) -> HostArray:
        s["v"] = alpha * s.get("v", 0) + (1 - alpha) * g * g
        s["b"] = momentum * s.get("b", 0) + g / (np.sqrt(s["v"]) + eps)
        return theta - eta * s["b"]

    return step


def adagrad(lr_decay: float = 0.0, eps: float = 1e-10) -> Rule:
    def step(t: int, eta: float, theta: HostArray, g: HostArray, s: dict[str, Any]) -> HostArray:
        s["s"] = s.get("s", 0) + g * g
        return theta - eta / (1 + (t - 1) * lr_decay) * g / (np.sqrt(s["s"]) + eps)

    return step


def amsgrad(beta1: float, beta2: float, eps: float = 1e-8) -> Rule:
    def step(t: int, eta: float, theta: HostArray, g: HostArray, s: dict[str, Any]) -> HostArray:
        s["m"] = beta1 * s.get("m", 0) + (1 - beta1) * g
        s["v"] = beta2 * s.get("v", 0) + (1 - beta2) * g * g
        s["top"] = np.maximum(s.get("top", 0), s["v"])
        return theta - eta * s["m"] / (1 - beta1**t) / (np.sqrt(s["top"] / (1 - beta2**t)) + eps)

    return step


def centered(alpha: float, eps: float, momentum: float) -> Rule:
    def step(t: int, eta: float, theta: HostArray, g: HostArray, s: dict[str, Any]) -> HostArray:
        s["v"] = alpha * s.get("v", 0) + (1 - alpha) * g * g
        s["w"] = alpha * s.get("w", 0) + (1 - alpha) * g
        s["b"] = momentum * s.get("b", 0) + g / (np.sqrt(s["v"] - s["w"] ** 2) + eps)
        return theta - eta * s["b"]

    return step


def nadam(psi: float, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8) -> Rule:
    def step(t: int, eta: float, theta: HostArray, g: HostArray, s: dict[str, Any]) -> HostArray:
        mu, following = (beta1 * (1 - 0.5 * 0.96 ** (i * psi)) for i in (t, t + 1))
        s["product"] = s.get("product", 1.0) * mu
        s["m"] = beta1 * s.get("m", 0) + (1 - beta1) * g
        s["v"] = beta2 * s.get("v", 0) + (1 - beta2) * g * g
        mixed = (1 - mu) * g / (1 - s["product"]) + following * s["m"] / (1 - s["product"] * following)
        return theta - eta * mixed / (np.sqrt(s["v"] / (1 - beta2**t)) + eps)

    return step


def radam(beta1: float, beta2: float, eps: float = 1e-8) -> Rule:
    def step(t: int, eta: float, theta: HostArray, g: HostArray, s: dict[str, Any]) -> HostArray:
        s["m"] = beta1 * s.get("m", 0) + (1 - beta1) * g
        s["v"] = beta2 * s.get("v", 0) + (1 - beta2) * g * g
        m_hat, longest = s["m"] / (1 - beta1**t), 2 / (1 - beta2) - 1
        rho = longest - 2 * t * beta2**t / (1 - beta2**t)
        if rho <= 5:
            return theta - eta * m_hat
        r = math.sqrt((rho - 4) * (rho - 2) * longest / ((longest - 4) * (longest - 2) * rho))
        return theta - eta * r * m_hat * math.sqrt(1 - beta2**t) / (np.sqrt(s["v"]) + eps)

    return step


def adamax(beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8) -> Rule:
    def step(t: int, eta: float, theta: HostArray, g: HostArray, s: dict[str, Any]) -> HostArray:
        s["m"] = beta1 * s.get("m", 0) + (1 - beta1) * g
        s["s"] = np.maximum(beta2 * s.get("s", 0), np.abs(g) + eps)
        return theta - eta / (1 - beta1**t) * s["m"] / s["s"]

    return step


def adadelta(rho: float = 0.9, eps: float = 1e-6) -> Rule:
    def step(t: int, eta: float, theta: HostArray, g: HostArray, s: dict[str, Any]) -> HostArray:
        s["v"] = rho * s.get("v", 0) + (1 - rho) * g * g
        u = np.sqrt(s.get("d", 0) + eps) / np.sqrt(s["v"] + eps) * g
        s["d"] = rho * s.get("d", 0) + (1 - rho) * u * u
        return theta - eta * u

    return step


def lion(beta1: float = 0.9, beta2: float = 0.99) -> Rule:
    def step(t: int, eta: float, theta: HostArray, g: HostArray, s: dict[str, Any]) -> HostArray:
        u = np.sign(beta1 * s.get("m", 0) + (1 - beta1) * g)
        s["m"] = beta2 * s.get("m", 0) + (1 - beta2) * g
        return theta - eta * u

    return step


def muon(scale: float, nesterov: bool = True) -> Rule:
    """Of the first weights of `network` as a matrix; all else has Adam's steps."""

    def step(t: int, eta: float, theta: HostArray, g: HostArray, s: dict[str, Any]) -> HostArray:
        after = adam(0.9, 0.95, 1e-10)(t, eta, theta, g, s.setdefault("adam", {}))
        s["m"] = 0.95 * s.get("m", 0) + 0.05 * g
        direction = 0.95 * s["m"] + 0.05 * g if nesterov else s["m"]
        X = direction[: 130 * 300].reshape(130, 300)
        X = X / np.linalg.norm(X)
        for _ in range(5):
            K = X @ X.T
            X = 3.4445 * X + (-4.7750 * K + 2.0315 * K @ K) @ X
        after[: X.size] = theta[: X.size] - eta * scale * X.reshape(-1)
        return after

    return step


RULES: list[tuple[Callable[..., Optimizer], Rule]] = [
    (lambda **clip: fcnn.SGD(0.05, **clip), sgd()),
    (lambda **clip: fcnn.SGD(0.05, 0.9, **clip), sgd(0.9)),
    (lambda **clip: fcnn.SGD(0.05, 0.9, True, **clip), sgd(0.9, True)),
    (lambda **clip: fcnn.Adam(0.05, **clip), adam()),
    (lambda **clip: fcnn.Adam(0.05, 0.0, 0.5, 1e-3, **clip), adam(0.0, 0.5, 1e-3)),
    (lambda **clip: fcnn.AdamW(0.05, weight_decay=0.0, **clip), adam()),
    (lambda **clip: fcnn.RMSprop(0.05, **clip), rmsprop()),
    (lambda **clip: fcnn.RMSprop(0.05, 0.8, 1e-4, 0.5, **clip), rmsprop(0.8, 1e-4, 0.5)),
    (lambda **clip: fcnn.Adagrad(0.05, **clip), adagrad()),
    (lambda **clip: fcnn.Adagrad(0.05, 0.5, 1e-3, **clip), adagrad(0.5, 1e-3)),
    (lambda **clip: fcnn.Adam(0.05, amsgrad=True, beta2=0.5, **clip), amsgrad(0.9, 0.5)),
    (lambda **clip: fcnn.RMSprop(0.05, 0.8, 1e-2, 0.5, centered=True, **clip), centered(0.8, 1e-2, 0.5)),
    (lambda **clip: fcnn.NAdam(0.05, momentum_decay=0.3, **clip), nadam(0.3)),
    (lambda **clip: fcnn.RAdam(0.05, beta2=0.8, **clip), radam(0.9, 0.8)),
    (lambda **clip: fcnn.Adamax(0.05, **clip), adamax()),
    (lambda **clip: fcnn.Adadelta(0.05, **clip), adadelta()),
    (lambda **clip: fcnn.Lion(0.05, **clip), lion()),
    (
        lambda **clip: fcnn.Muon(0.05, weight_decay=0.0, orthogonalize=["0.W"], **clip),
        muon(0.2 * math.sqrt(300)),
    ),
    (
        lambda **clip: fcnn.Muon(0.05, 0.0, 0.95, False, orthogonalize=["0.*"], adjust_lr_fn="original", **clip),
        muon(math.sqrt(300 / 130), nesterov=False),
    ),
]


def test_every_optimizer_is_tested() -> None:
    assert {make().name for make, _ in RULES} == set(OPTIMIZERS)


@pytest.mark.parametrize(("make", "rule"), RULES, ids=lambda x: getattr(x, "__qualname__", "")[:8])
def test_five_steps_of_the_rule(make: Callable[..., Optimizer], rule: Rule) -> None:
    model = network()
    optimizer = make().bind(model)
    theta, state = model.flat.values.copy(), dict[str, Any]()
    for t, g in zip(range(1, 6), gradients(model), strict=False):
        eta = 0.05 / t
        optimizer.set_learning_rate(eta)
        optimizer.step()
        theta = rule(t, eta, theta, g, state)
        np.testing.assert_allclose(model.flat.values, theta, rtol=1e-10, atol=1e-12)
        np.testing.assert_array_equal(model.flat.gradients, g)
    assert int(optimizer.control.step[0]) == 5


def clip_norm(g: HostArray, c: float) -> HostArray:
    return g * min(1.0, c / (float(np.linalg.norm(g)) + 1e-6))


@pytest.mark.parametrize("limit", [0.7, 1e9], ids=["clipped", "within"])
@pytest.mark.parametrize(("make", "rule"), RULES, ids=lambda x: getattr(x, "__qualname__", "")[:8])
def test_penalties_come_before_clipping_and_clipping_before_the_rule(
    make: Callable[..., Optimizer], rule: Rule, limit: float
) -> None:
    clips: list[tuple[dict[str, float], Callable[[HostArray], HostArray]]] = [
        ({"clip_norm": limit}, lambda g: clip_norm(g, limit)),
        ({"clip_value": limit}, lambda g: np.clip(g, -limit, limit)),
    ]
    for options, clip in clips:
        model = network(l1=0.3, l2=0.7)
        optimizer = make(**options).bind(model)
        theta, state = model.flat.values.copy(), dict[str, Any]()
        for t, g in zip(range(1, 4), gradients(model), strict=False):
            optimizer.step()
            penalized = g.copy()
            first = slice(0, 130 * 300)
            penalized[first] += 0.3 * np.sign(theta[first]) + 2 * 0.7 * theta[first]
            theta = rule(t, 0.05, theta, clip(penalized), state)
            np.testing.assert_allclose(model.flat.values, theta, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("decay_all", [False, True])
@pytest.mark.parametrize("kind", list(OPTIMIZERS))
def test_weight_decay_shrinks_weights_and_nothing_else_unless_told(kind: str, decay_all: bool) -> None:
    model = network()
    model.flat.values[...] = 2.0
    settings = {"learning_rate": 0.1, "weight_decay": 0.5, "decay_all": decay_all}
    optimizer = OPTIMIZERS.build({"name": kind, **settings}).bind(model)
    optimizer.step()  # gradients are 0
    for parameter in model.parameters:
        expected = 2.0 * (1 - 0.1 * 0.5) if parameter.is_weight or decay_all else 2.0
        np.testing.assert_allclose(parameter.value, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("optimizer", "names"),
    [
        (fcnn.SGD(), set()),
        (fcnn.SGD(momentum=0.5), {"velocity"}),
        (fcnn.Adam(), {"m", "v"}),
        (fcnn.AdamW(), {"m", "v"}),
        (fcnn.RMSprop(), {"v"}),
        (fcnn.RMSprop(momentum=0.5), {"v", "velocity"}),
        (fcnn.Adagrad(), {"s"}),
        (fcnn.Adam(amsgrad=True), {"m", "v", "largest_v"}),
        (fcnn.RMSprop(momentum=0.5, centered=True), {"v", "mean", "velocity"}),
        (fcnn.NAdam(), {"m", "v"}),
        (fcnn.RAdam(), {"m", "v"}),
        (fcnn.Adamax(), {"m", "s"}),
        (fcnn.Adadelta(), {"v", "d"}),
        (fcnn.Lion(), {"m"}),
        (fcnn.Muon(), {"m", "v"}),
    ],
    ids=lambda x: repr(x) if isinstance(x, Optimizer) else "",  # a set's order differs between processes
)
def test_state_lives_in_arrays_of_the_parameters_size_and_dtype(optimizer: Optimizer, names: set[str]) -> None:
    model = fcnn.Sequential([fcnn.Dense(3)], n_in=2, backend="numpy")
    assert optimizer.bind(model) is optimizer
    assert set(optimizer.state) == names
    for array in optimizer.state.values():
        assert (array.shape, array.dtype) == ((9,), np.float32)
        assert not array.any()


def test_binding_again_to_the_same_model_keeps_the_state_and_to_another_is_refused() -> None:
    model, other = network(), network()
    optimizer = fcnn.Adam().bind(model)
    next(gradients(model))
    optimizer.step()
    moments = optimizer.state["m"]
    assert optimizer.bind(model).state["m"] is moments
    with pytest.raises(ValueError, match="This Adam already belongs to another model"):
        optimizer.bind(other)
    with pytest.raises(ValueError, match="already belongs to another model"):
        fcnn.Trainer(other, optimizer=optimizer)
    assert optimizer.state["m"] is moments
    assert other.link is None


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_a_copy_has_the_fields_and_no_binding(duplicate: Callable[[Any], Any]) -> None:
    optimizer = fcnn.SGD(fcnn.schedules.Cosine(0.1), momentum=0.5, clip_norm=2.0).bind(network())
    again = duplicate(optimizer)
    assert again == optimizer
    with pytest.raises(RuntimeError, match="not bound"):
        again.step()
    assert again.bind(network()).state["velocity"].size
    optimizer.step()


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_copy_has_a_schedule_of_its_own(duplicate: Callable[[Any], Any]) -> None:
    optimizer = fcnn.SGD(fcnn.schedules.ReduceOnPlateau(0.5, patience=0, column="loss"))
    again = duplicate(optimizer)
    for _ in range(2):
        optimizer.schedule.observe({"loss": 1.0})  # the second is no improvement
    assert optimizer.schedule(2.0, 10.0) == pytest.approx(0.05)
    assert again.schedule(2.0, 10.0) == 0.5


def test_an_unbound_optimizer_says_what_to_do() -> None:
    for use in (lambda o: o.step(), lambda o: o.state, lambda o: o.control, lambda o: o.set_learning_rate(0.1)):
        with pytest.raises(RuntimeError, match=r"Adam is not bound to a model: call optimizer.bind\(model\) first"):
            use(fcnn.Adam())


def test_the_first_rate_is_the_schedules() -> None:
    optimizer = fcnn.Adam(fcnn.schedules.OneCycle(0.5, initial_div=5)).bind(network())
    assert optimizer.control.learning_rate[0] == pytest.approx(0.1)
    assert fcnn.Adam(0.25).schedule(3.0, 9.0) == 0.25


def test_after_a_failure_nothing_moves() -> None:
    for make, _ in RULES:
        model = network()
        optimizer = make(clip_norm=1.0).bind(model)
        next(gradients(model))
        optimizer.step()
        values, state = model.flat.values.copy(), {name: a.copy() for name, a in optimizer.state.items()}
        model.ops.check_finite(np.array([0.0, np.inf]), model.flat, optimizer.control)
        assert int(optimizer.control.failed_step[0]) == 1
        model.flat.gradients[...] = np.nan
        optimizer.step()
        np.testing.assert_array_equal(model.flat.values, values)
        assert all((optimizer.state[name] == a).all() for name, a in state.items())
        assert int(optimizer.control.step[0]) == 1


OPTIMIZER: Any = fcnn.Adam
SGD: Any = fcnn.SGD
ONE: Any = 1


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: OPTIMIZER(-0.1), ValueError, r"Adam\(learning_rate\) expects a finite number of at least 0, got -0.1"),
        (lambda: OPTIMIZER(math.nan), ValueError, r"Adam\(learning_rate\)"),
        (lambda: OPTIMIZER(True), TypeError, r"Adam\(learning_rate\) expects a number, got True"),
        (lambda: OPTIMIZER("cosine"), TypeError, "expects a number or a Schedule with its rate, such as .*'cosine'"),
        (lambda: OPTIMIZER(fcnn.schedules.Cosine), TypeError, "expects a number or a Schedule with its rate"),
        (lambda: OPTIMIZER(clip_norm=0.0), ValueError, r"Adam\(clip_norm\) expects a finite number greater than 0"),
        (lambda: OPTIMIZER(clip_value=-1), ValueError, r"Adam\(clip_value\) expects a finite number greater than 0"),
        (lambda: OPTIMIZER(clip_norm=1, clip_value=1), ValueError, "choose one of clip_norm and clip_value"),
        (lambda: OPTIMIZER(beta1=1.0), ValueError, r"Adam\(beta1\) expects .* in \[0, 1\)"),
        (lambda: OPTIMIZER(beta2=-0.1), ValueError, r"Adam\(beta2\)"),
        (lambda: OPTIMIZER(eps=0), ValueError, r"Adam\(eps\) expects a finite number greater than 0"),
        (lambda: fcnn.AdamW(weight_decay=-1), ValueError, r"AdamW\(weight_decay\)"),
        (lambda: fcnn.AdamW(beta1=2), ValueError, r"AdamW\(beta1\)"),
        (lambda: fcnn.AdamW(decay_all=ONE), TypeError, r"AdamW\(decay_all\)"),
        (lambda: SGD(momentum=1.0), ValueError, r"SGD\(momentum\)"),
        (lambda: SGD(nesterov=1), TypeError, r"SGD\(nesterov\) expects True or False, got 1"),
        (lambda: SGD(nesterov=True), ValueError, "needs a momentum greater than 0, for example momentum=0.9"),
        (lambda: fcnn.RMSprop(alpha=1.0), ValueError, r"RMSprop\(alpha\)"),
        (lambda: fcnn.RMSprop(eps=0), ValueError, r"RMSprop\(eps\)"),
        (lambda: fcnn.RMSprop(momentum=-1), ValueError, r"RMSprop\(momentum\)"),
        (lambda: fcnn.Adagrad(lr_decay=-1), ValueError, r"Adagrad\(lr_decay\)"),
        (lambda: fcnn.Adagrad(eps=0), ValueError, r"Adagrad\(eps\)"),
        (lambda: fcnn.SGD(weight_decay=-1), ValueError, r"SGD\(weight_decay\)"),
        (lambda: fcnn.Lion(beta2=1.0), ValueError, r"Lion\(beta2\)"),
        (lambda: fcnn.Adadelta(rho=1.0), ValueError, r"Adadelta\(rho\)"),
        (lambda: fcnn.NAdam(momentum_decay=-1), ValueError, r"NAdam\(momentum_decay\)"),
        (lambda: OPTIMIZER(amsgrad=1), TypeError, r"Adam\(amsgrad\)"),
        (lambda: fcnn.RMSprop(centered=ONE), TypeError, r"RMSprop\(centered\)"),
    ],
)
def test_fields_that_are_refused(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_the_base_says_what_to_define() -> None:
    model = network()
    with pytest.raises(NotImplementedError, match="Optimizer must define _update"):
        Optimizer(0.1).bind(model).step()


def test_a_bound_optimizer_keeps_its_settings_but_the_rate() -> None:
    model = fcnn.Sequential([fcnn.Dense(2)], n_in=3, seed=0, backend="numpy")
    optimizer = fcnn.SGD(0.1).bind(model)
    with pytest.raises(AttributeError, match=r"SGD\.momentum cannot change once the optimizer is bound"):
        optimizer.momentum = 0.9
    optimizer.learning_rate = 0.2
    assert optimizer.schedule(0.0, 1.0) == 0.2
    assert optimizer.momentum == 0.0
