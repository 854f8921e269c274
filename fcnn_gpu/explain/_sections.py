"""From an explanation's numbers to what is shown of them: of large layers, what has most part in one output."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._console import counted
from .._types import HostArray
from ..layers import Dense, DenseEnsemble, Dropout, GaussianNoise
from ..losses import EnsembleLoss
from ..pages import number
from . import _formulas
from ._document import Block, Formulas, Grid, Note, Picture, Section
from ._names import image_shape, input_names, output_names
from ._trace import WEIGHTED
from ._worked import worked

if TYPE_CHECKING:
    from .explanation import Explanation, LayerPass

_ENTRIES = 3
"""Of each parameter that a step has changed."""


def sections_of(explanation: Explanation, most: int) -> list[Section]:
    """Input, forward pass, loss, backward pass and update."""
    maker = _Maker(explanation, most)
    forward = [maker.forward(of) for of in explanation.layers]
    backward = [maker.backward(of) for of in reversed(explanation.layers)]
    return [
        maker.title(),
        maker.input(),
        Section("Forward", [Note(maker.order())]),
        *forward,
        maker.loss(),
        Section("Backward", [Note("dQ is ∂L/∂Q, and each layer hands its dA₀ to the one before it as dA.")]),
        *backward,
        maker.input_gradient(),
        maker.update(),
    ]


class _Maker:
    def __init__(self, explanation: Explanation, most: int) -> None:
        self._of, self._most, model = explanation, most, explanation.model
        self._shape, self._inputs = image_shape(model), input_names(model)
        self._outputs = output_names(model)
        if model.n_out != len(self._outputs):  # those of each member
            self._outputs = [str(i) for i in range(model.n_out)]

    # The parts

    def title(self) -> Section:
        of, model = self._of, self._of.model
        how = "training, with the units that this pass dropped" if of.training else "inference"
        numbers = (model.n_in, "input"), (model.n_out, "output"), (model.n_parameters, "parameter")
        what = "{} → {}, {}".format(*(counted(n, name) for n, name in numbers))
        right = f"output {self._outputs[of.output]} = {number(of.outputs[of.output])}, L = {number(of.value)}"
        note = f"{what}; {model.precision} on {of.backend}; {how}. For this sample {right}."
        return Section("One sample through the network", [Note(note)], 0)

    def order(self) -> str:
        c = self._outputs[self._of.output]
        return (
            f"Units stand in the order of their part in output c = {c}: a ∂z_c/∂a, the value times how much the output "
            "grows with it. What is left out is counted."
        )

    def input(self) -> Section:
        x = self._of.x
        blocks: list[Block] = [Picture(x.reshape(self._shape), "the sample")] if self._shape else []
        name = "row, column" if self._shape else "input"
        blocks.append(self._grid("The largest inputs", (name, "a₀"), self._inputs, [x], np.abs(x)))
        return Section("Input", blocks)

    def forward(self, of: LayerPass) -> Section:
        equations = _formulas.of_layer(of.layer)
        if isinstance(of.layer, Dropout | GaussianNoise) and not of.layer.draws:
            equations = _formulas.Equations(["A = A₀"], ["dA₀ = dA"])
        order = ["A0", *of.parameters, *(name for name in ("M", "Z", "A") if name in of.arrays)]
        if _is_linear(of):
            order.remove("Z")
        blocks: list[Block] = [Formulas(equations.forward), Note(_shapes(of, order))]
        names, share = self._names_out(of), of.share[:, 0]
        columns: dict[str, HostArray] = {}
        if len(of.A0) == len(of.A) and "Z" not in of.arrays:
            columns["a₀"] = of.A0[:, 0]
        columns |= {"z": of.Z[:, 0]} if "Z" in order else {}
        columns |= {"a": of.A[:, 0], "a ∂z_c/∂a": share}
        blocks.append(self._grid("Units", ("unit", *columns), names, list(columns.values()), np.abs(share)))
        if isinstance(of.layer, WEIGHTED):
            few = len(of.A) <= 3 and len(of.A0) <= self._most
            units = range(len(of.A)) if few else [int(np.abs(share).argmax())]
            blocks += [self._terms(of, i) for i in units]
        return Section(_title(of), blocks, _depth(of))

    def _terms(self, of: LayerPass, i: int) -> Grid:
        """z of unit i, a factor beside the other."""
        weights, places, head = _row(of, i)
        a0, names = of.A0[places, 0], self._names_in(of)
        products = weights * a0
        z = "a" if _is_linear(of) else "z"
        title = f"Unit {self._names_out(of)[i]}: {z} = Σ_k {_indexed(head, 'k')} a₀_k" + (
            " + b" if "b" in of.parameters else ""
        )
        columns = [weights, a0, products]
        shown, left = self._chosen(np.abs(products))
        rows = [(names[places[k]], *(number(column[k]) for column in columns)) for k in shown]
        sums = [(f"{left:,} more", "", "", number(np.delete(products, shown).sum(dtype=np.float64)))] if left else []
        if "b" in of.parameters:
            b = of.b[i % len(of.b), 0]
            sums.append(("b", "", "", number(b)))
        sums.append((z, "", "", number(of.Z[i, 0])))
        if not _is_linear(of):
            sums.append(("a = f(z)", "", "", number(of.A[i, 0])))
        return Grid(title, ("input", head, "a₀", f"{head} a₀"), rows, sums)

    def loss(self) -> Section:
        of = self._of
        equations = _formulas.of_loss(of.loss)
        value = f"L = {number(of.value)}"
        if of.loss.name == "cross_entropy" and of.y.ndim == 0 and len(equations.forward) == 1:
            p = of.predictions[int(of.y)]
            weights = of.loss.class_weight  # type: ignore[attr-defined]
            factor = "" if weights is None else f"{number(weights[int(of.y)])}·"
            value = f"L = −{factor}log {number(p)} = {number(of.value)}"
        blocks: list[Block] = [Formulas([*equations.forward, value, *equations.backward])]
        y, columns = self._targets(), {"z": of.outputs}
        if of.loss.link != "identity":
            columns["p" if of.loss.link != "exp" else "e^z"] = of.predictions
        if y is not None:
            columns["y"] = y
        columns["∂L/∂z"] = of.dZ
        order = np.abs(of.dZ)
        blocks.append(self._grid("Outputs", ("output", *columns), self._outputs, list(columns.values()), order))
        if y is None:
            blocks.append(Note(f"y = {', '.join(number(value) for value in np.atleast_1d(of.y))}"))
        name = of.loss.loss.name if isinstance(of.loss, EnsembleLoss) else of.loss.name
        return Section(f"Loss: {name.replace('_', ' ')}", blocks)

    def _targets(self) -> HostArray | None:
        """A number for each output, where there is one."""
        of = self._of
        loss, n = of.loss, of.model.n_out
        members = loss.members if isinstance(loss, EnsembleLoss) else 1
        is_label = loss.link == "softmax" and of.y.ndim == 0
        y = np.tile(np.eye(n // members)[int(of.y)] if is_label else np.atleast_1d(of.y), members)
        if len(y) != n:
            return None
        center = of.model.output_center
        return y if center is None else y + center

    def backward(self, of: LayerPass) -> Section:
        equations = _formulas.of_layer(of.layer).backward
        if isinstance(of.layer, Dropout | GaussianNoise) and not of.layer.draws:
            equations = ["dA₀ = dA"]
        order = [name for name in ("dA", "dZ", "dY") if name in of.arrays]
        if _is_linear(of) and "dZ" in order:
            order.remove("dZ")
        order += [f"d{name}" for name in of.gradients] + ["dA0"]
        blocks: list[Block] = [Formulas(equations), Note(_shapes(of, order))]
        names, dA = self._names_out(of), of.dA[:, 0]
        columns = {"da": dA}
        if "dZ" in order:
            slope = _slope(of)
            columns |= {} if slope is None else {"f′(z)": slope}
            columns["dz"] = of.dZ[:, 0]
        elif "dY" in order:
            columns["dy"] = of.dY[:, 0]
        elif len(of.dA0) == len(dA) and not isinstance(of.layer, WEIGHTED):
            columns["da₀"] = of.dA0[:, 0]
        by = list(columns.values())[-1]
        blocks.append(self._grid("Units", ("unit", *columns), names, list(columns.values()), np.abs(by)))
        if isinstance(of.layer, Dense | DenseEnsemble):
            blocks += [self._weights(of, int(np.abs(of.dZ).argmax())), self._back(of, int(np.abs(of.dA0).argmax()))]
        elif of.gradients:
            blocks.append(self._parameters(of))
        return Section(_title(of), blocks, _depth(of))

    def _weights(self, of: LayerPass, i: int) -> Grid:
        """The row of dW of unit i."""
        _, places, _ = _row(of, i)
        gain = of.layer.gain  # type: ignore[attr-defined]
        dz, a0 = of.dZ[i, 0], of.A0[places, 0]
        row = _row_of(of, of.gradients["W"], i)
        names = [self._names_in(of)[k] for k in places]
        over = "" if gain == 1 else "/√n"
        d = "da" if _is_linear(of) else "dz"
        title = f"Unit {self._names_out(of)[i]}: dw_k = {d} a₀_k{over}" + (
            f", db = {d}" if "b" in of.parameters else ""
        )
        columns = [np.full(len(a0), dz), a0, row]
        return self._grid(title, ("input", d, "a₀", "dw"), names, columns, np.abs(row))

    def _back(self, of: LayerPass, k: int) -> Grid:
        """dA₀ of input k, a factor beside the other."""
        units = [i for i in range(len(of.A)) if k in _row(of, i)[1]] if isinstance(of.layer, DenseEnsemble) else None
        rows = np.arange(len(of.A)) if units is None else np.array(units)
        weights = np.array([_weight(of, int(i), k) for i in rows])
        dz = of.dZ[rows, 0]
        products = weights * dz
        shown, left = self._chosen(np.abs(products))
        names, head = self._names_out(of), _row(of, int(rows[0]))[2]
        cells = [(names[rows[j]], number(weights[j]), number(dz[j]), number(products[j])) for j in shown]
        sums = [(f"{left:,} more", "", "", number(np.delete(products, shown).sum(dtype=np.float64)))] if left else []
        sums.append(("da₀", "", "", number(of.dA0[k, 0])))
        d = "da" if _is_linear(of) else "dz"
        title = f"Input {self._names_in(of)[k]}: da₀ = Σ_i {_indexed(head, 'i')} {d}_i"
        return Grid(title, ("unit", head, d, f"{head} {d}"), cells, sums)

    def _parameters(self, of: LayerPass) -> Grid:
        """The entries with the largest gradients."""
        rows, left = [], 0
        for name, gradient in of.gradients.items():
            for place in _largest(gradient, self._most // 2 or 1):
                cells = number(of.parameters[name][place]), number(gradient[place])
                rows.append((_name(name), _entry(place), *cells))
            left += max(gradient.size - (self._most // 2 or 1), 0)
        note = f"{left:,} more with smaller gradients" if left else ""
        return Grid("Parameters", ("parameter", "entry", "value", "gradient"), rows, left_out=note, n_names=2)

    def input_gradient(self) -> Section:
        dx = self._of.input_gradient
        blocks: list[Block] = []
        if self._shape:
            blocks.append(Picture(dx.reshape(self._shape), "∂L/∂x: blue above 0, orange below", signed=True))
        blocks.append(self._grid("The largest", ("input", "∂L/∂x"), self._inputs, [dx], np.abs(dx)))
        return Section("Input", blocks, 2)

    def update(self) -> Section:
        of, rule = self._of, self._of.optimizer
        blocks: list[Block] = []
        penalty = ["g = ∂L/∂θ + λ₁ sign(θ) + 2 λ₂ θ"] if of.penalty else []
        blocks.append(Formulas([*penalty, *_formulas.of_optimizer(rule)]))
        blocks.append(
            Note(f"η = {number(of.learning_rate)}, t = 1: the first step of a run. {_settings(rule)}".strip())
        )
        learning, notes = self._learning()
        blocks += [Note(note) for note in notes]
        if learning:
            name = max(learning, key=lambda name: float(np.abs(of.updates[name].gradient).max(initial=0)))
            place = _largest(of.updates[name].gradient, 1)[0]
            lines = worked(rule, of.learning_rate, name, of.updates[name], place)
            blocks += [Note(f"θ = {name} {_entry(place)}, with the numbers:"), Formulas(lines)] if lines else []
        if of.updates:
            blocks.append(self._changes())
        return Section(f"Update: {type(rule).__name__}", blocks)

    def _learning(self) -> tuple[list[str], list[str]]:
        """(the parameters that the equations give alone, what else happens to others)."""
        named = self._of.model.named_parameters()
        frozen = [name for name in self._of.updates if named[name].frozen]
        limited = [name for name in self._of.updates if named[name].limits is not None and name not in frozen]
        notes = [f"Frozen, and not changed: {', '.join(frozen)}."] if frozen else []
        notes += [f"Brought back within their limits afterwards: {', '.join(limited)}."] if limited else []
        return [name for name in self._of.updates if name not in frozen and name not in limited], notes

    def _changes(self) -> Grid:
        rows, left = [], 0
        for name, updated in self._of.updates.items():
            n = min(self._most, _ENTRIES)
            for place in _largest(updated.gradient, n):
                before, after = updated.before[place], updated.after[place]
                cells = before, updated.gradient[place], after - before, after
                rows.append((name, _entry(place), *(number(cell) for cell in cells)))
            left += max(updated.gradient.size - n, 0)
        note = f"{left:,} more with smaller gradients" if left else ""
        head = ("parameter", "entry", "θ before", "g", "change", "θ after")
        return Grid("Parameters with the largest gradients", head, rows, left_out=note, n_names=2)

    # Rows and names

    def _chosen(self, order: HostArray) -> tuple[list[int], int]:
        """Which rows are shown, and how many are not: all in their own order, or the largest first."""
        if len(order) <= self._most:
            return list(range(len(order))), 0
        largest = np.argsort(-order, kind="stable")[: self._most]
        return largest.tolist(), len(order) - self._most

    def _grid(
        self, title: str, head: tuple[str, ...], names: Sequence[str], columns: Sequence[HostArray], order: HostArray
    ) -> Grid:
        shown, left = self._chosen(order)
        rows = [(names[i], *(number(column[i]) for column in columns)) for i in shown]
        note = ""
        if left:
            rest = np.delete(np.asarray(columns[-1], np.float64), shown)
            low, high = number(rest.min()), number(rest.max())
            note = f"{left:,} more, " + (f"all {low}" if low == high else f"between {low} and {high}")
        return Grid(title, head, rows, left_out=note)

    def _names_in(self, of: LayerPass) -> list[str]:
        return self._inputs if of.path == "0" else [str(i) for i in range(len(of.A0))]

    def _names_out(self, of: LayerPass) -> list[str]:
        return self._outputs if of is self._last else [str(i) for i in range(len(of.A))]

    @property
    def _last(self) -> LayerPass:
        return [of for of in self._of.layers if "." not in of.path][-1]


_LONGEST = 60


def _title(of: LayerPass) -> str:
    short = of.title if len(of.title) <= _LONGEST else f"{of.title.partition('(')[0]}(...)"
    return f"{of.path}  {short}"


def _is_linear(of: LayerPass) -> bool:
    """Whether Z is A."""
    activation = getattr(of.layer, "activation", None)
    return isinstance(of.layer, WEIGHTED) and getattr(activation, "name", None) == "identity"


def _depth(of: LayerPass) -> int:
    return 2 + of.path.count(".") // 2


def _name(name: str) -> str:
    return {"gamma": "γ", "beta": "β", "alpha": "α", "A0": "A₀", "dA0": "dA₀", "dgamma": "dγ", "dbeta": "dβ"}.get(
        name, name.replace("alpha", "α")
    )


def _shapes(of: LayerPass, names: Sequence[str]) -> str:
    return ", ".join(f"{_name(name)} {getattr(of, name).shape}" for name in names)


def _entry(place: tuple[int, ...]) -> str:
    row, column, *_ = place
    return f"[{row}, {column}]"


def _largest(values: HostArray, n: int) -> list[tuple[int, ...]]:
    """The places of the n largest |values|, the largest first."""
    flat = np.argsort(-np.abs(values), axis=None, kind="stable")[:n]
    return [tuple(int(i) for i in place) for place in zip(*np.unravel_index(flat, values.shape), strict=True)]


def _row(of: LayerPass, i: int) -> tuple[HostArray, HostArray, str]:
    """What unit i multiplies its inputs by, which inputs these are, and what it is called."""
    layer: Any = of.layer
    gain, over = layer.gain, "" if layer.gain == 1 else "/√n"
    if isinstance(layer, Dense):
        return gain * of.W[i], np.arange(layer.n_in), f"w{over}"
    n, g = layer.n_in // layer.members, i // layer.units
    places = np.arange(g * n, (g + 1) * n)
    if isinstance(layer, DenseEnsemble):
        return gain * of.W[i % layer.units, places], places, f"w{over}"
    weights, head = gain * of.W[i % layer.units], f"w{over}"
    if "s" in of.parameters:
        weights, head = of.s[i, 0] * weights, f"s {head}"
    if "r" in of.parameters:
        weights, head = weights * of.r[places, 0], f"{head} r"
    return weights, places, head


def _indexed(head: str, index: str) -> str:
    """What `_row` calls the factor of an input or unit, with its index: w_k/√n, s w_k r_k."""
    return re.sub(r"\b[wr]\b", rf"\g<0>_{index}", head)


def _row_of(of: LayerPass, values: HostArray, i: int) -> HostArray:
    """Row i of a matrix like W of `Dense`, or of the unit's member."""
    layer: Any = of.layer
    return values[i] if isinstance(layer, Dense) else values[i % layer.units, _row(of, i)[1]]


