"""Attributions against Captum, differences and completeness; permutation importance against what was put in."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.explain import METHODS, attribute, permutation_importance
from tests.support.cli_cases import Command, assert_mistake, iris_like
from tests.support.tolerances import assert_close

X = np.random.default_rng(0).normal(size=(7, 6))


def layers() -> list[Any]:
    inner = [fcnn.Dense(5, activation="tanh"), fcnn.BatchNorm(), fcnn.Dropout(0.5)]
    return [*inner, fcnn.Residual([fcnn.Dense(5, activation="gelu")]), fcnn.Dense(3)]


def network(**options: Any) -> fcnn.Sequential:
    given: dict[str, Any] = {"seed": 1, "dtype": "float64", "backend": "numpy"} | options
    model = fcnn.Sequential(layers(), n_in=6, **given)
    rng = np.random.default_rng(4)
    for array in model.statistics().values():
        model.ops.assign(array, model.ops.asarray(rng.uniform(0.5, 2.0, array.shape).astype(model.dtype)))
    return model


@given(
    st.integers(1, 6),
    st.integers(1, 5),
    st.sampled_from(["tanh", "sigmoid", "gelu", "softplus"]),
    st.integers(0, 2**16),
    st.sampled_from([None, "loss", 0]),
)
@settings(max_examples=30, deadline=None)
def test_integrated_gradients_are_complete(n_in: int, n: int, activation: str, seed: int, target: Any) -> None:
    rng = np.random.default_rng(seed)
    stack = [fcnn.Dense(7, activation=activation), fcnn.Dense(2)]
    model = fcnn.Sequential(stack, n_in, seed=seed, dtype="float64", backend="numpy")
    x, baseline = rng.normal(size=(n, n_in)), rng.normal(size=n_in)
    found = attribute(model, x, rng.integers(0, 2, n), target=target, baseline=baseline, steps=40)
    error = found.completeness_error
    assert error is not None
    np.testing.assert_allclose(error, 0.0, atol=1e-7)
    raw = [model(points) for points in (x, np.tile(baseline, (n, 1)))]
    if target == 0:
        np.testing.assert_allclose(found.values.sum(axis=1), (raw[0] - raw[1])[:, 0], atol=1e-7)


def test_too_few_steps_show_in_the_error() -> None:
    model = network()
    errors = [attribute(model, 5 * X, target=0, steps=steps).completeness_error for steps in (2, 50)]
    assert errors[0] is not None
    assert errors[1] is not None
    assert np.abs(errors[0]).max() > 100 * np.abs(errors[1]).max()


def test_all_methods_agree_on_a_linear_function() -> None:
    model = fcnn.Sequential([fcnn.Dense(3)], 6, seed=0, dtype="float64", backend="numpy")
    W = np.asarray(model.layers[0].W)  # type: ignore[attr-defined]
    for method in METHODS[1:]:
        assert_close(attribute(model, X, method=method, target=1).values, X * W[1], "sum", method)
    assert_close(attribute(model, X, method="gradient", target=1).values, np.tile(W[1], (7, 1)), "sum")


@pytest.mark.parametrize("target", [2, "loss"])
def test_gradients_are_those_of_differences(target: Any) -> None:
    model, y, h = network(), np.arange(7) % 3, 1e-6
    found = attribute(model, X, y, method="gradient", target=target)
    for i in range(6):
        e = h * np.eye(6)[i]
        outputs = [attribute(model, X + s * e, y, method="gradient", target=target).outputs for s in (1, -1)]
        np.testing.assert_allclose(found.values[:, i], (outputs[0] - outputs[1]) / (2 * h), rtol=1e-5, atol=1e-8)


@pytest.mark.torch
@pytest.mark.parametrize("target", [0, [0, 1, 2, 2, 1, 0, 0]], ids=str)
def test_against_captum(target: Any) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    captum = pytest.importorskip("captum.attr", reason="Captum is not installed")
    from tests.support.torch_equivalents import to_torch

    model = network()
    module, inputs = to_torch(model).eval(), torch.tensor(X, requires_grad=True)
    baseline = np.linspace(-1, 1, 6)
    theirs = torch.tensor(baseline[None])
    mask = torch.tensor([[0, 0, 1, 2, 2, 2]])
    expected = {
        "gradient": captum.Saliency(module).attribute(inputs, target=target, abs=False),
        "gradient_x_input": captum.InputXGradient(module).attribute(inputs, target=target),
        "integrated_gradients": captum.IntegratedGradients(module).attribute(
            inputs, theirs, target, n_steps=20, method="gausslegendre"
        ),
        "occlusion": captum.FeatureAblation(module).attribute(inputs, theirs, target),
        "groups": captum.FeatureAblation(module).attribute(inputs, theirs, target, feature_mask=mask),
    }
    for name, values in expected.items():
        options: dict[str, Any] = {"method": "occlusion" if name == "groups" else name, "steps": 20}
        options |= {"groups": mask.numpy()[0]} if name == "groups" else {}
        found = attribute(model, X, target=target, baseline=baseline, **options)
        np.testing.assert_allclose(found.values, values.detach().numpy(), rtol=1e-8, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("method", METHODS)
def test_every_backend_has_the_same_in_batches_of_any_size(other_ops: Ops, method: str) -> None:
    expected = attribute(network(), X, method=method, target=1, steps=5)
    found = attribute(network(dtype="float32", backend=other_ops), X, method=method, target=1, steps=5, batch_size=3)
    assert_close(found.values.astype(np.float32), expected.values, "training")
    assert_close(found.outputs.astype(np.float32), expected.outputs, "training")


def test_inputs_far_from_0_and_bytes() -> None:
    near = network()
    far = network(input_center=np.full(6, 1e9), output_center=[1e6, 0.0, 0.0])
    expected, found = (attribute(m, x, baseline=b) for m, x, b in ((near, X, 0.0), (far, X + 1e9, 1e9)))
    # X + 1e9 lies up to 6e-8 beside the number that is meant.
    np.testing.assert_allclose(found.values[:, 0], attribute(near, X, target=0).values[:, 0], atol=1e-6)
    assert found.targets is not None
    assert (found.targets == 0).all()
    assert expected.values.shape == found.values.shape
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6), dtype=np.uint8)
    scaled = attribute(network(input_scale=1 / 255), pixels, target=1)
    np.testing.assert_allclose(scaled.values, attribute(near, pixels / 255, target=1).values, atol=1e-10)


def test_an_ensemble_has_the_mean_of_its_members() -> None:
    models = [fcnn.Sequential([fcnn.Dense(4, "tanh"), fcnn.Dense(2)], 6, seed=i, dtype="float64") for i in range(3)]
    joined = fcnn.Sequential.join_members(models)
    found = attribute(joined, X, target=1).values
    np.testing.assert_allclose(found, np.mean([attribute(m, X, target=1).values for m in models], axis=0), atol=1e-12)


def test_what_is_refused() -> None:
    model = network()
    for options, message in (
        ({"method": "lime"}, "does not know 'lime'"),
        ({"target": 3}, "there is no output 3; the network has 3, from 0 to 2"),
        ({"target": -1}, "there is no output -1"),
        ({"target": "oak"}, r"there is no output 'oak'\. Known: loss, 0, 1, 2"),
        ({"target": [0, 1]}, "one for each of the 7 samples"),
        ({"target": "loss"}, "target='loss' needs y"),
        ({"baseline": [0.0, 1.0]}, r"one for each of the 6 features, got shape \(2,\)"),
        ({"baseline": np.nan}, "not finite"),
        ({"groups": [0] * 6}, "groups. is for method='occlusion'"),
        ({"groups": [0], "method": "occlusion"}, "a whole number for each of the 6 features"),
        ({"steps": 0}, "steps"),
    ):
        with pytest.raises(ValueError, match=message):
            attribute(model, X, **options)
    tables = fcnn.Sequential([fcnn.Embedding([0], 3, 2), fcnn.Dense(2)], 2, seed=0, backend="numpy")
    with pytest.raises(ValueError, match="looks up categories"):
        attribute(tables, [[1.0, 0.5]])
    assert attribute(tables, [[1.0, 0.5]], method="occlusion", baseline=0.0).values.shape == (1, 2)


class TestPictures:
    @pytest.fixture(autouse=True)
    def needs_matplotlib(self) -> None:
        pytest.importorskip("matplotlib")

    def test_bars_have_the_names_of_the_features(self, tmp_path: Path) -> None:
        model = network()
        names = ("age", "a_1", "$^$", "town", "x", "y")
        model.signature = fcnn.Signature(names, ("ash", "elm", "oak"))
        found = attribute(model, X, target="elm")
        axes = found.plot(2, most=4).axes[0]
        order = np.argsort(np.abs(found.values[2]))[-4:]
        assert [label.get_text() for label in axes.get_yticklabels()] == [names[i] for i in order]
        assert axes.get_xlabel() == "integrated_gradients, elm (2 smaller ones are not shown)"
        found.save(tmp_path / "bars.svg")
        assert (tmp_path / "bars.svg").stat().st_size > 1000
        with pytest.raises(ValueError, match="there is no sample 7; there are 7"):
            found.plot(7)
        assert "completeness" in str(found)

    def test_images_are_pictures(self) -> None:
        model = network()
        model.info["feature_shape"] = [2, 3]
        found = attribute(model, X, target=0)
        np.testing.assert_array_equal(found.plot(1).axes[0].images[0].get_array(), found.values[1].reshape(2, 3))
        np.testing.assert_array_equal(found.plot().axes[0].images[0].get_array(), found.mean_absolute.reshape(2, 3))


class TestPermutation:
    def trained(self) -> tuple[fcnn.Sequential, HostArray, HostArray]:
        """A network that sees the first of three columns, and nothing else."""
        model = fcnn.Sequential([fcnn.Dense(1)], 3, seed=0, dtype="float64", backend="numpy", input_center=[9.0, 0, 0])
        model.layers[0].W[...] = [[2.0, 0.0, 0.0]]  # type: ignore[attr-defined]
        fcnn.Trainer(model, loss="mse")
        x = np.random.default_rng(0).normal(size=(200, 3))
        return model, x, 2 * (x[:, 0] - 9.0)

    def test_the_loss_grows_where_a_column_counts(self) -> None:
        model, x, y = self.trained()
        found = permutation_importance(model, x, y, n_repeats=4)
        assert found.values.shape == (3, 4)
        assert found.score == pytest.approx(0.0, abs=1e-12)
        np.testing.assert_allclose(found.values[1:], 0.0, atol=1e-12)
        assert found.mean[0] == pytest.approx(2 * 4 * x[:, 0].var(), rel=0.2)  # E(2a − 2a′)² of independent a, a′
        again = permutation_importance(model, x, y, n_repeats=4)
        np.testing.assert_array_equal(again.values, found.values)
        assert str(found).splitlines()[1].startswith("  0  ")  # the largest first

    def test_a_score_of_ones_own_and_columns_by_name(self) -> None:
        pandas = pytest.importorskip("pandas")
        pytest.importorskip("matplotlib")
        model, x, y = self.trained()
        model.signature = fcnn.Signature(("a", "b", "c"))
        table = pandas.DataFrame(x, columns=["a", "b", "c"])[["c", "a", "b"]]
        found = permutation_importance(model, table, y, score=lambda p, y: -np.abs(p[:, 0] - y).mean(), n_repeats=2)
        assert found.names == ["a", "b", "c"]
        assert found.mean.argmax() == 0
        assert found.mean[1:].max() == pytest.approx(0.0, abs=1e-12)
        assert len(found.plot(most=2).axes[0].patches) == 2

    def test_one_sample_cannot_be_shuffled(self) -> None:
        model, x, y = self.trained()
        with pytest.raises(ValueError, match="at least 2 samples to shuffle, got 1"):
            permutation_importance(model, x[:1], y[:1])


def bars_of(out: str) -> dict[str, tuple[float, int]]:
    """{name: (number, signed length of its bar)} of what was printed."""
    found = re.finditer(r"^  (\S.*?)  +([−\d.e]+)(?: ± \S+)? +(█*)│(█*)", out, re.MULTILINE)
    return {m[1]: (float(m[2].replace("−", "-")), len(m[4]) - len(m[3])) for m in found}


class TestCommand:
    def test_of_an_image(self, command: Command, tmp_path: Path) -> None:
        run = tmp_path / "run"
        assert command("train", "--data", "digits", "--epochs", 1, "--out", run, "--no-progress")[0] == 0
        data, model = fcnn.datasets.load("digits"), fcnn.load(run)
        asked = ("explain", run, "--row", 3, "--output", "7", "--attribution")
        found = attribute(model, data.X_test[3:4], method="occlusion", target=7)
        code, out, _ = command(*asked, "occlusion", "--json")
        assert code == 0
        shown = json.loads(out)
        assert (shown["of"], shown["value"]) == ("7", found.outputs[0])
        assert [x["value"] for x in shown["inputs"]] == found.values[0].tolist()
        code, out, _ = command(*asked, "occlusion", "--most", 64)
        bars = bars_of(out)
        assert sorted(bars) == sorted(found.names)
        for i, name in enumerate(found.names):
            number, length = bars[name]
            assert number == pytest.approx(found.values[0, i], rel=1e-3, abs=1e-12)
            assert length == round(abs(number) / np.abs(found.values).max() * 16) * np.sign(number)
        row, column = map(int, next(iter(bars)).split(", "))
        picture = re.search(r"((?:^.*\n){8})\n *occlusion, 7$", out, re.MULTILINE)
        assert picture is not None
        assert picture[1].splitlines()[row][2 * column] in "█#"  # the largest one
        for name in ("page.html", "picture.png", "picture.svg"):
            if not name.endswith("html"):
                pytest.importorskip("matplotlib")
            assert command(*asked, "gradient", "--out", tmp_path / name)[:2] == (0, f"Wrote {tmp_path / name}\n")
        page = (tmp_path / "page.html").read_text(encoding="utf-8")
        assert page.count('class="length"') == 15
        assert "49 smaller ones are not shown" in page
        assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
        for wrong, said in (
            (("--attribution", "gradent"), "Did you mean 'gradient'"),
            (("--attribution", "permutation", "--row", 1), "--row has no meaning with --attribution permutation"),
            (
                ("--attribution", "gradient", "--baseline", "mean"),
                "--baseline is for integrated_gradients and occlusion",
            ),
            (("--attribution", "gradient", "--lr", 1), "--lr has no meaning with --attribution"),
            (("--attribution", "gradient", "--json", "--out", "a.html"), "Give one of --html, --out and --json"),
            (("--attribution", "gradient", "--output", "x"), "--output expects a number from 0 to 9"),
            (("--attribution", "gradient", "--html", "a.png"), "a page of attributions is called FILE.html"),
            (("--json",), "--json has no meaning without --attribution"),
            (("--out", "a.png"), "an explanation is a page"),
        ):
            assert_mistake(command("explain", run, *wrong), said)

    def test_of_a_table(self, command: Command, tmp_path: Path) -> None:
        table = iris_like(tmp_path / "iris.csv") or tmp_path / "iris.csv"
        train = ("--data", table, "--preset", "plain", "--epochs", 20, "--out", tmp_path / "run", "--no-progress")
        assert command("train", *train)[0] == 0
        asked = ("explain", tmp_path / "run", "--attribution")
        code, out, _ = command(*asked, "permutation")
        assert code == 0
        printed = {name: number for name, (number, _) in bars_of(out).items()}
        shown = json.loads(command(*asked, "permutation", "--json")[1])
        assert printed == pytest.approx({x["name"]: x["mean"] for x in shown["columns"]}, rel=1e-3)
        shown = json.loads(command(*asked, "integrated_gradients", "--json", "--row", 5, "--output", "loss")[1])
        assert sum(x["value"] for x in shown["inputs"]) == pytest.approx(
            shown["value"] - shown["baseline_value"], rel=1e-2
        )
        assert_mistake(command(*asked, "occlusion", "--baseline", "mean"), "zero is their mean")

    def test_numbers_are_compared_with_their_mean(self, command: Command, tmp_path: Path) -> None:
        model = network()
        rows = 100 + np.random.default_rng(0).normal(size=(9, 6))
        np.savez(tmp_path / "data.npz", X=rows, y=np.arange(9) % 3)
        fcnn.Trainer(model).fit(rows, np.arange(9) % 3, epochs=1, progress=False)
        model.save(path := tmp_path / "model.fcnn")
        asked = ("explain", path, "--data", tmp_path / "data.npz", "--attribution", "occlusion", "--json")
        by_mean, by_zero = (json.loads(command(*asked, *more)[1]) for more in ((), ("--baseline", "zero")))
        expected = attribute(model, rows[:1], method="occlusion", baseline=rows.mean(axis=0))
        assert [x["value"] for x in by_mean["inputs"]] == pytest.approx(expected.values[0].tolist(), rel=1e-3)
        assert by_zero["baseline_value"] != by_mean["baseline_value"]
