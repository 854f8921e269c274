"""The presets beside their authors' own libraries: the same inputs, and from the same draws the same weights.

Binary categories have the other sign there: their first value is +1, here it is −1. Weights are drawn symmetrically.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu import TabularClassifier, TabularRegressor
from fcnn_gpu._types import HostArray
from fcnn_gpu.callbacks import Callback
from fcnn_gpu.data._device_data import epoch_order
from fcnn_gpu.estimators._recipes import RECIPES, RealMLP
from fcnn_gpu.schedules import CosLog4, FlatCos
from fcnn_gpu.tables import TablePreparation

torch: Any = pytest.importorskip("torch")
pandas: Any = pytest.importorskip("pandas")
with warnings.catch_warnings():  # of what PyTorch is going to take away
    warnings.simplefilter("ignore")
    pytest.importorskip("pytabkit")
    tabm: Any = pytest.importorskip("tabm")
    from pytabkit.models.data.conversion import ToDictDatasetConverter
    from pytabkit.models.data.data import DictDataset, TensorInfo
    from pytabkit.models.nn_models.models import PreprocessingFactory
    from pytabkit.models.realmlp import model as their_model
    from pytabkit.models.realmlp import train as their_training
    from pytabkit.models.sklearn.default_params import DefaultParams

SEED, N, EPOCHS, BATCH, WIDTH = 5, 203, 4, 32, 12
TASKS = ["classification", "regression"]
SETTINGS: dict[str, Any] = {
    "hidden_layer_sizes": (WIDTH, WIDTH),
    "epochs": EPOCHS,
    "batch_size": BATCH,
    "dropout": 0.0,
    "random_state": SEED,
    "dtype": "float64",
}


def table(n: int, seed: int) -> dict[str, Any]:
    """Numbers that float32 has exactly, one of them mostly 0, and categories of 2, 4, 8, 9 and 14 values, with gaps."""
    rng = np.random.default_rng(seed)

    def words(n_values: int, gaps: float) -> HostArray:
        drawn = np.minimum(rng.geometric(1.3 / n_values, n), n_values) - 1
        drawn[:n_values] = range(n_values)
        missing = np.arange(n) >= n_values
        missing &= rng.random(n) < gaps
        return np.array([None if gap else f"v{i:02}" for i, gap in zip(drawn, missing, strict=True)], object)

    return {
        "size": np.round(rng.normal(size=n) * 64 + 300) / 32,
        "skewed": np.round(rng.gamma(0.4, 900.0, n)) / 64,
        "rare": np.where(rng.random(n) < 0.85, 0.0, np.round(rng.normal(size=n) * 8) / 8),
        "ends": words(2, 0.1),
        "kind": words(4, 0.0),
        "eight": words(8, 0.05),
        "nine": words(9, 0.0),
        "town": words(14, 0.1),
    }


def targets(rows: dict[str, Any], task: str) -> Any:
    """Values that float32 has exactly, cut off so that predictions overshoot; or three classes, not equally large."""
    noise = np.random.default_rng(9).normal(size=len(rows["size"]))
    values = rows["size"] + 2.0 * (rows["kind"] == "v01") - 3.0 * (rows["town"] == "v02") + noise
    if task == "classification":
        return np.digitize(values, np.quantile(values, [0.5, 0.8]))
    return np.round(np.clip(values, *np.quantile(values, [0.3, 0.6])) * 64) / 64


@pytest.fixture(scope="module")
def data() -> Any:
    """Training, validation and fresh rows, which have unknown values; and the same as the authors' library has them."""
    train, held_out, fresh = table(N, 0), table(60, 1), table(50, 2)
    for column in fresh.values():
        column[:4] = "never seen" if column.dtype == object else [-1000.0, 1000.0, 0.25, 7.0]
    parts = [train, held_out, fresh]
    converter = ToDictDatasetConverter()
    theirs = [converter.fit_transform(pandas.DataFrame(train))]
    theirs += [converter.transform(pandas.DataFrame(part)) for part in parts[1:]]
    return SimpleNamespace(parts=parts, theirs=theirs, sizes=theirs[0].tensor_infos["x_cat"].get_cat_sizes().tolist())