def _weight(of: LayerPass, i: int, k: int) -> float:
    weights, places, _ = _row(of, i)
    return float(weights[int(np.flatnonzero(places == k)[0])])


def _slope(of: LayerPass) -> HostArray | None:
    """f′(z) of each unit, by the backend's own derivative; None where it is 1, or no number for each unit."""
    layer: Any = of.layer
    activation, ops = layer.activation, layer.ops
    if activation.name == "identity" or not activation.is_primitive:
        return None
    saved = ops.asarray(np.asfortranarray(of.A if activation.from_output else of.Z))
    slope = ops.asarray(np.asfortranarray(np.ones_like(of.A)))
    activation.backward(ops, slope, saved, slope, None)
    found: HostArray = ops.to_numpy(slope)[:, 0]
    return found


def _settings(rule: Any) -> str:
    named: dict[str, Callable[[float], str]] = {
        "momentum": lambda x: f"μ = {number(x)}",
        "beta1": lambda x: f"β₁ = {number(x)}",
        "beta2": lambda x: f"β₂ = {number(x)}",
        "alpha": lambda x: f"α = {number(x)}",
        "eps": lambda x: f"ε = {number(x)}",
        "rho": lambda x: f"ρ = {number(x)}",
        "momentum_decay": lambda x: f"ψ = {number(x)}",
        "lr_decay": lambda x: f"κ = {number(x)}",
        "clip_norm": lambda x: f"c = {number(x)}",
        "clip_value": lambda x: f"c = {number(x)}",
        "weight_decay": lambda x: f"λ = {number(x)}, of {'all parameters' if rule.decay_all else 'weights'}",
    }
    found = [(name, getattr(rule, name, None)) for name in named]
    said = [named[name](value) for name, value in found if isinstance(value, float) and value]
    return ", ".join(said) + "." if said else ""
