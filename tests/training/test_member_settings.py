"""Settings of each member, of an optimizer and of dropout: each trains as a network with those settings by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.layers import LAYERS
from fcnn_gpu.optimizers import OPTIMIZERS

from ..support.tolerances import assert_close

K, N_IN = 3, 4
RATES, DECAYS = [0.25, 1.0, 2.0], [2.0, 0.0, 0.5]

rng = np.random.default_rng(0)
X, y = rng.normal(size=(40, N_IN)), rng.integers(0, 3, 40)


def own_layers() -> list[Any]:
    return [
        fcnn.Members(K),
        fcnn.Scale(),
        fcnn.DenseEnsemble(5, K, "gelu"),
        fcnn.BatchNorm(),
        fcnn.PReLU(),
        fcnn.Residual([fcnn.DenseEnsemble(5, K, "tanh"), fcnn.ParametricActivation("selu")]),
        fcnn.DenseEnsemble(3, K),
    ]


def trained(model: fcnn.Sequential, optimizer: fcnn.optimizers.Optimizer) -> dict[str, HostArray]:
    """The parameters after some steps on Σ_g L_g, of which each member has the gradients of a network by itself."""
    optimizer.bind(model)
    k = model.n_out // 3
    loss = fcnn.EnsembleLoss("cross_entropy", k)
    for _ in range(4):
        loss.forward(model.forward(X, training=True), y)
        model.backward(loss.backward() * k)
        optimizer.step()
    return {name: np.array(model.ops.to_numpy(p.value)) for name, p in model.named_parameters().items()}


OPTIMIZER_OF: dict[str, Callable[..., fcnn.optimizers.Optimizer]] = {
    "sgd": lambda **given: fcnn.SGD(0.1, momentum=0.5, **given),
    "adam": lambda **given: fcnn.Adam(0.02, **given),
    "adamw": lambda **given: fcnn.AdamW(0.02, weight_decay=0.5, **given),
    "rmsprop": lambda **given: fcnn.RMSprop(0.01, **given),
    "adagrad": lambda **given: fcnn.Adagrad(0.05, weight_decay=0.5, **given),
    "nadam": lambda **given: fcnn.NAdam(0.02, weight_decay=0.5, **given),
    "radam": lambda **given: fcnn.RAdam(0.02, weight_decay=0.5, **given),
    "adamax": lambda **given: fcnn.Adamax(0.02, weight_decay=0.5, **given),
    "adadelta": lambda **given: fcnn.Adadelta(0.5, weight_decay=0.5, **given),
    "lion": lambda **given: fcnn.Lion(0.003, weight_decay=0.5, **given),
    "muon": lambda **given: fcnn.Muon(0.02, 0.5, orthogonalize=["*.W"], **given),
}


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_each_member_trains_by_its_own(ops: Ops, name: str) -> None:
    make = OPTIMIZER_OF[name]
    given: dict[str, Any] = {"rate_factors": {"*": RATES}, "decay_factors": {"*.W": DECAYS, "*.b": [0.0, 1.0, 0.5]}}
    model = fcnn.Sequential(own_layers(), n_in=N_IN, seed=0, dtype="float64", backend=ops)
    singles = [model.select_members([g]) for g in range(K)]
    together = trained(model, make(**given))
    for g, alone in enumerate(singles):
        decays = {"*.W": DECAYS[g], "*.b": [0.0, 1.0, 0.5][g]}
        settings: dict[str, Any] = {"rate_factors": {"*": RATES[g]}, "decay_factors": decays}
        expected = trained(alone, make(**settings))
        for parameter, value in expected.items():
            whole = together[parameter]
            own = whole.reshape(len(whole), K, -1)[:, g] if parameter.endswith(".W") else whole.reshape(K, -1)[g]
            assert_close(own.reshape(value.shape), value, "training", f"{parameter} of member {g}")


def test_dropout_of_each_member(ops: Ops) -> None:
    """The masks of a layer with one p are those of the member with that p; whole batches, parts, recorded or not."""
    rates = [0.5, 0.0, 0.2]

    def network(p: Any) -> fcnn.Sequential:
        layers = [fcnn.Members(K), fcnn.Dropout(p), fcnn.DenseEnsemble(3, K, "tanh")]
        return fcnn.Sequential(layers, n_in=N_IN, seed=5, dtype="float64", backend=ops)

    def run(p: Any, **options: Any) -> HostArray:
        model = network(p)
        trainer = fcnn.Trainer(model, fcnn.EnsembleLoss("cross_entropy", K), fcnn.SGD(0.3), seed=1)
        trainer.fit(X, y, epochs=2, batch_size=16, progress=False, **options)
        return np.array(ops.to_numpy(model.layers[2].W)).reshape(3, K, N_IN)  # type: ignore[attr-defined]

    together = run(rates)
    for g, p in enumerate(rates):
        assert_close(together[:, g], run(p)[:, g], "training", f"member {g}")
    np.testing.assert_array_equal(run(rates, capture=False), together)
    assert_close(run(rates, micro_batch_size=5), together, "training")
    model = network(rates)
    model.members = K
    some = model.select_members([2, 0])
    assert some.layers[1].p == (0.2, 0.5)  # type: ignore[attr-defined]
    assert model.memory_report(16).total > 0


def test_dropout_of_members_changes_and_is_plain_data() -> None:
    layer = fcnn.Dropout(np.array([0.5, 0.25]))
    assert repr(layer) == "Dropout([0.5, 0.25])"
    assert LAYERS.config(layer) == {"name": "dropout", "p": [0.5, 0.25]}
    model = fcnn.Sequential([layer, fcnn.Dense(1)], n_in=4, seed=0, backend="numpy")
    trainer = fcnn.Trainer(model, "mse")
    trainer.fit(X, X[:, 0], epochs=1, progress=False)
    n_changes = model.n_changes
    layer.p = [0.0, 0.0]
    assert model.n_changes > n_changes
    A = np.array(model.forward(X, training=True))
    np.testing.assert_allclose(A, model(X), rtol=1e-6)
    layer.p = 0.5
    assert (np.asarray(model.forward(X, training=True)) != A).any()
    with pytest.raises(ValueError, match="numbers for 3 members, and 4 units are not so many times anything"):
        layer.p = [0.1, 0.2, 0.3]
    with pytest.raises(ValueError, match="numbers for 3 members, and 4 units"):
        fcnn.Sequential([fcnn.Dropout([0.1, 0.2, 0.3])], n_in=4, backend="numpy")
    with pytest.raises(ValueError, match=r"Dropout\(p\) of member 1"):
        fcnn.Dropout([0.1, 1.0])
    with pytest.raises(ValueError, match="got an empty list"):
        fcnn.Dropout([])
    other = [fcnn.Members(2), fcnn.Dropout([0.1] * 4), fcnn.DenseEnsemble(1, 2)]
    with pytest.raises(ValueError, match=r"Dropout\(.*mixes the units of several members"):
        fcnn.Sequential(other, n_in=4, backend="numpy").select_members([0])


def test_what_members_share_has_one_number(device_ops: Ops) -> None:
    layers = [fcnn.Dense(4), fcnn.Members(K), fcnn.BatchEnsemble(3, K)]
    model = fcnn.Sequential(layers, n_in=N_IN, seed=0, dtype="float32", backend=device_ops)
    before = {name: np.array(device_ops.to_numpy(x)) for name, x in model.named_arrays().items()}
    factors = {"2.[rsb]": [0.0, 1.0, 0.0]}
    trainer = fcnn.Trainer(model, fcnn.EnsembleLoss("cross_entropy", K), fcnn.Adam(0.01, rate_factors=factors))
    trainer.fit(X, y, epochs=2, batch_size=16, progress=False)
    for name, array in before.items():
        changed = (device_ops.to_numpy(model.named_arrays()[name]) != array).ravel()
        if name in ("2.r", "2.s", "2.b"):
            assert [bool(part.any()) for part in changed.reshape(K, -1)] == [False, True, False]
        else:
            assert changed.any()


def test_a_list_is_plain_data_and_makes_segments() -> None:
    optimizer: Any = fcnn.AdamW(0.1, rate_factors={"*": np.array([1, 3])}, decay_factors={"*.W": (0.5, 2)})
    config = OPTIMIZERS.config(optimizer)
    assert config["rate_factors"] == {"*": [1.0, 3.0]}
    assert OPTIMIZERS.build(config) == optimizer
    model = fcnn.Sequential([fcnn.DenseEnsemble(2, 2)], n_in=4, seed=0, backend="numpy")
    optimizer.bind(model)
    weights, biases = (model.flat.places[f"0.{name}"] for name in "Wb")
    treated = optimizer._require()[1].segments
    assert [(s.start, s.stop, s.rate, s.decay) for s in treated] == [
        (0, 4, 1.0, 0.5),
        (4, weights.stop, 3.0, 2.0),
        (biases.start, biases.start + 2, 1.0, 0.0),
        (biases.start + 2, biases.stop, 3.0, 0.0),
    ]


def test_what_is_refused() -> None:
    adam: Any = fcnn.Adam
    with pytest.raises(ValueError, match=r"rate_factors\): '\*' of member 1"):
        adam(rate_factors={"*": [1, -1]})
    with pytest.raises(ValueError, match="one for each member of an ensemble, got an empty list"):
        adam(rate_factors={"*": []})
    with pytest.raises(TypeError, match="rate_factors"):
        adam(rate_factors={"*": "fast"})
    layers = [fcnn.Dense(4), fcnn.Members(K), fcnn.BatchEnsemble(3, K), fcnn.DenseEnsemble(2, K)]
    model = fcnn.Sequential(layers, n_in=N_IN, backend="numpy")
    with pytest.raises(ValueError, match=r"for 3 members, and 0.W has no part for each of several.*3.W \(3\)"):
        adam(rate_factors={"*": RATES}).bind(model)
    with pytest.raises(ValueError, match=r"for 3 members, and 2.W has no part"):
        adam(rate_factors={"2.*": RATES}).bind(model)
    with pytest.raises(ValueError, match=r"for 2 members, and 3.b has parts of 3 members"):
        adam(rate_factors={"3.b": [1, 2]}).bind(model)
    adam(rate_factors={"*": RATES, "[02].W": 1, "0.b": 0}).bind(model)
    with pytest.raises(ValueError, match=r"AdamW\(decay_factors\): there are factors for 3 members"):
        fcnn.AdamW(decay_factors={"0.b": RATES}).bind(model)
    mixed = fcnn.Sequential([fcnn.Members(K), fcnn.Dense(6), fcnn.Scale()], n_in=N_IN, backend="numpy")
    with pytest.raises(ValueError, match=r"1.W has no part for each of several members\. Parameters that have: none"):
        adam(rate_factors={"*": RATES}).bind(mixed)