# Inputs


@pytest.mark.parametrize(("preset", "published"), [("default", "RealMLP_TD_CLASS"), ("fast", "RealMLP_TD_S_CLASS")])
def test_inputs(preset: str, published: str, data: Any) -> None:
    """Those of the pipeline that RealMLP_TD_Classifier and RealMLP_TD_S_Classifier have."""
    constants = dict(getattr(DefaultParams, published))
    constants["tfms"] = [step for step in constants["tfms"] if step != "embedding"]
    label = DictDataset({"y": torch.zeros(N, 1, dtype=torch.long)}, {"y": TensorInfo(cat_sizes=[2])})
    joined = DictDataset.join(data.theirs[0], label)
    transform, _ = PreprocessingFactory(**constants).create(joined.tensor_infos).fit_transform(joined)
    preparation = TablePreparation(**RECIPES[preset]["classification"].preparation, dtype="float64").fit(data.parts[0])
    names = preparation.get_feature_names_out().tolist()
    signs = np.array([-1.0 if name.startswith("ends") else 1.0 for name in names])
    for ours, theirs in zip(data.parts, data.theirs, strict=True):
        expected = transform(DictDataset.join(theirs, label)).tensors
        inputs = preparation.transform(ours) * signs
        codes = expected["x_cat"].numpy() if "x_cat" in expected else np.empty((len(inputs), 0))
        assert codes.shape[1] == (2 if preset == "default" else 0)
        np.testing.assert_allclose(inputs, np.hstack([expected["x_cont"].numpy(), codes]), rtol=2e-6, atol=2e-7)
    assert preparation.numbers_ == [0, 1, 2], "what PBLD embeds"


def test_inputs_as_their_network_makes_them(data: Any) -> None:
    """RealMLP in one module has a pipeline of its own."""
    x_num, x_cat = data.theirs[0].tensors["x_cont"], data.theirs[0].tensors["x_cat"]
    network = their_model.RealMLP(3, data.sizes, 2, 1, their_model.RealMLPConfig.td_class(), True)
    made = network.input_features(x_num, x_cat)
    median, scale = their_training.compute_input_stats(made, torch.arange(N)[None])
    scaled = (made - median[0]) * scale[0]
    scaled = scaled / (1 + scaled.square() / 9).sqrt()
    preparation = TablePreparation(**RECIPES["default"]["regression"].preparation).fit(data.parts[0])
    inputs = preparation.transform(data.parts[0])
    inputs[:, 3] *= -1
    np.testing.assert_allclose(inputs[:, :-2], scaled.numpy(), rtol=1e-5, atol=1e-6)
    assert [len(inputs.T), inputs[:, -1].max()] == [3 + 1 + 4 + 8 + 2, 14]


# Constants


@pytest.mark.parametrize("task", TASKS)
def test_constants(task: str) -> None:
    suffix = {"classification": "CLASS", "regression": "REG"}[task]
    for preset, name in (("default", "RealMLP_TD"), ("fast", "RealMLP_TD_S")):
        theirs, ours = getattr(DefaultParams, f"{name}_{suffix}"), RECIPES[preset][task]
        optimizer = ours.optimizer([])
        assert list(ours.hidden_layer_sizes) == theirs["hidden_sizes"]
        assert ours.activation == theirs["act"]
        assert ours.epochs == theirs["n_epochs"] or preset == "fast"  # the only one that trains for a shorter time
        assert ours.learned_shape == theirs.get("use_parametric_act", False)
        assert ours.from_data == (theirs["weight_init_mode"] == "std") == (theirs["bias_init_mode"] == "he+5")
        assert optimizer.learning_rate == CosLog4(theirs["lr"])
        assert (theirs["lr_sched"], optimizer.beta2) == ("coslog4", theirs["sq_mom"])
        wd = theirs.get("wd", 0.0)
        assert optimizer.weight_decay == (FlatCos(wd) if wd else 0.0)
        assert ours.dropout == theirs.get("p_drop", 0.0)
        assert ours.label_smoothing == (theirs["ls_eps"] if theirs.get("use_ls") else 0.0)
        if preset == "default":
            assert theirs["wd_sched"] == theirs["p_drop_sched"] == "flat_cos"
            values = ours.preparation["max_one_hot"]  # and that of gaps
            assert (values + 1, 8) == (theirs["max_one_hot_cat_size"], theirs["embedding_size"])


