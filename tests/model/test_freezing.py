"""Frozen parameters: they stay as they are to the bit, and all others learn as PyTorch's do."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.gradient_check import check_model
from fcnn_gpu.optimizers import Optimizer
from fcnn_gpu.training import History
from tests.conftest import compiled_ops, emulated_ops
from tests.support import placement_cases
from tests.support.placement_cases import stored_network
from tests.support.registry_cases import LAYER_CASES, LayerCase
from tests.support.tolerances import TRAJECTORY

from ..cuda_on_cpu import missing_compiler

needs_compiler = pytest.mark.skipif(missing_compiler() is not None, reason=str(missing_compiler()))
BACKENDS: dict[str, Callable[[], Ops]] = {"numpy": Ops, "cpu": compiled_ops, "kernels": emulated_ops}
EACH_BACKEND = [pytest.param(name, marks=needs_compiler) if name == "kernels" else name for name in BACKENDS]
OPTIMIZERS: dict[str, Callable[[], Optimizer]] = {
    "sgd": lambda: fcnn.SGD(0.05, momentum=0.9, clip_norm=0.5),
    "adamw": lambda: fcnn.AdamW(0.01, weight_decay=0.3, decay_all=True, rate_factors={"2.*": 2}),
    "rmsprop": lambda: fcnn.RMSprop(0.01, momentum=0.5),
    "adagrad": lambda: fcnn.Adagrad(0.1),
    "muon": lambda: fcnn.Muon(0.01, clip_norm=0.5, rate_factors={"2.*": 2}),
}
N = 24
X = np.random.default_rng(0).normal(size=(N, 4))
Y = np.random.default_rng(1).integers(0, 3, N)


def network(backend: Any = "numpy", **options: Any) -> fcnn.Sequential:
    layers = [
        fcnn.Dense(7, l2=0.01),
        fcnn.BatchNorm(),
        fcnn.Dense(5, "tanh", l1=0.01),
        fcnn.Residual([fcnn.Dense(6, "gelu")]),
        fcnn.Dense(3, l2=0.01),
    ]
    return fcnn.Sequential(layers, n_in=4, **{"seed": 3, "backend": backend, "dtype": "float64"} | options)


def fit(model: fcnn.Sequential, optimizer: Optimizer, epochs: int = 2, **options: Any) -> History:
    return fcnn.Trainer(model, "cross_entropy", optimizer).fit(X, Y, epochs=epochs, **{"batch_size": 8} | options)


def arrays(model: fcnn.Sequential) -> dict[str, HostArray]:
    return {name: np.array(model.ops.to_numpy(array)) for name, array in model.named_arrays().items()}


@pytest.mark.parametrize("backend", EACH_BACKEND)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_frozen_stay_and_all_others_learn_alike_on_every_backend(optimizer: str, backend: str) -> None:
    """Weights between weights that learn, biases and both of BatchNorm's: several stretches of the flat buffers."""
    found = []
    for ops in (Ops(), BACKENDS[backend]()):
        model = network(ops)
        before = arrays(model)
        model.freeze("0.*", model.layers[1], "3.block.0.W", "2.b")
        fit(model, OPTIMIZERS[optimizer]())
        after = arrays(model)
        statistics = ["1.running_mean", "1.running_var"]
        for name in before:
            stays = name in [*model.frozen, *statistics]
            assert np.array_equal(before[name], after[name]) == stays, name
        gradients = model.ops.to_numpy(model.flat.gradients)
        for name in model.frozen:
            assert not gradients[model.flat.places[name]].any(), name
        found.append(after)
    for name, expected in found[0].items():
        np.testing.assert_allclose(found[1][name], expected, rtol=1e-7, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fine_tuning_is_pytorch_s(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    from tests.support.torch_equivalents import to_torch

    model = network(dtype=dtype)
    fit(model, fcnn.SGD(0.1))  # running statistics of its own
    module = to_torch(model)
    model.freeze(*model.layers[:3])
    for frozen in list(module)[:4]:
        frozen.requires_grad_(False)
    module.train()
    for m in module:
        if isinstance(m, torch.nn.BatchNorm1d):
            m.eval()
    learning = [p for p in module.parameters() if p.requires_grad]
    weights = [p for p in learning if p.ndim == 2]
    optimizer = torch.optim.AdamW(
        [
            {"params": weights, "weight_decay": 0.1},
            {"params": [p for p in learning if p.ndim != 2], "weight_decay": 0.0},
        ],
        lr=0.01,
    )
    x, y = torch.tensor(X, dtype=getattr(torch, dtype)), torch.tensor(Y)
    for _ in range(5):
        optimizer.zero_grad()
        penalty = 0.01 * module.get_parameter(f"{len(module) - 1}.weight").square().sum()
        (torch.nn.functional.cross_entropy(module(x), y) + penalty).backward()
        torch.nn.utils.clip_grad_norm_(learning, 0.2)
        optimizer.step()
    fit(model, fcnn.AdamW(0.01, weight_decay=0.1, clip_norm=0.2), epochs=5, batch_size=N, shuffle=False)
    expected = module.eval()(x).detach().numpy()
    np.testing.assert_allclose(model(X), expected, rtol=0, atol=TRAJECTORY[dtype] * np.abs(expected).max())


def test_freezing_and_setting_free_again_leaves_no_trace() -> None:
    found = []
    for touched in (False, True):
        model, optimizer = network("cpu"), fcnn.AdamW(0.01)
        optimizer.bind(model)
        if touched:
            model.freeze("*")
            model.unfreeze("*")
        fit(model, optimizer)
        found.append((model.config(), arrays(model), model.flat.segments))
    np.testing.assert_equal(found[0], found[1])


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_layers_are_set_free_one_after_the_other_in_one_run(backend: str) -> None:
    """The steps that were captured are made anew, and moments go on from where they were."""

    class Unfreeze(fcnn.callbacks.Callback):
        def on_epoch_end(self, trainer: fcnn.Trainer, record: Any) -> None:
            if trainer.epochs_trained == 2:
                trainer.model.unfreeze("2.*")

    whole, parts = network(backend), network(backend)
    for model in (whole, parts):
        model.freeze("0.*", "1.*", "2.*")
    fit(whole, fcnn.Adam(0.01), epochs=4, callbacks=[Unfreeze()], shuffle=False)
    optimizer = fcnn.Adam(0.01)
    fit(parts, optimizer, shuffle=False)
    before = arrays(parts)
    assert not optimizer.state["m"][parts.flat.places["2.W"]].any()
    parts.unfreeze("2.*")
    fit(parts, optimizer, shuffle=False)
    np.testing.assert_equal(arrays(whole), arrays(parts))
    assert next(n for n, x in arrays(parts).items() if not np.array_equal(x, before[n])) == "2.W"


class Counting(Ops):
    """Counts products."""

    n_products = 0

    def gemm(self, *args: Any, **options: Any) -> None:
        self.n_products += 1
        super().gemm(*args, **options)


@pytest.mark.parametrize(
    ("frozen", "n"),
    [
        ([], 3 + 5),
        (["0.*"], 3 + 3),  # dW and dA₀ of the others but the lowest that learns
        (["0.*", "1.*"], 3 + 1),
        (["2.*"], 3 + 4),  # in the middle dA₀ alone
        (["1.W", "2.W"], 3 + 3),
    ],
)
def test_products_that_nobody_needs_are_left_out(frozen: list[str], n: int) -> None:
    ops = Counting()
    model = fcnn.Sequential([fcnn.Dense(5, "tanh"), fcnn.Dense(4, "relu"), fcnn.Dense(3)], 4, seed=0, backend=ops)
    if frozen:
        model.freeze(*frozen)
    loss = fcnn.CrossEntropy()
    loss.forward(model.forward(X, training=True), Y)
    model.backward(loss.backward())
    assert ops.n_products == n


def network_of(case: LayerCase) -> tuple[fcnn.Sequential, list[str]]:
    """A network with the layer in it, and the names of the layer's parameters."""
    layers = [*case.before(), case.make(), fcnn.Dense(2)]
    model = fcnn.Sequential(layers, case.n_in, seed=0, dtype="float64", backend="numpy")
    return model, [name for name in model.named_parameters() if name.startswith(f"{len(layers) - 2}.")]


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=f"{kind} {case.label}")
        for kind, cases in LAYER_CASES.items()
        for case in cases
        if network_of(case)[1]
    ],
)
def test_every_layer_with_some_of_its_parameters_frozen(case: LayerCase) -> None:
    """Each parameter by itself, and all: the gradients of the others and of X are right, that of the frozen is 0."""
    names = network_of(case)[1]
    for frozen in (*([name] for name in names), names):
        model = network_of(case)[0]
        model.freeze(*frozen)
        inputs = case.inputs(np.random.default_rng(0), 5)
        if model.frozen == names:
            model.forward(inputs, training=True)  # statistics of BatchNorm stay
        assert check_model(model, "mse", inputs, np.ones((5, 2)), max_entries=4, n_directions=1).passed
        before, y = arrays(model), np.ones((5, 2))
        fcnn.Trainer(model, "mse", fcnn.AdamW(0.01, decay_all=True)).fit(inputs, y, epochs=1)
        for name in model.frozen:
            assert np.array_equal(before[name], arrays(model)[name])
            assert not np.asarray(model.flat.gradients[model.flat.places[name]]).any()


