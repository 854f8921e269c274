"""Networks for tables as they were published, with every constant: RealMLP-TD, its short form RealMLP-TD-S, and TabM.

The preset "fast" alone trains for a shorter time than was published.

Sources: Holzmüller, Grinsztajn & Steinwart (2024), "Better by default: strong pre-tuned MLPs and boosted trees on
tabular data", sections 3 and 4, appendix A; Gorishniy, Kotelnikov & Babenko (2024), "TabM: advancing tabular deep
learning with parameter-efficient ensembling", section 3, and its authors' package.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

from ..initializers import FanInUniform, Initializer, Normal, RandomSigns, UnitStd, Zeros
from ..layers import (
    PBLD,
    Activation,
    BatchEnsemble,
    Dense,
    DenseEnsemble,
    Dropout,
    Embedding,
    Layer,
    Members,
    ParametricActivation,
    Scale,
)
from ..optimizers import AdamW
from ..schedules import CosLog4, FlatCos
from ..tables import TablePreparation


class Recipe(Protocol):
    """What defines a network for tables and its training."""

    @property
    def epochs(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def most_steps(self) -> int | None:
        """Of large tables fewer epochs are run, about so many steps; None: all of them."""

    @property
    def label_smoothing(self) -> float: ...
    @property
    def patience(self) -> int | None:
        """After how many epochs that are not better the run ends; None: never."""

    @property
    def members(self) -> int:
        """Of an ensemble that is trained as one network."""

    @property
    def drop_last(self) -> bool:
        """Whether a last batch that is smaller than the others is left out."""

    @property
    def ties(self) -> str:
        """Which of epochs that are equally good is the best: the "first" or the "last"."""

    @property
    def preparation(self) -> dict[str, Any]:
        """How the inputs are made: arguments of `TablePreparation`."""

    def layers(self, preparation: TablePreparation, n_out: int) -> list[Layer]:
        """The network behind this preparation, whose codes, if it makes any, are its last inputs."""

    def optimizer(self, layers: list[Layer]) -> AdamW:
        """Its optimizer, unbound."""

    def for_samples(self, n: int) -> Self:
        """The recipe with the epochs that n training samples get."""


class _Epochs:
    """The epochs of a recipe, by the samples that there are."""

    epochs: int
    batch_size: int
    most_steps: int | None

    def for_samples(self, n: int) -> Self:
        """The recipe with the epochs that n training samples get: `most_steps` batches, but 8 epochs at least."""
        if self.most_steps is None:
            return self
        epochs = min(self.epochs, max(_LEAST_EPOCHS, round(self.most_steps * self.batch_size / n)))
        return dataclasses.replace(self, epochs=epochs, most_steps=None)  # type: ignore[type-var]


@dataclass(frozen=True)
class RealMLP(_Epochs):
    """RealMLP-TD and its relatives.

    Attributes:
        hidden_layer_sizes: units of each hidden layer.
        activation: between them; with `learned_shape` it is A = z + α(f(z) − z), α learned for each unit.
        embeds: whether numbers go through PBLD, and categories of more than 8 values through tables of 8 columns.
        from_data: whether weights and biases start by the first batch ("std", "he+5"), or from N(0, 1), the last
            layer's from 0.
        dropout, weight_decay: at first; constant for half of the run, then half a cosine to 0.
        learning_rate: the highest, in four waves ("coslog4").
        label_smoothing: of classes.
        epochs, batch_size, most_steps: of the run; a last, smaller batch is left out.
    """

    hidden_layer_sizes: tuple[int, ...]
    activation: str
    learned_shape: bool
    embeds: bool
    from_data: bool
    dropout: float
    weight_decay: float
    learning_rate: float
    label_smoothing: float
    epochs: int = 256
    batch_size: int = 256
    most_steps: int | None = None
    patience: int | None = None
    members: ClassVar[int] = 1
    drop_last: ClassVar[bool] = True
    ties: ClassVar[str] = "last"

    @property
    def preparation(self) -> dict[str, Any]:
        """How the inputs are made: arguments of `TablePreparation`."""
        scaled: dict[str, Any] = {"numbers": "robust", "scale_one_hot": True}
        return scaled | ({"categories": "codes", "max_one_hot": _ONE_HOT} if self.embeds else {})

    def layers(self, preparation: TablePreparation, n_out: int) -> list[Layer]:
        """The network behind this preparation, whose codes, if it makes any, are its last inputs."""
        made: list[Layer] = []
        numbers, codes = preparation.numbers_, list(preparation.cardinalities_.values())
        if codes:
            n = preparation.n_outputs_
            made.append(Embedding(list(range(n - len(codes), n)), codes, _WIDTH))
            numbers = [_WIDTH * len(codes) + i for i in numbers]  # the tables' rows come first
        if self.embeds and numbers:
            made.append(PBLD(numbers))
        made.append(Scale())
        for n in self.hidden_layer_sizes:
            made.append(self._dense(n))
            made.append(ParametricActivation(self.activation) if self.learned_shape else Activation(self.activation))
            if self.dropout:
                made.append(Dropout(FlatCos(self.dropout)))
        return [*made, self._dense(n_out) if self.from_data else self._dense(n_out, Zeros())]

    def _dense(self, n: int, init: Initializer | None = None) -> Dense:
        if self.from_data:
            return Dense(n, init=UnitStd(), bias_init="he+5", parametrization="ntk")
        drawn = Normal(1.0) if init is None else init
        return Dense(n, init=drawn, bias_init=drawn, parametrization="ntk")

    def optimizer(self, layers: list[Layer]) -> AdamW:
        """Adam with the rates and decays that each kind of parameter has.

        A scale's rate is 6 times the others', a tenth are those of biases, shapes and PBLD. Weights and tables decay,
        and biases do not; the factor of a scale's decay is 6, those of shapes and PBLD a tenth, so that what a step
        takes off has the factor twice, as in the authors' code.
        """
        rates, decays = {"*.b": 0.1, "*.alpha": 0.1}, {"*.alpha": 0.1}
        for i, layer in enumerate(layers):
            if isinstance(layer, Scale):
                rates[f"{i}.s"] = decays[f"{i}.s"] = 6.0
            elif isinstance(layer, PBLD):
                rates[f"{i}.*"] = decays[f"{i}.*"] = 0.1
            elif isinstance(layer, Embedding):
                decays[f"{i}.E"] = 1.0
        kinds = {type(layer) for layer in layers}
        if ParametricActivation not in kinds:
            del rates["*.alpha"], decays["*.alpha"]
        decay = FlatCos(self.weight_decay) if self.weight_decay else 0.0
        rate = CosLog4(self.learning_rate)
        return AdamW(rate, 0.9, 0.95, weight_decay=decay, rate_factors=rates, decay_factors=decays)


_LEAST_EPOCHS = 8
_WIDTH = 8
"""Columns of a category's table."""
_ONE_HOT = 8
"""Values of a category without one: 9 in the authors' code, where that of gaps is counted, too."""