# RealMLP


def their_config(preset: str, task: str) -> Any:
    """Theirs of the same sizes; the short form is what is left of it."""
    config = their_model.RealMLPConfig
    sizes = {"hidden_sizes": [WIDTH, WIDTH], "n_epochs": EPOCHS, "batch_size": BATCH, "p_drop": 0.0}
    if preset == "fast":
        short = {"num_emb_type": "none", "use_parametric_act": False, "wd": 0.0, "max_one_hot_cat_size": 10**9}
        sizes |= short | {"lr": RECIPES["fast"][task].learning_rate}
    return config.td_class(**sizes) if task == "classification" else config.td_reg(**sizes)


def layers_by_kind(layers: list[Any]) -> Any:
    found: dict[str, list[Any]] = {}
    for layer in layers:
        found.setdefault(type(layer).__name__, []).append(layer)
    return SimpleNamespace(
        embedding=(found.get("Embedding") or [None])[0],
        pbld=(found.get("PBLD") or [None])[0],
        scale=found["Scale"][0],
        dense=found["Dense"],
        shapes=found.get("ParametricActivation", []),
    )


class Correspondence:
    """Which of their parameters is which of ours: they have other orders of inputs and of axes."""

    def __init__(self, preparation: TablePreparation) -> None:
        one_hot = [i for i, n in enumerate(preparation.get_feature_names_out()) if "=" in n]
        numbers, codes = preparation.numbers_, list(preparation.cardinalities_)
        waves = [("wave", f, j) for f in numbers for j in range(3)] if codes else []
        embedded = [("code", c, j) for c in range(len(codes)) for j in range(8)]
        themselves, columns = [("number", f) for f in numbers], [("column", i) for i in one_hot]
        theirs: list[Any] = [*waves, *themselves, *columns, *embedded]
        ours: list[Any] = [*themselves, *columns]
        if codes:
            ours = [key for f in numbers for key in (*(("wave", f, j) for j in range(3)), ("number", f))]
            ours += [*embedded, *columns]
        self.inputs = [ours.index(key) for key in theirs]
        binary = list(preparation.get_feature_names_out()).index("ends=v01")
        self.signs = np.array([[-1.0 if key == ("column", binary) else 1.0] for key in theirs])

    def first(self, W: HostArray) -> HostArray:
        """Our first layer's weights (n_out, n_in) as theirs, (n_in, n_out)."""
        return W[:, self.inputs].T * self.signs

    def parameters(self, layers: list[Any]) -> dict[str, HostArray]:
        """Our parameters by their names, in their shapes."""
        of = layers_by_kind(layers)
        found = {"mlp.0.scale": of.scale.s[self.inputs].T}
        for i, dense in enumerate(of.dense):
            found[f"mlp.{1 + 4 * i}.weight"] = self.first(dense.W) if i == 0 else dense.W.T
            found[f"mlp.{2 + 4 * i}.bias"] = dense.b.T
        for i, shape in enumerate(of.shapes):
            found[f"mlp.{3 + 4 * i}.weight"] = shape.alphas.T
        if of.pbld is not None:
            n = of.pbld.w.shape[1]
            found["plr_weight_1"], found["plr_bias_1"] = of.pbld.w.T[:, None], of.pbld.phase.T[:, None]
            found["plr_weight_2"] = np.stack([of.pbld.W[:, 16 * f : 16 * (f + 1)].T for f in range(n)])
            found["plr_bias_2"] = of.pbld.b.T[:, None]
            found["cat_emb"] = of.embedding.E.reshape(-1, 8)
        return {name: np.array(array)[None] for name, array in found.items()}


