"""What users pass as samples, checked and made ready for the network and its loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .._arrays import column_names, is_data_set, several
from .._checks import check_integer, check_real
from .._types import DType, HostArray
from ..backend import as_array, on_host
from ..datasets import BlockSource
from ..datasets._rows import with_arrays
from ..datasets._source import Part
from ..losses import Loss, check_sample_weight, finite_weights
from ._aligned import aligned
from ._centering import TARGET_REMEDY, centered_targets, restored, warn_of_lost_digits
from ._class_weights import weights_of_classes
from ._input_checks import Features, Network, check_same_length
from ._parts import data_set_of
from ._signature import Signature, some_of
from ._source_supply import SourceSupply, TargetRules, TargetSummary
from ._sparse_features import SparseFeatures, features_of
from ._supply import ArraySupply
from ._validation_split import check_parts, split_validation

if TYPE_CHECKING:
    from ..datasets import Dataset

DataSupply = ArraySupply | SourceSupply


@dataclass(frozen=True)
class Intake:
    """Takes samples in for a network and a loss; `seed` draws what is held out."""

    model: Network
    loss: Loss
    seed: int

    def prepare(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        who: str,
        shuffle_buffer: int | None = None,
        signature: Signature | None = None,
        checks_digits: bool = True,
    ) -> DataSupply:
        """X, y and weights checked; ValueError or TypeError for what the network cannot be trained or evaluated on.

        Columns and classes are taken as the signature knows them. (default: the network's) With `checks_digits` a
        warning says where the model's dtype loses digits of a column of X or of the targets.
        """
        model = self.model
        signature = model.signature if signature is None else signature
        members = self.loss.members
        if isinstance(X, BlockSource):
            if np.ndim(sample_weight) == 2:
                raise ValueError(
                    f"{who}: a data source takes one weight for each sample, and sample_weight has one for each sample "
                    "and member. Pass X as an array; a memory map (np.load(path, mmap_mode='r')) streams as well."
                )
            source, rules = aligned(with_arrays(X, y, sample_weight, who), signature, who), self.rules()
            return SourceSupply(source, model.n_in, model.dtype, rules, who, shuffle_buffer, checks_digits)
        if y is None:
            raise TypeError(f"{who} expects X and y; only a data set or a data source has targets of its own.")
        samples = features_of(model, X, who, signature, checks_digits)
        values = on_host(model.ops, y, f"{who}: y")
        places = signature.target_places(column_names(y, who, "y"), who)
        if places is not None:
            values = as_array(values, f"{who}: y")[:, places]
        targets = self._targets(values)
        check_same_length(samples, targets, who)
        if checks_digits and self.loss.predicts_values:
            values = as_array(values, f"{who}: y")
            warn_of_lost_digits(values, targets.dtype, model.prediction_center, f"{who}: y", None, TARGET_REMEDY)
        weights = None
        if sample_weight is not None:
            given = on_host(model.ops, sample_weight, "sample_weight")
            what = "sample_weight" if who in ("fit", "evaluate") else f"{who}: sample_weight"
            purpose = "learn from" if who == "fit" else "measure"
            weights = check_sample_weight(given, len(samples), model.dtype, what, purpose, members)
        supply = ArraySupply(samples, targets, weights)
        counts = self._what_counts(supply)
        if counts is not None and len(counts) and not counts.any():
            raise ValueError(self._nothing_counts(who))
        return supply

    def _what_counts(self, samples: ArraySupply) -> HostArray | None:
        """The weight of each sample, or of each for each member, that of the loss included; None: 1."""
        by_loss, weights = self.loss.weights_of(samples.targets), samples.sample_weight
        return weights if by_loss is None else by_loss if weights is None else _by_row(weights, by_loss)

    def check_what_is_visited(self, samples: DataSupply, n: int) -> None:
        """ValueError where epochs visit the first n samples alone, and these have no weight."""
        counts = self._what_counts(samples) if isinstance(samples, ArraySupply) else None
        if counts is not None and not counts[:n].any():
            raise ValueError(
                f"fit(drop_last=True, shuffle=False) trains on the first {n} samples alone, and the weight of each of "
                "them is 0: none of them counts. Shuffle, or leave no batch out."
            )

    def _nothing_counts(self, who: str) -> str:
        return (
            f"{who}: the weight of every sample is 0, by {self.loss!r}, class_weight and sample_weight together: none "
            "of them counts. Give a class that is there, and samples of it, a weight greater than 0."
        )

    def for_training(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        class_weight: Any,
        validation_data: Any,
        validation_split: float,
        shuffle_buffer: int | None,
        check_targets: Callable[[HostArray], None],
    ) -> tuple[DataSupply, DataSupply | None, Signature]:
        """The samples to train on and those to validate on, from what `fit` was given, and the signature after it.

        `check_targets` is called with the targets of both, or some of a source's, which are all read and checked first.
        """
        share = check_real("fit(validation_split)", validation_split, low=0.0, high=1.0, high_open=True)
        if shuffle_buffer is not None:
            check_integer("fit(shuffle_buffer)", shuffle_buffer, low=1)
            if not isinstance(X, BlockSource):
                raise TypeError(
                    "fit(shuffle_buffer) is for a data set that is read block by block; an array is visited in a "
                    "random order of all samples. datasets.open_arrays(X, y) makes blocks of it."
                )
        data = data_set_of(X, y, "fit")
        if data is not None:
            X, y = data.X_train, data.y_train
        samples = self.prepare(X, y, sample_weight, "fit", shuffle_buffer)
        signature = self._signature_after(X, y, samples, data)
        validation: DataSupply | None = None
        if validation_data is not None:
            if share:
                raise ValueError("fit takes validation_data or validation_split, not both.")
            validation = self._for_validation(validation_data, signature)
        elif share:
            samples, validation = self.split(samples, share)
            if isinstance(samples, ArraySupply) and isinstance(validation, ArraySupply):
                counts = self._what_counts(samples), self._what_counts(validation)
                check_parts(*counts, share, "validation_split", "validation_data")
        center = self.model.prediction_center
        summary = _survey(samples, lambda targets: check_targets(restored(targets, center)))
        if validation is not None:
            _survey(validation, lambda targets: check_targets(restored(targets, center)))
        if class_weight is None:
            return samples, validation, signature
        # Of the training samples alone: validation measures the task as it is.
        return self.weigh_classes(samples, class_weight, summary), validation, signature

    def _signature_after(self, X: Any, y: Any, samples: DataSupply, data: Dataset | None) -> Signature:
        """The network's signature once it is trained on X and y, of which `samples` was made; `data` holds them."""
        model, known = self.model, self.model.signature
        if isinstance(samples, SourceSupply):
            source, classes = samples.source, self._fitting(samples.source.class_names)
            signature = known.after(
                source.feature_names, classes, several(source.target_names), None, source.dtype == np.uint8
            )
        else:
            some, given_as = self._looked_at(samples.X)
            names, classes = column_names(X, "fit"), None
            if data is not None:
                names, classes = data.feature_names, self._fitting(data.class_names)
            signature = known.after(names, classes, several(column_names(y, "fit", "y")), some, given_as == np.uint8)
            if data is not None and signature.byte_scale is None:
                signature = dataclasses.replace(signature, byte_scale=data.byte_scale)
        signature.check(model.n_in, model.n_predictions)
        return signature

    def _fitting(self, class_names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        """Names of classes, but None where their numbers are regression targets."""
        fits = class_names is None or len(class_names) <= max(self.model.n_predictions, 2)
        return class_names if fits else None

    def _looked_at(self, X: Features | SparseFeatures) -> tuple[HostArray | None, DType]:
        """Some of the numbers of X, where they can be looked at, and the dtype that it was given in."""
        if isinstance(X, SparseFeatures):
            return X.some(), X.given_as
        some: HostArray = self.model.ops.to_numpy(some_of(X.array))
        moved = X.on_device and self.model.input_center is not None  # what lies there is no longer what was given
        return None if moved else some, X.array.dtype

    def _for_validation(self, given: Any, signature: Signature) -> DataSupply:
        """(X, y), (X, y, sample_weight) or a source."""
        if is_data_set(given):
            raise TypeError(
                "fit(validation_data) expects (X, y), and a data set has two parts. Write validation_data="
                "(data.X_test, data.y_test), or validation_split=0.1, which leaves the test part for the test."
            )
        if isinstance(given, BlockSource):
            given = (given, None)
        if not isinstance(given, tuple | list) or len(given) not in (2, 3):
            raise TypeError("fit(validation_data) expects (X, y) or (X, y, sample_weight), or a data source.")
        X, y, *weight = given
        return self.prepare(
            X, y, weight[0] if weight else None, "validation_data", signature=signature, checks_digits=False
        )

    def split(self, samples: DataSupply, share: float) -> tuple[DataSupply, DataSupply]:
        """The samples to train on and those to validate on, drawn by the seed."""
        if isinstance(samples, SourceSupply):
            training, held_out = (Part(samples.source, share, self.seed, out) for out in (False, True))
            names = (f"the {part} part (validation_split={share:g})" for part in ("training", "validation"))
            return samples.of(training, next(names), checks_digits=True), samples.of(held_out, next(names))
        labels = self._integer_labels(samples.targets)
        rows = split_validation(len(samples), share, samples.targets if labels is None else labels, self.seed)
        return samples.part(rows[0]), samples.part(rows[1])

    def weigh_classes(self, samples: DataSupply, class_weight: Any, summary: TargetSummary | None) -> DataSupply:
        """The same samples with weights by class as well; `summary` is that of a source's targets."""
        if isinstance(samples, SourceSupply):
            assert summary is not None
            by_class = self._class_weights(class_weight, summary.counts, summary.some.shape)
            assert summary.counted is not None, "there are counts"
            if not by_class[: len(summary.counted)][summary.counted].any():
                raise ValueError(self._nothing_counts(samples.who))
            samples.class_weights = by_class
            return samples
        labels, weights = self._integer_labels(samples.targets), samples.sample_weight
        counts = None if labels is None else np.bincount(labels)
        by_class = self._class_weights(class_weight, counts, samples.targets.shape)[labels]
        product = by_class if weights is None else _by_row(weights, by_class)
        what = "class_weight" if weights is None else "class_weight times sample_weight"
        among, members = f"fit: among the training samples, {what}", self.loss.members
        weighed = check_sample_weight(product, len(samples), self.model.dtype, among, members=members)
        weighed_samples = dataclasses.replace(samples, sample_weight=weighed)
        counts_now = self._what_counts(weighed_samples)
        if counts_now is not None and not counts_now.any():
            raise ValueError(self._nothing_counts("fit"))
        return weighed_samples

    def _class_weights(self, class_weight: Any, counts: HostArray | None, shape: tuple[int, ...]) -> HostArray:
        """The weight of each class, of which there are `counts` samples; `shape` is that of the targets."""
        if counts is None:
            raise ValueError(
                f"class_weight needs integer labels and a cross-entropy; here the loss is {self.loss.name!r} and the "
                f"targets have shape {shape}. Use sample_weight instead."
            )
        n_classes = max(self.model.n_predictions, 2)
        return weights_of_classes(class_weight, np.pad(counts, (0, n_classes - len(counts))))

    def rules(self) -> TargetRules:
        """How the loss takes what a source reads."""
        dtype = self.model.dtype
        return TargetRules(
            self._targets,
            lambda weights, n: finite_weights(weights, n, dtype),
            self._integer_labels,
            dtype,
            self.loss.predicts_values,
            self.model.input_center,
            self.model.prediction_center,
            self.loss.weights_of,
            self.model.categories,
        )

    def _targets(self, y: Any) -> HostArray:
        """Targets as the loss computes with them, the network's output center subtracted."""
        centered = centered_targets(self.loss, y, self.model.output_center)
        return self.loss.prepare_targets(centered, self.model.n_out, self.model.dtype)

    def _integer_labels(self, targets: HostArray) -> HostArray | None:
        """One class number per sample (n,), where the targets of a cross-entropy are that; otherwise None."""
        labels = targets[:, 0] if targets.ndim == 2 and targets.shape[1] == 1 else targets
        if self.loss.predicts_values or labels.ndim != 1 or (labels != np.floor(labels)).any():
            return None
        return labels.astype(np.int64)


def _by_row(weights: HostArray, factors: HostArray) -> HostArray:
    """Weights (n,) or (n, members), each row times its factor."""
    return (weights.T * factors).T


def _survey(samples: DataSupply, check_targets: Callable[[HostArray], None]) -> TargetSummary | None:
    """Have the targets checked; those of a source are all read, and summed up."""
    if isinstance(samples, ArraySupply):
        check_targets(samples.targets)
        return None
    summary = samples.survey_targets()
    check_targets(summary.some)
    return summary