def test_batch_norm_that_is_frozen_computes_as_at_inference() -> None:
    norm = fcnn.BatchNorm()
    model = fcnn.Sequential([norm, fcnn.Dense(3)], 4, seed=0, backend="numpy", dtype="float64")
    norm.running_mean[...] = 0.5
    norm.running_var[...] = 3.0
    with pytest.raises(ValueError, match="one sample"):
        model.forward(X[:1], training=True)
    model.freeze("0.gamma")
    assert not np.allclose(model.forward(X, training=True), model(X))
    model.restore(model.snapshot() | {"0.running_mean": np.full((4, 1), 0.5), "0.running_var": np.full((4, 1), 3.0)})
    model.freeze(model.layers[0])
    np.testing.assert_array_equal(model.forward(X, training=True), model(X))
    model.forward(X[:1], training=True)
    assert (norm.running_var == 3.0).all()
    fit(model, fcnn.Adam(), micro_batch_size=3)  # and samples do not depend on each other any more
    model.unfreeze("0.beta")
    with pytest.raises(ValueError, match="micro_batch_size"):
        fit(model, fcnn.Adam(), micro_batch_size=3)


@pytest.mark.parametrize("every", [2, True])
def test_recomputation_gives_the_same_bits(every: bool | int) -> None:
    found = []
    for kept in (False, every):
        model = network(recompute=kept)
        model.freeze("1.*", "2.W", "3.*")
        fit(model, fcnn.Adam(0.01))
        found.append(arrays(model))
    np.testing.assert_equal(found[0], found[1])