NEVER_MISSING = {"num_missing", "plr_missing"}
"""What they learn for gaps in numbers, of which these tables have none."""


class TheirRun:
    """`pytabkit.models.realmlp.fit` with our draws of batches and first weights, and what its parameters were."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, network: fcnn.Sequential, same: Correspondence) -> None:
        self.parameters: list[dict[str, HostArray]] = []
        self._network, self._same, self._epoch = network, same, 0
        self.drawn = same.parameters(network.layers)
        monkeypatch.setattr(their_training, "batches", self._batches)
        monkeypatch.setattr(their_training, "RealMLP", self._build)
        predict = their_training.predict_idxs

        def watched(model: Any, *arguments: Any) -> Any:
            self.parameters.append({n: p.detach().numpy().copy() for n, p in model.named_parameters()})
            return predict(model, *arguments)

        monkeypatch.setattr(their_training, "predict_idxs", watched)
        measure = their_training.compute_metric
        monkeypatch.setattr(their_training, "compute_metric", lambda *given: measure(*given).double())
        if network.awaits_data:
            self._give_draws(monkeypatch)
        else:
            for part in (their_model.Weight, their_model.Bias):
                monkeypatch.setattr(part, "initialize", lambda layer, x: None)

    def _batches(
        self, tensors: Any, idxs: Any, size: int, shuffle: bool = False, drop_last: bool = False
    ) -> Iterator[Any]:
        order = torch.arange(idxs.shape[1])
        if shuffle:  # the first call is for the first weights, and takes a single batch
            order = torch.tensor(epoch_order(len(order), SEED, max(self._epoch - 1, 0), True))
            self._epoch += 1
        for start in range(0, len(order) - len(order) % size if drop_last else len(order), size):
            rows = idxs[:, order[start : start + size]]
            yield {name: tensor[rows] for name, tensor in tensors.items()}

    def _build(self, *arguments: Any) -> Any:
        model = their_model.RealMLP(*arguments)
        theirs = dict(model.named_parameters())
        assert set(theirs) - set(self.drawn) <= NEVER_MISSING | {"cat_emb"}
        with torch.no_grad():
            for name, array in self.drawn.items():
                theirs[name].copy_(torch.tensor(array).reshape(theirs[name].shape))
        return model

    def _give_draws(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What our layers draw when they see the first batch, for theirs to draw when they do."""
        dense = layers_by_kind(self._network.layers).dense
        weights = [self._same.first(dense[0].W), *(layer.W.T for layer in dense[1:])]
        normal = iter([np.array(W)[None] for W in weights])
        generators = [np.random.default_rng(layer._data_seeds[1]) for layer in dense]
        chosen = iter([rng.integers(0, BATCH, (1, d.n_out, 5)) for rng, d in zip(generators, dense, strict=True)])
        shares = iter([rng.standard_exponential((1, d.n_out, 5)) for rng, d in zip(generators, dense, strict=True)])
        monkeypatch.setattr(torch, "randn_like", lambda like: torch.tensor(next(normal)).reshape(like.shape))
        monkeypatch.setattr(
            torch, "randint", lambda low, high, shape, device: torch.tensor(next(chosen)).reshape(shape)
        )
        exponential = SimpleNamespace(sample=lambda shape: torch.tensor(next(shares)).reshape(shape))
        monkeypatch.setattr(torch.distributions, "Exponential", lambda rate: exponential)


