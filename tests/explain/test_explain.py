"""model.explain: the numbers of real passes, against their own factors, PyTorch and differences, and what is shown."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from math import sqrt
from pathlib import Path
from typing import Any, cast
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.activations import ACTIVATIONS
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.explain import Explanation, _formulas
from fcnn_gpu.explain._mathml import mathml
from fcnn_gpu.layers import LAYERS
from fcnn_gpu.losses import LOSSES
from tests.support.cli_cases import Command, assert_mistake, iris_like
from tests.support.registry_cases import LAYER_CASES, LayerCase, LossCase, labelled
from tests.support.tolerances import assert_close


def network(case: LayerCase, **options: Any) -> tuple[fcnn.Sequential, HostArray]:
    """A network with the layer in it, whose running statistics are not those that it starts with, and a sample."""
    layers = [*case.before(), case.make(), fcnn.Dense(3, l2=0.01)]
    n_in = case.n_in if case.n_categories else 5
    given: dict[str, Any] = {"seed": 1, "dtype": "float64", "backend": "numpy"} | options
    model = fcnn.Sequential(layers, n_in, **given)
    rng = np.random.default_rng(0)
    for array in model.statistics().values():
        model.ops.assign(array, model.ops.asarray(rng.uniform(0.5, 2.0, array.shape).astype(model.dtype)))
    return model, case.inputs(rng, 1, n_in).astype(model.dtype)


def small(**options: Any) -> fcnn.Sequential:
    layers = [fcnn.Dense(4, activation="tanh"), fcnn.Dropout(0.5), fcnn.Dense(3)]
    given: dict[str, Any] = {"seed": 0, "dtype": "float64", "backend": "numpy"} | options
    return fcnn.Sequential(layers, n_in=6, **given)


X = np.random.default_rng(3).normal(size=6)


class TestNumbers:
    @given(
        st.lists(st.integers(1, 9), min_size=2, max_size=4),
        st.sampled_from(["relu", "gelu", "sigmoid", "identity", "softmax"]),
        st.booleans(),
        st.sampled_from(["standard", "ntk"]),
    )
    @settings(max_examples=25, deadline=None)
    def test_are_what_their_own_factors_give(
        self, widths: list[int], activation: str, bias: bool, parametrization: str
    ) -> None:
        layers = [fcnn.Dense(n, activation, bias=bias, parametrization=parametrization) for n in widths[1:]]
        model = fcnn.Sequential(layers, widths[0], seed=0, dtype="float64", backend="numpy")
        rng = np.random.default_rng(1)
        made = model.explain(rng.normal(size=widths[0]), rng.normal(size=widths[-1]), loss="mse")
        for of in made.layers:
            gain = of.layer.gain
            assert_close(of.Z, gain * of.W @ of.A0 + (of.b if bias else 0), "sum")
            assert_close(of.dW, gain * of.dZ @ of.A0.T, "sum")
            assert_close(of.dA0, gain * of.W.T @ of.dZ, "sum")
            if bias:
                assert_close(of.db, of.dZ, "sum")
            step = 1e-6
            f = type(model)([activation], len(of.A), dtype="float64", backend="numpy")
            if activation in ("gelu", "sigmoid"):
                slope = (f(of.Z.T + step) - f(of.Z.T - step)) / (2 * step)
                np.testing.assert_allclose(of.dZ, of.dA * slope.T, rtol=1e-6, atol=1e-8)
        for before, after in itertools.pairwise(made.layers):
            np.testing.assert_array_equal(before.A, after.A0)
            np.testing.assert_array_equal(before.dA, after.dA0)
        np.testing.assert_array_equal(made.layers[-1].dA[:, 0], made.dZ)

    def test_the_input_gradient_is_that_of_differences(self) -> None:
        model, step = small(), 1e-6
        made = model.explain(X, 2)
        for i in range(len(X)):
            e = step * np.eye(len(X))[i]
            numeric = (model.explain(X + e, 2).value - model.explain(X - e, 2).value) / (2 * step)
            assert made.input_gradient[i] == pytest.approx(numeric, rel=1e-6, abs=1e-9)

    def test_are_those_of_inference(self) -> None:
        model = small()
        made = model.explain(X, 0)
        assert_close(made.outputs, model(X[None])[0], "sum")
        np.testing.assert_array_equal(made.layers[1].A, made.layers[1].A0)  # nothing is dropped
        assert "M" not in made.layers[1].arrays

    def test_in_training_units_are_dropped(self) -> None:
        made = small(seed=2).explain(X, 0, training=True)
        dropped = made.layers[1]
        np.testing.assert_allclose(dropped.A, 2 * dropped.A0 * (dropped.M != 0))
        np.testing.assert_allclose(dropped.dA0, 2 * dropped.dA * (dropped.M != 0))
        assert made.training
        assert 0 < dropped.M.sum() < dropped.M.size

    def test_shares_of_a_linear_network_are_its_output(self) -> None:
        model = fcnn.Sequential([fcnn.Dense(4, bias=False), fcnn.Dense(3, bias=False)], 6, seed=0, backend="numpy")
        made = model.explain(X, 1, output=2)
        assert made.layers[0].share.sum() == pytest.approx(made.outputs[2], rel=1e-5)

    def test_nothing_of_the_network_changes(self) -> None:
        model = fcnn.Sequential([fcnn.Dense(4), fcnn.BatchNorm(), fcnn.Dropout(0.5)], 6, seed=0, backend="numpy")
        Y = model.forward(np.stack([X, X + 1]), training=True)
        before = {name: array.copy() for name, array in model.named_arrays().items()}, model.random_step.copy()
        shown = Y.copy()
        model.explain(X, 1, optimizer="adam")
        np.testing.assert_array_equal(Y, shown)
        for name, array in model.named_arrays().items():
            np.testing.assert_array_equal(array, before[0][name])
        assert model.random_step == before[1]
        assert cast(Any, model.layers[2]).p == 0.5
        model.backward(np.ones_like(Y))  # the pass that was begun can still end

    @pytest.mark.parametrize("case", [cases[-1] for cases in LAYER_CASES.values()], ids=list(LAYER_CASES))
    def test_every_backend_has_the_same(self, other_ops: Ops, case: LayerCase) -> None:
        first, x = network(case, dtype="float32")
        second, _ = network(case, dtype="float32", backend=other_ops)
        ours, theirs = first.explain(x, 1, optimizer="adam"), second.explain(x, 1, optimizer="adam")
        assert_close(np.float32(theirs.value), ours.value, "training")
        for a, b in zip(ours.layers, theirs.layers, strict=True):
            for key, array in a.arrays.items():
                assert_close(b.arrays[key], array, "training", f"{a.path} {key}")
        for key, updated in ours.updates.items():
            assert_close(theirs.updates[key].gradient, updated.gradient, "training", key)


@pytest.mark.torch
class TestAgainstPyTorch:
    @pytest.fixture(autouse=True)
    def torch(self) -> Iterator[Any]:
        torch = pytest.importorskip("torch", reason="PyTorch is not installed")
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield torch
        torch.set_num_threads(threads)

    def compare(self, torch: Any, model: fcnn.Sequential, x: HostArray, y: Any, loss: Any, optimizer: Any) -> None:
        from tests.support import torch_equivalents as equivalents

        made = model.explain(x, y[0], loss=loss, optimizer=optimizer)
        module = equivalents.to_torch(model).eval()
        theirs = equivalents.to_torch_optimizer(optimizer, module)
        inputs = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        value = equivalents.data_loss(loss, module(inputs), equivalents.targets_to_torch(y, torch.float64), None)
        assert made.value == pytest.approx(value.item(), rel=1e-10, abs=1e-12)
        (slope,) = torch.autograd.grad(value, inputs, retain_graph=True)
        np.testing.assert_allclose(made.input_gradient, slope.numpy()[0], rtol=1e-9, atol=1e-12)
        equivalents.torch_step(model, module, loss, optimizer, theirs, x, y)
        from fcnn_gpu.model._save_and_load import torch_state

        state = module.state_dict()
        for name, array in torch_state(made.model).items():
            np.testing.assert_allclose(array, state[name].numpy(), rtol=1e-9, atol=1e-11, err_msg=name)

    @pytest.mark.parametrize(("name", "case"), labelled("layer"))
    def test_layers(self, torch: Any, name: str, case: LayerCase) -> None:
        self.compare(torch, *network(case), np.array([2]), fcnn.CrossEntropy(), fcnn.SGD(0.1))

    @pytest.mark.parametrize(("name", "case"), labelled("loss"))
    def test_losses(self, torch: Any, name: str, case: LossCase) -> None:
        layers = [fcnn.Dense(4, activation="gelu"), fcnn.Dense(case.n_outputs)]
        model = fcnn.Sequential(layers, 6, seed=0, dtype="float64", backend="numpy")
        y = case.targets(np.random.default_rng(5), 1)
        self.compare(torch, model, X[None], y, case.loss, fcnn.SGD(0.1))
        assert model.explain(X, y[0], loss=case.loss).sections()

    @pytest.mark.parametrize(("name", "make"), labelled("optimizer"))
    @pytest.mark.parametrize("clip", [{}, {"clip_norm": 0.1}, {"clip_value": 0.05}], ids=str)
    def test_optimizers(self, torch: Any, name: str, make: Callable[..., Any], clip: dict[str, float]) -> None:
        model = fcnn.Sequential([fcnn.Dense(4, "tanh", l2=0.1), fcnn.Dense(3)], 6, seed=0, dtype="float64")
        self.compare(torch, model, X[None], np.array([1]), fcnn.CrossEntropy(), make(**clip))


class TestRequests:
    def test_what_is_refused(self) -> None:
        model = small()
        with pytest.raises(ValueError, match=r"^explain expects one sample, got 2\. Take one of them, such as X\[:1\]"):
            model.explain(np.stack([X, X]), 0)
        with pytest.raises(ValueError, match="there is no output 3; the network has 3, from 0 to 2"):
            model.explain(X, 0, output=3)
        with pytest.raises(TypeError, match=r"explain\(training\) expects True or False"):
            model.explain(X, 0, training=1)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="labels"):
            model.explain(X, 7, loss="cross_entropy")
        normed = fcnn.Sequential([fcnn.BatchNorm(), fcnn.Dense(2)], 6, seed=0, backend="numpy")
        with pytest.raises(ValueError, match="cannot train on a batch of one sample"):
            normed.explain(X, 0, training=True)
        with pytest.raises(
            AttributeError, match=r"^Layer 0 of an explanation has no 'Q'; it has A0, Z, A, dA, dZ, dA0"
        ):
            _ = model.explain(X, 0).layers[0].Q

    def test_a_class_by_name(self) -> None:
        model = small()
        model.signature = fcnn.Signature(class_names=("ash", "elm", "oak"))
        assert model.explain(X, "oak").value == model.explain(X, 2).value
        with pytest.raises(ValueError, match="there is no class 'fir'; the classes are ash, elm, oak"):
            model.explain(X, "fir")

    def test_values_far_from_0(self) -> None:
        layers = [fcnn.Dense(3, activation="tanh"), fcnn.Dense(1)]
        model = fcnn.Sequential(layers, 6, seed=0, backend="numpy", output_center=[1e6])
        made = model.explain(X, 1e6 + 2.0, loss="mse")
        assert made.value == pytest.approx((float(model(X[None])[0, 0]) - 1e6 - 2.0) ** 2, rel=1e-5)
        assert made.outputs[0] == pytest.approx(model(X[None])[0, 0])

    def test_an_ensemble(self) -> None:
        layers = [fcnn.Members(2), fcnn.BatchEnsemble(4, 2, "relu"), fcnn.DenseEnsemble(3, 2)]
        model = fcnn.Sequential(layers, 6, seed=0, dtype="float64", backend="numpy")
        fcnn.Trainer(model, loss=fcnn.EnsembleLoss("cross_entropy", 2))
        made = model.explain(X, 1)
        p = model.predict_members(X[None])[0, :, 1]
        assert made.value == pytest.approx(-np.log(p).mean())
        assert "dY = s ⊙ dZ" in str(made)
        assert "L = (1/k) Σ_g L_g" in str(made)


def shown(explanation: Explanation, most: int) -> str:
    console = Console(width=80)
    with console.capture() as capture:
        explanation.show(most, console)
    return capture.get()


class TestWhatIsShown:
    def test_a_large_network_fits_the_terminal(self) -> None:
        model = fcnn.Sequential([fcnn.Dense(128, activation="relu"), fcnn.Dense(10)], 784, seed=0, backend="numpy")
        model.info["feature_shape"] = [28, 28]
        made = model.explain(np.random.default_rng(0).uniform(size=784), 3)
        text = str(made)
        assert max(map(len, text.splitlines())) <= 80
        assert len(text.splitlines()) < 360
        assert "776 more" in text
        assert "120 more" in text
        first = made.layers[0]
        top = int(np.abs(first.share[:, 0]).argmax())
        assert re.search(rf"Unit {top}: z = Σ_k w_k a₀_k \+ b", text)
        assert len(shown(made, 2).splitlines()) < len(shown(made, 8).splitlines())

    def test_the_terms_of_a_sum_and_what_is_left_out_make_z(self) -> None:
        model = fcnn.Sequential([fcnn.Dense(2, activation="relu"), fcnn.Dense(3)], 30, seed=0, backend="numpy")
        made = model.explain(np.random.default_rng(0).normal(size=30), 1)
        grids = [block for section in made.sections(4) for block in section.blocks if hasattr(block, "sums")]
        checked = 0
        for grid in grids:
            if grid.sums and re.match(r"(Unit|Input) .* = Σ", grid.title):
                terms = [row[-1] for row in (*grid.rows, *grid.sums)]
                names = [row[0] for row in grid.sums]
                end = len(grid.rows) + next(i for i, name in enumerate(names) if name in ("z", "a", "da₀"))
                values = [float(term.replace("−", "-")) for term in terms]
                assert sum(values[:end]) == pytest.approx(values[end], abs=2e-3)
                checked += 1
        assert checked == 6  # a unit of the first layer, three of the second, and an input of each

    @pytest.mark.parametrize(("name", "case"), labelled("layer"))
    def test_every_layer(self, name: str, case: LayerCase) -> None:
        made = network(case)[0].explain(network(case)[1], 1)
        page = ElementTree.fromstring(made.html().partition("\n")[2])
        headings = ["".join(h.itertext()) for level in range(3, 7) for h in page.iter(f"h{level}")]
        for of in made.layers:
            assert sum(heading.startswith(f"{of.path}  ") for heading in headings) == 2  # forward and backward

    @pytest.mark.parametrize(("name", "make"), labelled("optimizer"))
    def test_the_numbers_of_an_update_are_right(self, name: str, make: Callable[..., Any]) -> None:
        made = small().explain(X, 1, optimizer=make())
        lines = [line for block in made.sections()[-1].blocks for line in getattr(block, "lines", ())]
        worked = [line for line in lines if re.search(r"= −?[\de.−]+$", line)]
        assert worked[-1].startswith("θ ← ")
        for line in worked:
            text = line.replace("−", "-").replace("·", "*").replace("²", "**2").replace("√", "sqrt")
            left, _, right = re.sub(r"^.*?[←=]", "", text, count=1).rpartition("=")
            assert eval(left, {"sqrt": sqrt, "sign": np.sign}) == pytest.approx(float(right), rel=2e-3), line

    def test_an_update_says_what_its_equations_leave_out(self) -> None:
        layers = [fcnn.Dense(4), fcnn.Dense(4, max_norm=0.1), fcnn.Dense(3)]
        model = fcnn.Sequential(layers, n_in=6, seed=0, backend="numpy")
        model.freeze("0.*")
        text = str(model.explain(X, 1))
        assert "Frozen, and not changed: 0.W, 0.b." in text
        assert "Brought back within their limits afterwards: 1.W." in text
        assert re.search(r"θ = (1\.b|2\.[Wb]) ", text)

    def test_the_page_needs_nothing_else(self, tmp_path: Path) -> None:
        made = small().explain(X, 1, optimizer="adamw")
        made.save(tmp_path / "page.html")
        page = (tmp_path / "page.html").read_text(encoding="utf-8")
        assert re.search(r"https?:|<script|<link|src=|url\(|@import", page) is None
        assert page.startswith("<!doctype html>")
        assert 'name="viewport"' in page
        assert "prefers-color-scheme:dark" in page
        inside = made._repr_html_()
        assert "<html" not in inside
        assert inside.count("<math>") == page.count("<math>") > 30
        assert [p.name for p in tmp_path.iterdir()] == ["page.html"]

    def test_factors_beside_weights_are_named(self) -> None:
        layers = [fcnn.Dense(4, parametrization="ntk"), fcnn.Members(2), fcnn.BatchEnsemble(3, 2), fcnn.Dense(2)]
        text = str(fcnn.Sequential(layers, 6, seed=0, backend="numpy").explain(X, 1))
        assert "a = Σ_k w_k/√n a₀_k + b" in text
        assert "a = Σ_k s w_k r_k a₀_k + b" in text

    def test_names_are_text(self) -> None:
        model = small()
        model.signature = fcnn.Signature([f"<b>{i}&" for i in range(6)], ("<i>", "[bold]x[/bold]", "c"))
        made = model.explain(X, 0, output=1)
        ElementTree.fromstring(made.html().partition("\n")[2])
        assert "&lt;b&gt;3&amp;" in made.html()
        assert "[bold]x[/bold]" in str(made)


class TestFormulas:
    def test_every_member_of_a_registry_has_them(self) -> None:
        made = {"dense", "dense_ensemble", "batch_ensemble"}  # by their settings
        assert set(LAYERS) == set(_formulas.LAYERS) | made
        assert set(ACTIVATIONS) == set(_formulas.ACTIVATIONS)
        assert set(LOSSES) == set(_formulas.LOSSES)

    def test_all_of_them_can_be_typeset(self) -> None:
        lines = [line for pair in (*_formulas.ACTIVATIONS.values(), *_formulas.LOSSES.values()) for line in pair]
        lines += [line for pair in _formulas.LAYERS.values() for part in pair for line in part]
        for line in lines:
            words = {*re.findall(r"[A-Za-z]{3,}", " ".join(ElementTree.fromstring(mathml(line)).itertext()))}
            assert words == {*re.findall(r"[A-Za-z]{3,}", line)}

    @pytest.mark.parametrize(
        ("text", "element"),
        [
            ("−a/b", '<mo form="prefix">−</mo><mfrac><mi>a</mi><mi>b</mi></mfrac>'),
            ("W_fᵀ", "<msubsup><mi>W</mi><mi>f</mi><mi>T</mi></msubsup>"),
            ("1.5e−08", "<mrow><mn>1.5</mn><mo>·</mo><msup><mn>10</mn><mn>−8</mn></msup></mrow>"),
            ("√v̂", '<msqrt><mover accent="true"><mi>v</mi><mo>^</mo></mover></msqrt>'),
            ("a < b", "<mi>a</mi><mo>&lt;</mo><mi>b</mi>"),
            (
                "∂L/∂z_c",
                "<mfrac><mrow><mi>∂</mi><mi>L</mi></mrow><msub><mrow><mi>∂</mi><mi>z</mi></mrow><mi>c</mi></msub></mfrac>",
            ),
        ],
    )
    def test_typeset(self, text: str, element: str) -> None:
        assert mathml(text) == f"<math>{element}</math>"


class TestCommand:
    def test_a_data_set(self, command: Command, tmp_path: Path) -> None:
        digits = ("--data", "digits", "--epochs", 1, "--out", tmp_path / "run", "--no-progress")
        assert command("train", *digits)[0] == 0
        code, out, _ = command("explain", tmp_path / "run", "--row", 3, "--most", 3, "--optimizer", "adam", "--lr", 0.5)
        assert code == 0
        assert "row, column" in out
        assert "η = 0.5" in out
        assert "Update: Adam" in out
        code, out, _ = command("explain", tmp_path / "run", "--html", tmp_path / "page.html", "--output", "7")
        assert (code, out) == (0, f"Wrote {tmp_path / 'page.html'}\n")
        page = (tmp_path / "page.html").read_text(encoding="utf-8")
        assert page.count("data:image/png") == 2  # the sample, and its gradient
        assert "output 7 = " in page
        assert_mistake(
            command("explain", tmp_path / "run", "--row", 10**6), r"--row 1000000: digits has rows from 0 to"
        )
        assert_mistake(command("explain", tmp_path / "run", "--output", "x"), r"--output expects a number from 0 to 9")
        assert_mistake(command("explain", tmp_path / "run", "--html", tmp_path / "no" / "p.html"), "there is no folder")

    def test_a_table(self, command: Command, tmp_path: Path) -> None:
        table = iris_like(tmp_path / "iris.csv") or tmp_path / "iris.csv"
        train = ("--data", table, "--preset", "plain", "--epochs", 1, "--out", tmp_path / "run", "--no-progress")
        assert command("train", *train)[0] == 0
        code, out, _ = command("explain", tmp_path / "run", "--data", table, "--row", 5)
        assert code == 0
        assert "length" in out
        assert "Loss: cross entropy" in out
        assert command("explain", tmp_path / "run", "--row", 5)[1] == out  # where the file is, as it was
        with table.open("a") as file:
            file.write("\n")
        assert_mistake(command("explain", tmp_path / "run"), r"--data FILE\. It was trained on iris\.csv")
        assert_mistake(command("explain", tmp_path / "run", "--data", table, "--row", 900), "has rows from 0 to 149")