def test_a_penalty_of_frozen_weights_is_no_part_of_the_objective() -> None:
    model = network()
    whole = model.penalty()
    model.freeze("0.W")
    assert model.penalty() == pytest.approx(whole - 0.01 * float((model.named_arrays()["0.W"] ** 2).sum()))
    model.freeze("*")
    assert model.penalty() == 0.0
    assert not model.has_penalty


@pytest.mark.parametrize("place", placement_cases.PLACES)
def test_weights_on_the_host_or_on_disk(place: str) -> None:
    model = stored_network(place, 7)
    assert model.stored is not None
    names = list(model.stored.names)
    model.freeze(names[0])
    before = {name: np.array(model.named_arrays()[name][:]) for name in names}
    trained = placement_cases.fit(model, fcnn.AdamW(0.01, weight_decay=0.5, clip_norm=0.1)).model
    for name in names:
        assert np.array_equal(before[name], trained.named_arrays()[name][:]) == (name == names[0]), name
    assert copy.deepcopy(model).frozen == names[:1]
    assert model.memory_report(8).total > 0


def test_what_is_made_of_a_network_has_its_frozen_parameters(tmp_path: Path) -> None:
    model = network()
    model.freeze("0.*", "3.projection.W")
    frozen = ["0.W", "0.b", "3.projection.W"]
    model.save(tmp_path / "m.safetensors")
    for made in (
        fcnn.load(tmp_path / "m.safetensors"),
        copy.deepcopy(model),
        fcnn.Sequential.from_config(model.config()),
    ):
        assert made.frozen == frozen
        assert made.n_trainable == model.n_trainable < made.n_parameters
        before = arrays(made)
        fit(made, fcnn.Adam(0.1))
        assert [n for n in made.named_parameters() if np.array_equal(before[n], arrays(made)[n])] == frozen
    joined = fcnn.Sequential.join_members([model, network(seed=5), model])
    assert joined.frozen == [f"0.branches.{i}.{name}" for i in (0, 2) for name in frozen]
    assert joined.select_members([1, 2]).frozen == [f"0.branches.1.{name}" for name in frozen]
    model.unfreeze("*")
    assert "frozen" not in model.config()


def test_the_summary_says_what_learns(capsys: pytest.CaptureFixture[str]) -> None:
    model = network()
    model.freeze("0.W")
    model.summary()
    shown = capsys.readouterr().out
    assert "W 7×4 frozen, b 7×1" in shown
    assert f"{model.n_parameters - 28} learn, 28 are frozen" in shown


def test_lbfgs_leaves_frozen_parameters_where_they_are() -> None:
    model = network()
    model.freeze("0.*", "1.*", "3.block.0.b")
    before = arrays(model)
    history = fcnn.Trainer(model, "cross_entropy", fcnn.LBFGS()).fit(X, Y, epochs=5)
    assert history.records[-1]["loss"] < history.records[0]["loss"]
    same = [name for name in model.named_parameters() if np.array_equal(before[name], arrays(model)[name])]
    assert same == model.frozen


def test_what_cannot_be_frozen_is_refused() -> None:
    model = network()
    with pytest.raises(TypeError, match=r"model\.freeze expects layers or patterns"):
        model.freeze()
    with pytest.raises(TypeError, match=r"model\.unfreeze expects layers or patterns .* got 3"):
        model.unfreeze(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"'9\.\*' stands for no parameter .*0\.W, 0\.b"):
        model.freeze("0.W", "9.*")
    with pytest.raises(ValueError, match="no layer of this network"):
        model.freeze(fcnn.Dense(3))
    assert model.frozen == []
    for frozen in ("0.W", [1], ["7.W"]):
        with pytest.raises((TypeError, ValueError), match="frozen"):
            fcnn.Sequential.from_config(model.config() | {"frozen": frozen})
    model.freeze("*")
    with pytest.raises(ValueError, match="all parameters of the network are frozen"):
        fit(model, fcnn.Adam())