@pytest.fixture
def in_float64() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("backend", ["numpy", "cpu"])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("preset", ["default", "fast"])
def test_realmlp(preset: str, task: str, backend: str, data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole runs of both: every parameter after every epoch, the best epoch, and predictions of fresh rows."""
    (train, held_out, fresh), n_out = data.parts, 3 if task == "classification" else 1
    y, y_held_out = (targets(rows, task) for rows in (train, held_out))
    recipe: RealMLP = dataclasses.replace(RECIPES[preset][task], hidden_layer_sizes=(WIDTH, WIDTH), dropout=0.0)
    preparation = TablePreparation(**recipe.preparation, dtype="float64").fit(train)
    same = Correspondence(preparation)
    twin = fcnn.Sequential(
        recipe.layers(preparation, n_out), preparation.n_outputs_, seed=SEED, backend="numpy", dtype="float64"
    )
    theirs = TheirRun(monkeypatch, twin, same)
    x_num, x_cat = (torch.cat([part.tensors[x] for part in data.theirs[:2]]) for x in ("x_cont", "x_cat"))
    network, found = their_training.fit(
        their_config(preset, task),
        x_num,
        x_cat,
        data.sizes,
        torch.tensor(np.concatenate([y, y_held_out]))[:, None],
        torch.arange(N)[None],
        torch.arange(N, N + len(y_held_out))[None],
        n_classes=n_out if n_out > 1 else 0,
    )
    ours: list[dict[str, HostArray]] = []

    class Watches(Callback):
        def on_epoch_end(self, trainer: fcnn.Trainer, record: dict[str, float]) -> None:
            ours.append(same.parameters(trainer.model.layers))

    settings = SETTINGS | {"backend": backend, "callbacks": [Watches()]}
    if task == "classification":
        estimator: Any = TabularClassifier(preset, calibrate=False, **settings)
    else:
        estimator = TabularRegressor(preset, **settings)
    estimator.fit(train, y, validation_data=(held_out, y_held_out))
    assert len(ours) == len(theirs.parameters) == EPOCHS
    for epoch, (actual, expected) in enumerate(zip(ours, theirs.parameters, strict=True)):
        for name, array in actual.items():
            np.testing.assert_allclose(
                array.reshape(expected[name].shape), expected[name], rtol=1e-4, atol=1e-5, err_msg=f"{name}, {epoch}"
            )
    for name, array in ours[-1].items():
        assert np.abs(array - theirs.drawn[name]).max() > 1e-4, f"{name} has not moved"
    assert [estimator.best_epoch_] == found["best_epochs"][0]
    their_fresh = (data.theirs[2].tensors[x] for x in ("x_cont", "x_cat"))
    predicted = their_training.predict(network, *their_fresh)[0].numpy()
    if task == "classification":
        P = np.exp(predicted) / np.exp(predicted).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(estimator.predict_proba(fresh), P, rtol=1e-3, atol=1e-5)
    else:
        assert {y.min(), y.max()} <= set(predicted[:, 0]), "none is kept within the range"
        np.testing.assert_allclose(estimator.predict(fresh), predicted[:, 0], rtol=1e-4)


# TabM


def as_tabm_has_them(layers: list[Any], k: int) -> dict[str, HostArray]:
    """Our parameters by their names, in their shapes."""
    found, blocks, head = {}, [layer for layer in layers if isinstance(layer, fcnn.BatchEnsemble)], layers[-1]
    for i, block in enumerate(blocks):
        found[f"backbone.blocks.{i}.0.weight"] = np.array(block.W)
        for theirs, ours in (("r", block.r), ("s", block.s), ("bias", block.b)):
            found[f"backbone.blocks.{i}.0.{theirs}"] = np.array(ours).reshape(k, -1)
    n_out = len(head.W)
    found["output.weight"] = np.array(head.W).reshape(n_out, k, -1).transpose(1, 2, 0)
    found["output.bias"] = np.array(head.b).reshape(k, n_out)
    return found


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("backend", ["numpy", "cpu"])
@pytest.mark.parametrize("task", TASKS)
def test_tabm(task: str, backend: str, data: Any) -> None:
    """A whole run beside the authors' network, trained as in their example: weights, best epoch, predictions."""
    train, held_out, fresh = ({n: rows[n] for n in ("size", "skewed", "rare", "kind", "nine")} for rows in data.parts)
    fresh = {name: column[4:] for name, column in fresh.items()}  # it takes no unknown values
    y, y_held_out = (targets(rows, task) for rows in data.parts[:2])
    n_out, k, names = 3 if task == "classification" else 1, 32, ("kind", "nine")
    recipe = dataclasses.replace(RECIPES["tabm"][task], hidden_layer_sizes=(WIDTH,) * 3, dropout=0.0)
    preparation = TablePreparation(**recipe.preparation, dtype="float64").fit(train)
    assert preparation.n_outputs_ == 3 + 4 + 9
    twin = fcnn.Sequential(recipe.layers(preparation, n_out), 16, seed=SEED, backend="numpy", dtype="float64")
    drawn = as_tabm_has_them(twin.layers, k)
    network = tabm.TabM.make(n_num_features=3, cat_cardinalities=[4, 9], d_out=n_out, d_block=WIDTH, dropout=0.0)
    theirs = dict(network.named_parameters())
    assert set(theirs) == set(drawn)
    for r in (drawn["backbone.blocks.0.0.r"], theirs["backbone.blocks.0.0.r"].detach().numpy()):
        assert set(np.abs(r).ravel()) == {1.0}
        assert all(len(set(row[3:7])) == len(set(row[7:])) == 1 for row in r), "a sign for each feature"
        assert np.abs(r.mean(axis=0)).max() < 1
    with torch.no_grad():
        for name, array in drawn.items():
            theirs[name].copy_(torch.tensor(array))

    def batch_of(rows: dict[str, Any]) -> tuple[Any, Any]:
        codes = np.stack([[int(word[1:]) for word in rows[name]] for name in names], axis=1)
        return torch.tensor(preparation.transform(rows)[:, :3]), torch.tensor(codes)

    def predicted(rows: dict[str, Any]) -> HostArray:
        with torch.no_grad():
            Z = network(*batch_of(rows))
        return (Z.softmax(dim=2).mean(dim=1) if n_out > 1 else Z.mean(dim=1) * std + mean).numpy()

    mean, std = (y.mean(), y.std()) if n_out == 1 else (0.0, 1.0)
    x_num, x_cat = batch_of(train)
    truth = torch.tensor((y - mean) / std if n_out == 1 else y)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=3e-4)
    expected, scores = [], []
    for epoch in range(EPOCHS):
        for rows in torch.tensor(epoch_order(N, SEED, epoch, True)).split(BATCH):
            Z, t = network(x_num[rows], x_cat[rows]).flatten(0, 1), truth[rows].repeat_interleave(k)
            measure = torch.nn.functional.cross_entropy if n_out > 1 else torch.nn.functional.mse_loss
            loss = measure(Z if n_out > 1 else Z[:, 0], t)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
        expected.append({name: p.detach().numpy().copy() for name, p in theirs.items()})
        P = predicted(held_out)
        if n_out > 1:
            scores.append((P.argmax(axis=1) == y_held_out).mean())
        else:
            scores.append(-np.square(P[:, 0].clip(y.min(), y.max()) - y_held_out).mean())

    ours: list[dict[str, HostArray]] = []

    class Watches(Callback):
        def on_epoch_end(self, trainer: fcnn.Trainer, record: dict[str, float]) -> None:
            ours.append(as_tabm_has_them(trainer.model.layers, k))

    settings = SETTINGS | {"hidden_layer_sizes": (WIDTH,) * 3, "backend": backend, "callbacks": [Watches()]}
    if task == "classification":
        estimator: Any = TabularClassifier("tabm", calibrate=False, **settings)
    else:
        estimator = TabularRegressor("tabm", **settings)
    estimator.fit(train, y, validation_data=(held_out, y_held_out))
    for epoch, (actual, of_epoch) in enumerate(zip(ours, expected, strict=True)):
        for name, array in actual.items():
            np.testing.assert_allclose(array, of_epoch[name], rtol=1e-6, atol=1e-8, err_msg=f"{name}, {epoch}")
    best = int(np.argmax(scores))
    assert estimator.best_epoch_ == best + 1
    with torch.no_grad():
        for name, array in expected[best].items():
            theirs[name].copy_(torch.tensor(array))
    if task == "classification":
        np.testing.assert_allclose(estimator.predict_proba(fresh), predicted(fresh), rtol=1e-5)
    else:
        inside = predicted(fresh)[:, 0].clip(y.min(), y.max())  # theirs may leave the range of the targets
        np.testing.assert_allclose(estimator.predict(fresh), inside, rtol=1e-5)
