"""What `fcnn-gpu train` was asked for, checked before anything is loaded."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .._checks import check_bytes, check_choice, check_integer, check_port, check_real, check_seconds, suggest
from .._types import HostArray
from ..activations import ACTIVATIONS
from ..activations import Activation as Function
from ..backend import PRECISIONS
from ..datasets import CATALOGUE, Dataset
from ..initializers import INITIALIZERS, Initializer
from ..layers import Activation, BatchNorm, Dense, Dropout, Layer
from ..losses import LOSSES, Loss
from ..metrics import Metric
from ..optimizers import OPTIMIZERS, Optimizer
from ..schedules import SCHEDULES, ReduceOnPlateau, Schedule, Warmup
from ..tables.kinds import GIVEN
from ..training import column_names, try_metrics
from ._class_weight import match_classes, parse_class_weight
from ._data import holds_images, is_table
from ._defaults import HELD_OUT, OF_TABLES, PLAIN, PRESETS, SMALL, THRESHOLDS, Defaults, defaults_for
from ._named import build, build_metric

NUMBERS = ("robust", "standard", "quantile", "none")
"""How a table's numbers are scaled: `TablePreparation(numbers=)`."""
_RATES = ("learning_rate", "max_learning_rate")
"""What schedules call the learning rate."""
_OF_OPTIMIZERS = ("momentum", "weight_decay")
"""The options that are settings of some optimizers."""
_LINKS = {"classification": ("softmax", "sigmoid"), "regression": ("identity", "exp")}
"""Of the losses that a task can have, by what may be known of it before the data."""

LEARNING_RATES = {"adam": 3e-3, "adamw": 3e-3}
"""What --lr is unless given; for other optimizers, the class's own default."""


