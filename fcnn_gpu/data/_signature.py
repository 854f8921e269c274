"""What a network was trained on, as far as whoever uses it later must know: names and scale of its inputs, its classes.

Columns that have names are matched by name, wherever they lie; numbers of another scale than in training are refused;
of a table as it is, inputs are made as they were in training. Nobody has to write a signature: `Trainer.fit` notes what
it sees, and it is saved with the model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .._checks import match_names
from .._console import counted
from .._types import HostArray
from ..datasets import BlockSource

if TYPE_CHECKING:
    from ..tables import TablePreparation

SIGNED_SAMPLES = 1000
"""Samples by which the scale of X is known: the first ones."""
_PIXELS = 1.0
"""Numbers up to this are taken for scaled bytes."""
_NO_PIXELS = 127.0
"""Whole numbers above this are no test data of a network of numbers up to 1, but bytes in another dtype."""


@dataclass(frozen=True, repr=False)
class Signature:
    """The names and the scale of a network's inputs, and what its classes are called; None for what is not known.

    >>> Signature(feature_names=["width", "height"], class_names=["cat", "dog"])
    Signature(feature_names=('width', 'height'), class_names=('cat', 'dog'))

    Attributes:
        feature_names: of the n_in columns of X, in order.
        class_names: what class 0, 1, ... is called: text, whole numbers, floats or booleans.
        target_names: of the columns of y, where there are several.
        byte_scale: what unsigned bytes (pixels) are multiplied by before they reach the network: 1 for one that was
            trained on bytes as they are, 1/255 for one that was trained on pixels from 0 to 1.
        input_range: the smallest and the largest number among the first 1,000 training samples.
        preparation: how inputs are made of a table as it is: a fitted `TablePreparation`, or the plain data of one,
            which is what is kept. A network that has one takes such tables for X, and matrices of inputs.
        target_range: (smallest, largest) of each target in training, which predictions of values stay within.
        threshold: of two classes, the probability beyond which the second is predicted; None is ½.
    """

    feature_names: Sequence[str] | None = None
    class_names: Sequence[str | int | float | bool] | None = None
    target_names: Sequence[str] | None = None
    byte_scale: float | None = None
    input_range: Sequence[float] | None = None
    preparation: Any = None
    target_range: Sequence[Sequence[float]] | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        for name in ("feature_names", "class_names", "target_names", "input_range"):
            value = getattr(self, name)
            if value is not None:
                if isinstance(value, str) or not isinstance(value, Sequence):
                    raise TypeError(f"Signature({name}) expects a list, got {value!r}.")
                object.__setattr__(self, name, tuple(value))
        _check_names("feature_names", self.feature_names, str)
        _check_names("target_names", self.target_names, str)
        _check_names("class_names", self.class_names, str | int | float)
        scale = self.byte_scale
        if scale is not None and not (_is_number(scale) and 0 < scale < np.inf):
            raise ValueError(f"Signature(byte_scale) expects a number above 0, got {scale!r}.")
        bounds = self.input_range
        if bounds is not None and not (len(bounds) == 2 and all(_is_number(x) and np.isfinite(x) for x in bounds)):
            raise ValueError(f"Signature(input_range) expects (smallest, largest), got {bounds!r}.")
        if self.preparation is not None:
            self._keep_preparation(self.preparation)
        if self.target_range is not None:
            object.__setattr__(self, "target_range", _ranges(self.target_range))
        t = self.threshold
        if t is not None and not (_is_number(t) and 0 < t < 1):
            raise ValueError(f"Signature(threshold) expects a number between 0 and 1, got {t!r}.")

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Signature:
        """The inverse of `plain`. ValueError or TypeError for anything else."""
        unknown = set(plain) - {field.name for field in dataclasses.fields(cls)}
        if unknown:
            raise ValueError(f"a signature does not know {', '.join(sorted(map(repr, unknown)))}.")
        return cls(**plain)

    def _keep_preparation(self, given: Any) -> None:
        """Plain data, which compares and is saved, and the transformer of it, which is not one of the fields.

        The transformer is one of its own: whoever gave his may fit it anew.
        """
        from ..tables import TablePreparation

        made = TablePreparation.of(given.plain() if isinstance(given, TablePreparation) else given)
        object.__setattr__(self, "preparation", made.plain())
        object.__setattr__(self, "_transformer", made)

    @property
    def transformer(self) -> TablePreparation | None:
        """The preparation, ready to be applied."""
        return getattr(self, "_transformer", None)

    def prepared(self, X: Any, who: str) -> Any:
        """The inputs (n_samples, n_in) that the preparation makes of a table; X itself if it is none, or there is none.

        A matrix is the inputs themselves; but where the preparation was fitted on a matrix, one of as many columns is
        a table like that. TableError, a ValueError, for a table that the preparation cannot read: columns that are
        missing, text where numbers were.
        """
        transformer = self.transformer
        if transformer is None:
            return X
        from ..tables import TableError, is_table

        if not (is_table(X) or self._is_matrix_of_table(X)):
            return X
        try:
            return transformer.inputs(X)
        except TableError as error:
            raise TableError(f"{who}: {error}") from error

    def _is_matrix_of_table(self, X: Any) -> bool:
        transformer = self.transformer
        if transformer is None or hasattr(transformer, "feature_names_in_") or isinstance(X, BlockSource):
            return False
        shape: tuple[int, ...] = X.shape if hasattr(X, "shape") else np.shape(X) if isinstance(X, list | tuple) else ()
        return len(shape) == 2 and shape[1] == int(transformer.n_features_in_)

    def clamped(self, values: HostArray) -> HostArray:
        """Predicted values (n_samples, n_out), those beyond the range of training moved to its nearest end."""
        if self.target_range is None:
            return values
        low, high = np.array(self.target_range, np.float64).T
        return np.clip(values, low, high).astype(values.dtype, copy=False)

    def plain(self) -> dict[str, Any]:
        """As JSON data, without what is not known."""
        known = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        ranges = {} if self.target_range is None else {"target_range": [list(ends) for ends in self.target_range]}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in known.items() if v is not None} | ranges

    def __repr__(self) -> str:
        known = [(f.name, getattr(self, f.name)) for f in dataclasses.fields(self) if f.name != "preparation"]
        known += [] if self.preparation is None else [("preparation", self.transformer)]
        return f"Signature({', '.join(f'{name}={value!r}' for name, value in known if value is not None)})"

    def check(self, n_in: int, n_out: int) -> None:
        """ValueError unless a network with so many inputs and outputs can have this signature."""
        names, classes, targets = self.feature_names, self.class_names, self.target_names
        if names is not None and len(names) != n_in:
            raise ValueError(
                f"The signature names {counted(len(names), 'feature')}, and the network has {counted(n_in, 'input')}."
            )
        if classes is not None and len(classes) > max(n_out, 2):
            raise ValueError(
                f"The signature names {counted(len(classes), 'class')}, and the network has {counted(n_out, 'output')}."
            )
        if targets is not None and n_out % len(targets):  # several outputs of each, where they are quantiles
            raise ValueError(
                f"The signature names {counted(len(targets), 'target')}, and the network has "
                f"{counted(n_out, 'output')}."
            )
        made = None if self.transformer is None else len(self.transformer.get_feature_names_out())
        if made is not None and made != n_in:
            raise ValueError(f"The signature's preparation makes {made} inputs, and the network has {n_in}.")
        if self.target_range is not None and len(self.target_range) != n_out:
            raise ValueError(f"The signature has {len(self.target_range)} ranges, and the network has {n_out} outputs.")
        if self.threshold is not None and n_out > 2:
            raise ValueError(f"The signature has a threshold of two classes, and the network has {n_out} outputs.")

    def places(self, names: tuple[str, ...] | None, who: str) -> list[int] | None:
        """Where the network's features lie among columns of these names; None where all lie in order or have no names.

        ValueError for columns that are missing, and for others that the network does not know.
        """
        if self.feature_names is None or names is None or names == self.feature_names:
            return None
        return match_names(
            self.feature_names, names, f"{who}: X", "Select them: X[list(model.signature.feature_names)]"
        )

    def target_places(self, names: tuple[str, ...] | None, who: str) -> list[int] | None:
        """The same for the columns of y."""
        if self.target_names is None or names is None or names == self.target_names:
            return None
        remedy = "Select them: y[list(model.signature.target_names)]"
        return match_names(self.target_names, names, f"{who}: y", remedy, kind="targets")

    def may_refuse(self, dtype: Any) -> bool:
        """Whether `check_scale` may refuse X of this dtype, as far as that alone tells."""
        if self.byte_scale == 1:
            return bool(dtype.kind == "f")
        return dtype.kind in "iuf" and (self.byte_scale is not None or self.input_range is not None)

    def check_scale(self, X: HostArray, who: str) -> None:
        """ValueError where X on the host is bytes and was scaled in training, or the other way round."""
        if self.byte_scale is None and self.input_range is None:
            return
        if X.dtype == np.uint8:
            self._check_bytes(X, who)
        elif self.byte_scale == 1 and X.dtype.kind == "f":
            if self.input_range is not None and self.input_range[1] <= _PIXELS:
                return  # flags, of which fractions may well be meant
            some = X[:SIGNED_SAMPLES]
            if some.size and some.max() <= _PIXELS and some.min() >= 0 and (some != np.floor(some)).any():
                raise ValueError(
                    f"{who}: the network was trained on bytes (0 to 255) as they are, and X holds fractions from "
                    f"{some.min():g} to {some.max():g}. Pass the bytes. {_HOW_TO_LIFT}"
                )
        else:
            self._check_widened_bytes(X, who)

    def _check_widened_bytes(self, X: HostArray, who: str) -> None:
        """ValueError for bytes in another dtype, such as int64, where the network was trained on scaled ones."""
        if self.byte_scale is None:
            assert self.input_range is not None
            low, high = self.input_range
            least = _NO_PIXELS if low >= 0 and high <= _PIXELS else np.inf
        else:
            least = _PIXELS if self.byte_scale < 1 else np.inf
        some = X[:SIGNED_SAMPLES]
        if least == np.inf or not some.size or some.dtype.kind not in "iuf":
            return
        largest = some.max()
        if least < largest <= 255 and some.min() >= 0 and (some == np.floor(some)).all():
            factor = f"1/{1 / self.byte_scale:g}" if self.byte_scale else "1/255"
            raise ValueError(
                f"{who}: the network was trained on numbers up to {_PIXELS:g}, and X holds whole numbers up to "
                f"{largest:g}: bytes, it seems. Scale them as in training, for example X·{factor}. {_HOW_TO_LIFT}"
            )

    def _check_bytes(self, X: HostArray, who: str) -> None:
        scale = self.byte_scale
        if scale == 1 or not X.size:
            return
        largest = int(X.max())
        if scale is None:
            assert self.input_range is not None
            if self.input_range[1] > _PIXELS or largest <= _PIXELS:
                return
        if largest:
            seen = "" if self.input_range is None else " from {:g} to {:g}".format(*self.input_range)
            factor = f"1/{1 / scale:g}" if scale else "1/255"
            raise ValueError(
                f"{who}: the network was trained on numbers{seen}, and X holds bytes up to {largest}. Scale them as in "
                f"training, for example X·{factor}. {_HOW_TO_LIFT}"
            )

    def scale_of_bytes(self, X: HostArray, who: str) -> float:
        """What bytes that come from a file are multiplied by for this network, where it has no scale of its own.

        Without a word in the signature: pixels, which become numbers from 0 to 1. ValueError where nothing tells.
        """
        if self.byte_scale is not None:
            return self.byte_scale
        if self.input_range is None:
            return 1 / 255
        low, high = self.input_range
        ambiguous = high <= _PIXELS and X.size and X.max() <= _PIXELS and X.any()
        if low >= 0 and high <= 255 and not ambiguous:
            return 1 / 255 if high <= _PIXELS else 1.0
        raise ValueError(
            f"{who} holds bytes up to {int(X.max())}, and the network was trained on numbers from {low:g} to {high:g}: "
            "nothing says how the bytes are to be scaled. Scale them as in training, and pass floating-point numbers."
        )

    def after(
        self,
        names: tuple[str, ...] | None,
        class_names: tuple[str, ...] | None,
        target_names: tuple[str, ...] | None,
        some: HostArray | None,
        is_bytes: bool,
    ) -> Signature:
        """This signature after training on samples of these names; `some` of them, where they can be looked at."""
        bounds = self.input_range
        if some is not None and some.size:
            low, high = float(some.min()), float(some.max())
            if np.isfinite(low) and np.isfinite(high):  # else training is about to refuse them
                bounds = (low, high) if bounds is None else (min(low, bounds[0]), max(high, bounds[1]))
        return Signature(
            self.feature_names or names,
            self.class_names or class_names,
            self.target_names or target_names,
            1.0 if self.byte_scale is None and is_bytes else self.byte_scale,
            bounds,
            self.preparation,
            self.target_range,
            self.threshold,
        )


_HOW_TO_LIFT = "(Where that is meant: model.signature = fcnn_gpu.Signature().)"


def some_of(X: HostArray) -> HostArray:
    """The samples by which a signature knows the scale of X."""
    return X[:SIGNED_SAMPLES]


def _ranges(given: Any) -> tuple[tuple[float, float], ...]:
    """(smallest, largest) pairs; ValueError or TypeError for anything else."""
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise TypeError(f"Signature(target_range) expects a list of (smallest, largest), got {given!r}.")
    for ends in given:
        whole = isinstance(ends, Sequence) and not isinstance(ends, str) and len(ends) == 2
        if not (whole and all(_is_number(x) and np.isfinite(x) for x in ends) and ends[0] <= ends[1]):
            raise ValueError(f"Signature(target_range) expects (smallest, largest) for each output, got {ends!r}.")
    return tuple((float(low), float(high)) for low, high in given)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_names(field: str, names: Sequence[Any] | None, kinds: Any) -> None:
    if names is None:
        return
    for name in names:
        if not isinstance(name, kinds):
            raise TypeError(f"Signature({field}) does not take {name!r} ({type(name).__name__}).")
        if isinstance(name, float) and not np.isfinite(name):  # for which JSON, as what it is saved, has no number
            raise ValueError(f"Signature({field}) does not take {name}.")
    if len(set(map(str, names))) < len(names):
        raise ValueError(f"Signature({field}) names something twice: {list(names)}.")
    if not names:
        raise ValueError(f"Signature({field}) is empty; None says that names are not known.")