@dataclass(frozen=True)
class TabM(_Epochs):
    """TabM: k networks that share their weight matrices, each with scales, biases and a head of its own.

    A block is y_g = max(0, s_g ⊙ W(r_g ⊙ x_g) + b_g) and dropout, the first r random signs, one for all inputs that are
    made of the same column, and all other scales 1; the loss is the mean of the members' losses, the prediction the
    mean of their predictions. AdamW at a constant rate ends when `patience` epochs were no better: more than 16.
    """

    hidden_layer_sizes: tuple[int, ...] = (512, 512, 512)
    dropout: float = 0.1
    weight_decay: float = 3e-4
    learning_rate: float = 0.002
    label_smoothing: float = 0.0
    epochs: int = 256
    batch_size: int = 256
    most_steps: int | None = None
    patience: int | None = 17
    members: int = 32
    drop_last: ClassVar[bool] = False
    ties: ClassVar[str] = "first"
    preparation: ClassVar[dict[str, Any]] = {"numbers": "quantile"}

    def layers(self, preparation: TablePreparation, n_out: int) -> list[Layer]:
        """The blocks, behind `Members`, and a linear head of each member."""
        made: list[Layer] = [Members(self.members)]
        of_torch, of_columns = FanInUniform(), RandomSigns(tuple(preparation.n_inputs_.values()))
        for i, n in enumerate(self.hidden_layer_sizes):
            signs: Any = of_columns if i == 0 else 1.0
            made.append(BatchEnsemble(n, self.members, "relu", of_torch, scale_in=signs, bias_init=of_torch))
            if self.dropout:
                made.append(Dropout(self.dropout))
        return [*made, DenseEnsemble(n_out, self.members, init=of_torch, bias_init=of_torch)]

    def optimizer(self, layers: list[Layer]) -> AdamW:
        """AdamW, of gradients of norm 1 at most; scales and biases decay as weights do, as in the authors' example."""
        return AdamW(self.learning_rate, weight_decay=self.weight_decay, decay_all=True, clip_norm=1.0)


_TD = {
    "classification": RealMLP((256, 256, 256), "selu", True, True, True, 0.15, 0.02, 0.04, 0.1),
    "regression": RealMLP((256, 256, 256), "mish", True, True, True, 0.15, 0.02, 0.2, 0.0),
}
_TD_S = {
    "classification": RealMLP((256, 256, 256), "selu", False, False, False, 0.0, 0.0, 0.04, 0.1),
    "regression": RealMLP((256, 256, 256), "mish", False, False, False, 0.0, 0.0, 0.07, 0.0),
}
_SHORT: dict[str, Any] = {"epochs": 56, "most_steps": 1200}
"""Instead of 256 epochs: it ends before scikit-learn's MLP does, with smaller errors (benchmarks/tabular/field)."""
RECIPES: dict[str, dict[str, Any]] = {
    "default": _TD,
    "best": _TD,
    "fast": {task: dataclasses.replace(recipe, **_SHORT) for task, recipe in _TD_S.items()},
    "tabm": {"classification": TabM(), "regression": TabM()},
}
"""By the estimators' `preset` and the task: a `Recipe`."""
FOLDS = {"best": 8}
"""By the presets that bag several networks of their recipe: how many, unless `cv` says otherwise."""