@dataclass(frozen=True)
class TrainOptions:
    """The options of `fcnn-gpu train`; a ValueError or TypeError names the one that cannot be."""

    data: str
    target: list[str] | None
    task: str | None
    column: list[str] | None
    ignore: list[str] | None
    numbers: str | None
    header: bool | None
    sheet: str | None
    test_fraction: float
    test_data: str | None
    standardize: bool | None
    preset: str | None
    layers: str | None
    activation: str | None
    init: str | None
    bias_init: str | None
    dropout: float | None
    batch_norm: bool
    l1: float
    l2: float
    loss: str | None
    label_smoothing: float | None
    class_weight: str | None
    metric: list[str] | None
    optimizer: str | None
    lr: float | None
    schedule: str | None
    momentum: float | None
    weight_decay: float | None
    clip_norm: float | None
    epochs: int | None
    batch_size: int | None
    validation_split: float | None
    early_stopping: int | None
    folds: int | None
    time_limit: str | None
    threshold: str | None
    backend: str | None
    threads: int | None
    memory_limit: str | None
    seed: int
    dtype: str
    precision: str | None
    out: str | None
    overwrite: bool
    as_json: bool
    progress: bool
    watch: bool
    watch_port: int

    def __post_init__(self) -> None:
        self._check_preset()
        _ = self.widths
        _ = self.function, self.initializer, self.bias_initializer
        if self.dropout is not None:
            check_real("--dropout", self.dropout, low=0, high=1, high_open=True)
        check_real("--l1", self.l1, low=0)
        check_real("--l2", self.l2, low=0)
        if self.lr is not None:
            check_real("--lr", self.lr, low=0)
        self._check_optimizer()
        if self.clip_norm is not None:
            check_real("--clip-norm", self.clip_norm, low=0, low_open=True)
        if self.epochs is not None:
            check_integer("--epochs", self.epochs, low=1)
        if self.batch_size is not None:
            check_integer("--batch-size", self.batch_size, low=1)
        if self.numbers is not None:
            check_choice("--numbers", self.numbers, NUMBERS)
            if self.standardize is not None:
                raise ValueError("--numbers and --standardize both say how numbers are scaled: take one of them.")
        _ = self.columns
        check_real("--test-fraction", self.test_fraction, low=0, high=1, high_open=True)
        if self.validation_split is not None:
            check_real("--validation-split", self.validation_split, low=0, high=1, high_open=True)
            if self.bags and self.validation_split:
                said = f"--preset {self.preset}" if self.folds is None else "--folds"
                raise ValueError(
                    f"With {said}, each network is validated by the fold that it does not see. Leave out "
                    "--validation-split."
                )
        if self.early_stopping is not None:
            check_integer("--early-stopping", self.early_stopping, low=1)
            if not self.validates:
                raise ValueError("--early-stopping watches the validation samples: add --validation-split 0.1.")
        column = self._optimizer().schedule.monitor
        if column is not None and column.startswith("val_") and not self.validates:
            raise ValueError(f"--schedule {self.schedule} watches {column}: add --validation-split 0.1.")
        if self.threads is not None:
            check_integer("--threads", self.threads, low=1)
        if self.watch_port and not self.watch:
            raise ValueError("--watch-port is where --watch serves its page: add --watch.")
        check_port("--watch-port", self.watch_port)
        if self.watch and self.bags:
            raise ValueError("--watch shows one network while it trains, and this run trains several. Leave it out.")
        _ = self.byte_limit, self.seconds
        self._check_threshold()
        check_integer("--seed", self.seed, low=0)
        check_choice("--dtype", self.dtype, ("float32", "float64"))
        if self.precision is not None:
            check_choice("--precision", self.precision, PRECISIONS)
        if self.task is not None:
            check_choice("--task", self.task, ("classification", "regression"))
        self._check_loss()

    def _check_preset(self) -> None:
        """That it is one, and that no option makes another network of it."""
        if self.folds is not None:
            self._check_folds()
        if self.preset is None:
            return
        check_choice("--preset", self.preset, (*PRESETS, PLAIN))
        if self.preset != PLAIN and self.of_plain:
            options = ", ".join(self.of_plain)
            raise ValueError(
                f"--preset {self.preset} is a network and a training with nothing to choose in {options}. Leave "
                f"{options} out, or say --preset plain."
            )

    def _check_folds(self) -> None:
        """That a preset is trained for each, and that they alone hold samples out."""
        check_integer("--folds", self.folds, low=2)
        if self.preset == PLAIN or (self.preset is None and self.of_plain):
            said = ", ".join(self.of_plain) if self.preset is None else f"--preset {PLAIN}"
            raise ValueError(
                f"--folds trains a preset's network for each fold, and {said} says a plain one. Leave one of them out."
            )

    def _check_threshold(self) -> None:
        """That it is a number, or a metric and samples are held out by which the best number is found."""
        if self.threshold is None:
            return
        if self.best_for is None:
            if self.threshold_given is None:
                raise ValueError(
                    f"--threshold expects a probability between 0 and 1, or one of {', '.join(THRESHOLDS)}, got "
                    f"{self.threshold!r}. {suggest(self.threshold, THRESHOLDS)}".rstrip()
                )
        elif not self.validates:
            raise ValueError(
                f"--threshold {self.threshold} is found on validation samples: add --validation-split 0.2, or give a "
                "number."
            )
        if self.task == "regression":
            raise ValueError("--threshold is for two classes, not for --task regression.")

    def _check_optimizer(self) -> None:
        """The optimizer's name and settings, and that it has those that options of their own give."""
        name = self.optimizer_name
        settings = {kind: _settings(OPTIMIZERS[kind]) for kind in OPTIMIZERS}
        for setting in _OF_OPTIMIZERS:
            value, option = getattr(self, setting), "--" + setting.replace("_", "-")
            if value is None:
                continue
            if setting not in settings[name] and self.is_plain:
                having = sorted((kind for kind in OPTIMIZERS if setting in settings[kind]), key=_plainest_first)
                listed = " and ".join(filter(None, (", ".join(having[:-1]), having[-1])))
                raise ValueError(f"{option} is for {listed}, not for {name}. Say --optimizer {having[0]}.")
            check_real(option, value, low=0, high=1 if setting == "momentum" else math.inf, high_open=True)

    def _check_loss(self) -> None:
        """Loss, metrics and class weights, as far as they can be without the data."""
        if self.label_smoothing is not None:
            check_real("--label-smoothing", self.label_smoothing, low=0, high=1)
        if self.loss is not None:
            loss = self._loss(self.loss)
            if self.task is not None and loss.link not in _LINKS[self.task]:
                raise ValueError(_misfit(self.loss, f"--task {self.task}", _LINKS[self.task]))
        elif self.label_smoothing is not None and self.task == "regression":
            raise ValueError("--label-smoothing is for classes, learned with cross_entropy, not for --task regression.")
        for text in self.metric or ():
            metric = build_metric("--metric", text)
            if self.task is not None and metric.task != self.task:
                raise ValueError(f"--metric {text} is for a {metric.task}, not for --task {self.task}.")
        if self.class_weight is not None:
            parse_class_weight(self.class_weight)
            if self.task == "regression":
                raise ValueError("--class-weight is for classes, not for --task regression.")

    @property
    def of_plain(self) -> list[str]:
        """The options given that define a plain network or its training."""
        standardize = {None: "", True: "--standardize", False: "--no-standardize"}[self.standardize]
        given = {
            standardize: self.standardize is not None,
            "--layers": self.layers is not None,
            "--activation": self.activation is not None,
            "--init": self.init is not None,
            "--bias-init": self.bias_init is not None,
            "--batch-norm": self.batch_norm,
            "--l1": self.l1,
            "--l2": self.l2,
            "--loss": self.loss is not None,
            "--optimizer": self.optimizer is not None,
            "--schedule": self.schedule is not None,
            "--momentum": self.momentum is not None,
            "--clip-norm": self.clip_norm is not None,
        }
        return [option for option, value in given.items() if value]

    @property
    def has_table(self) -> bool:
        """Whether the data is a table, by its name; no other data has kinds of columns."""
        return self.data not in CATALOGUE and is_table(self.data)

    @property
    def network(self) -> str:
        """What is trained, "plain" or one of the presets: what is said, else what suits the data and the options."""
        if self.preset is not None:
            return self.preset
        return OF_TABLES if self.has_table and not self.of_plain else PLAIN

    def for_rows(self, n: int) -> TrainOptions:
        """With what suits a table of so many training rows, where nothing says which network is trained."""
        is_small = self.preset is None and self.folds is None and not self.is_plain and n < SMALL
        return dataclasses.replace(self, preset=PLAIN) if is_small else self

    @property
    def why_plain(self) -> str:
        """Why a table's network is a plain one; these options are those that were given."""
        if self.preset is None and not self.of_plain:
            return f"as for all tables of fewer than {SMALL:,} training rows (else: --preset {OF_TABLES})"
        given = self.of_plain if self.preset is None else [f"--preset {self.preset}"]
        return f"as {', '.join(given)} {'says' if len(given) == 1 else 'say'}"

    @property
    def is_plain(self) -> bool:
        return self.network == PLAIN

    @property
    def bags(self) -> bool:
        """Whether a network is trained for each of several folds."""
        return self.folds is not None or self.network == "best"

    @property
    def share_held_out(self) -> float:
        """Of the training samples: what --validation-split says, else what a preset's best epoch is chosen by.

        Folds hold out each its own, and none of them all.
        """
        if self.validation_split is not None:
            return self.validation_split
        return 0.0 if self.is_plain or self.bags else HELD_OUT

    @property
    def validates(self) -> bool:
        """Whether there are samples that are measured after each epoch and not trained on."""
        return self.bags or bool(self.share_held_out)

    @property
    def seconds(self) -> float | None:
        """What --time-limit allows."""
        return check_seconds("--time-limit", self.time_limit)

    @property
    def widths(self) -> list[int]:
        """The widths of the hidden layers.

        A ValueError if --layers is no list of positive whole numbers.
        """
        if self.layers is None or self.layers.strip().lower() in ("", "none"):
            return []
        parts = [part.strip() for part in self.layers.split(",")]
        if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
            raise ValueError(
                f"--layers expects the hidden layers' widths, as in 128 or 512,512 (or none), got {self.layers!r}."
            )
        return [int(part) for part in parts]

    @property
    def function(self) -> Function:
        """What the hidden units do with their weighted sum."""
        return build("--activation", self._said("activation"), ACTIVATIONS)

    @property
    def initializer(self) -> Initializer | None:
        """What draws the weights; None: each layer's own."""
        return None if self.init is None else _build_initializer("--init", self.init)

    @property
    def bias_initializer(self) -> Initializer | None:
        """What draws the biases; None: they are 0."""
        return None if self.bias_init is None else _build_initializer("--bias-init", self.bias_init)

    @property
    def columns(self) -> dict[str, str]:
        """What --column says: names (or numbers) and kinds; a name may have an equals sign in it."""
        said: dict[str, str] = {}
        for text in self.column or ():
            name, equals, kind = text.rpartition("=")
            if not equals or not name:
                raise ValueError(f"--column expects NAME=KIND, as in --column age=number, got {text!r}.")
            check_choice(f"--column {name}", kind.strip(), GIVEN)
            if name in said:
                raise ValueError(f"--column names {name!r} twice.")
            said[name] = kind.strip()
        return said

    @property
    def of_tables(self) -> list[str]:
        """The options given that are for tables alone."""
        given: dict[str, Any] = {"--column": self.column, "--ignore": self.ignore, "--numbers": self.numbers}
        given |= {"--sheet": self.sheet, "--folds": self.folds}
        given |= {f"--preset {self.preset}": self.preset if self.preset in PRESETS else None}
        return [option for option, value in given.items() if value]

    @property
    def scaling(self) -> str | None:
        """How `TablePreparation` scales numbers, None: as the preset does.

        A plain network without hidden layers stays linear in them.
        """
        if self.numbers is not None:
            return self.numbers
        if not self.is_plain:
            return None
        if self.standardize is False:
            return "none"
        return "standard" if self.standardize or (self.layers is not None and not self.widths) else "robust"

    def for_data(self, data: Dataset) -> TrainOptions:
        """With the defaults of this kind of data, and of so much of it, where nothing was given.

        What a preset has in the place of those that are still None stands in its recipe.
        """
        options: dict[str, Any] = {"preset": self.network, "validation_split": self.share_held_out}
        if self.is_plain:
            options |= dataclasses.asdict(defaults_for(len(data.X_train), holds_images(data)))
        missing = {name: value for name, value in options.items() if getattr(self, name) is None}
        return dataclasses.replace(self, **missing)

    @property
    def best_for(self) -> str | None:
        """The metric that the threshold is to be the best for."""
        return self.threshold if self.threshold in THRESHOLDS else None

    @property
    def threshold_given(self) -> float | None:
        """The number that --threshold gives."""
        try:
            value = float(self.threshold or "")
        except ValueError:
            return None
        return value if 0 < value < 1 else None

    @property
    def byte_limit(self) -> int | None:
        """What --memory-limit allows, in bytes."""
        limit = self.memory_limit
        return check_bytes("--memory-limit", int(limit) if limit and limit.isascii() and limit.isdigit() else limit)

    def layers_of(self, n_outputs: int, standardized: bool) -> list[Layer]:
        """Per hidden width Dense → batch norm → activation → dropout, as far as asked for; then a linear last layer."""
        dense = functools.partial(Dense, init=self.initializer, bias_init=self.bias_initializer, l1=self.l1, l2=self.l2)
        layers: list[Layer] = []
        for width in self.widths:
            function, init = self.function, self.initializer
            if self.batch_norm:
                # batch norm subtracts whatever a bias adds; only the folding of standardized features needs one
                bias = standardized and not layers
                layers += [
                    dense(width, init=function.default_init if init is None else init, bias=bias, bias_init=None),
                    BatchNorm(),
                    Activation(function),
                ]
            else:
                layers.append(dense(width, activation=function))
            if self.dropout:
                layers.append(Dropout(self.dropout))
        return [*layers, dense(n_outputs)]

    def make_optimizer(self, metrics: Sequence[Metric]) -> Optimizer:
        """The optimizer with its schedule; a ValueError where that watches what a run with these metrics lacks."""
        optimizer = self._optimizer()
        plateau, column = optimizer.schedule, optimizer.schedule.monitor
        while isinstance(plateau, Warmup):
            plateau = plateau.then
        columns = column_names(metrics, self.validates, self.precision == "float16")
        if column is not None and column not in columns:
            raise ValueError(
                f"--schedule {self.schedule} watches {column!r}, which this run does not record. "
                f"{suggest(column, columns)}"
            )
        if isinstance(plateau, ReduceOnPlateau) and "greater_is_better=" not in self._said("schedule"):
            better = {metric.label: metric.greater_is_better for metric in metrics}
            plateau.greater_is_better = better.get(plateau.column.removeprefix("val_"), False)
        return optimizer

    def _said(self, option: str) -> str:
        """The text of one of the options whose defaults do not depend on the data."""
        text: str | None = getattr(self, option)
        return getattr(Defaults, option) if text is None else text

    @property
    def optimizer_name(self) -> str:
        name = self._said("optimizer").partition(":")[0]
        return OPTIMIZERS.named(f"--optimizer does not know {name!r}.", name)

    def _optimizer(self) -> Optimizer:
        name = self.optimizer_name
        rate = self.lr
        if rate is None:
            rate = LEARNING_RATES.get(name, OPTIMIZERS[name]().learning_rate)  # type: ignore[call-arg]
        of_rate = dict.fromkeys(_RATES, "--lr")
        schedule: Schedule = build(
            "--schedule", self._said("schedule"), SCHEDULES, given=dict.fromkeys(_RATES, rate), elsewhere=of_rate
        )
        settings = {setting: getattr(self, setting) for setting in _OF_OPTIMIZERS}
        given = {setting: value for setting, value in settings.items() if value is not None}
        of_options = {setting: f"--{setting.replace('_', '-')}" for setting in ("clip_norm", *_OF_OPTIMIZERS)}
        return build(
            "--optimizer",
            self._said("optimizer"),
            OPTIMIZERS,
            given={"learning_rate": schedule, "clip_norm": self.clip_norm} | given,
            elsewhere={"learning_rate": "--lr"} | of_options,
        )

    def make_loss(self, data: Dataset) -> Loss:
        """The loss that was asked for, or else that the data's task calls for; a ValueError where it does not fit."""
        links = (
            list(_LINKS["regression"]) if data.task == "regression" else ["sigmoid" if data.multilabel else "softmax"]
        )
        name = next(name for name in ("mse", "binary_cross_entropy", "cross_entropy") if LOSSES[name].link in links)
        if self.loss is None:
            if self.label_smoothing is not None and name != "cross_entropy":
                raise ValueError(f"--label-smoothing is for cross_entropy, and {_of(data)}, learned with {name}.")
            return self._loss(name)
        if data.n_classes == 2:  # one output says as much of two classes as two do
            links.append("sigmoid")
        loss = self._loss(self.loss)
        if loss.link not in links:
            raise ValueError(_misfit(self.loss, _of(data), links))
        if loss.outputs_per_target > 1:
            raise ValueError(
                f"--loss {self.loss} needs several outputs of each target, which is for a program in Python. Here, "
                "take one quantile, as in quantile:quantiles=0.9."
            )
        return loss

    def _loss(self, text: str) -> Loss:
        given = {} if self.label_smoothing is None else {"label_smoothing": self.label_smoothing}
        name = text.partition(":")[0]
        if given and LOSSES.named(f"--loss does not know {name!r}.", name) != "cross_entropy":
            raise ValueError(f"--label-smoothing is for cross_entropy, not for --loss {name}. Leave one of them out.")
        elsewhere = {"class_weight": "--class-weight", "alpha": "--class-weight"}
        elsewhere |= dict.fromkeys(given, "--label-smoothing")
        return build("--loss", text, LOSSES, given=given, elsewhere=elsewhere)

    def n_outputs(self, data: Dataset, loss: Loss) -> int:
        """How many outputs the network has: of two classes one, where the loss takes it for the second's."""
        return 1 if loss.link == "sigmoid" and not data.multilabel else data.n_outputs

    def make_metrics(self, data: Dataset, loss: Loss) -> list[Metric]:
        """The task's own metric and those asked for; a ValueError where one measures nothing of the data."""
        n_outputs = self.n_outputs(data, loss)
        metrics = [build_metric("--metric", "mae" if data.task == "regression" else "accuracy")]
        for text in self.metric or ():
            metric = build_metric("--metric", text)
            if metric.task != data.task:
                raise ValueError(f"--metric {text} is for a {metric.task}, and {_of(data)}.")
            if metric.label not in [known.label for known in metrics]:
                metrics.append(metric)
            try:
                try_metrics([metric.for_task(loss.task(n_outputs))], data.y_train, n_outputs, loss.link)
            except ValueError as error:
                raise ValueError(f"--metric {text}: {error}") from error
        return metrics

    def check_classes(self, data: Dataset) -> None:
        """ValueError where there is a threshold, and not two classes that it parts."""
        if self.threshold is not None and (data.n_classes != 2 or data.multilabel):
            raise ValueError(f"--threshold is for two classes, and {_of(data)}.")

    def weights_of_classes(self, data: Dataset, y: HostArray) -> str | dict[int, float] | None:
        """`fit(class_weight=)`; `y` are the targets that are trained on."""
        if self.class_weight is None:
            return None
        weights = parse_class_weight(self.class_weight)
        if data.class_names is None or data.multilabel:
            raise ValueError(f"--class-weight is for one class per sample, and {_of(data)}.")
        return match_classes(weights, data.class_names, y)

    def model_info(self) -> dict[str, Any]:
        """Which of the options `evaluate` needs to find the same test part."""
        target = None if self.target is None else ",".join(self.target)
        return {"target": target, "test_fraction": self.test_fraction if self.test_data is None else 0.0}


def _plainest_first(optimizer: str) -> tuple[int, str]:
    """By how many settings there are to know."""
    return len(_settings(OPTIMIZERS[optimizer])), optimizer


def _settings(kind: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(kind) if field.init}


def _build_initializer(option: str, text: str) -> Initializer:
    """What an option's text names; values themselves have no place in it."""
    if text.partition(":")[0] == "array":
        raise ValueError(
            f"{option} array: values are given in Python, as Dense(init=values). Name what draws them, such as "
            "he_normal."
        )
    return build(option, text, INITIALIZERS)


def _of(data: Dataset) -> str:
    if data.task == "regression":
        return f"{data.name} is a regression"
    return f"{data.name} has {'several labels per sample' if data.multilabel else f'{data.n_classes} classes'}"


def _misfit(loss: str, what: str, links: Sequence[str]) -> str:
    fitting = [name for name in LOSSES if LOSSES[name].link in links]
    return f"--loss {loss} does not fit: {what}. Losses that fit: {', '.join(fitting)}."
