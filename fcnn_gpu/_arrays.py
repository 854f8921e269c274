"""What users pass as an array, of whatever library, as a NumPy array: one rule for every entry of the API.

Lists, arrays, tables and series of numbers are taken, whatever they keep them in: nullable and Arrow-backed columns,
columns of several dtypes, objects that are numbers. What would lose something on the way is refused: masks, missing
values in columns that have no NaN, fields, text.
"""

from __future__ import annotations

import functools
import math
import numbers
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any, ParamSpec, TypeVar

import numpy as np

from ._blas_threads import OneBlasThread
from ._checks import RowError
from ._types import HostArray

P = ParamSpec("P")
R = TypeVar("R")

_NUMBERS = (numbers.Real, np.bool_, Decimal)
ENCODE = "Encode categories as numbers first: fcnn_gpu.tables.TablePreparation does."
"""What is said of text where numbers are expected."""
_MISSING = ("NoneType", "NAType", "NaTType")


def quietly(function: Callable[P, R]) -> Callable[P, R]:
    """Decorates what users call: in it NumPy neither raises nor warns where a sum underflows or overflows.

    Whatever `np.seterr` says: what comes of it is checked where it matters, in losses, gradients, outputs and what a
    dtype can hold. (`np.errstate` decorates, too, but a warning that looks for the user's line would find NumPy's.)
    And NumPy's BLAS computes on one thread (`_blas_threads`).
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with OneBlasThread(), np.errstate(all="ignore"):
            return function(*args, **kwargs)

    return call


def surely_finite(x: HostArray) -> bool:
    """Whether Σ x² is finite: one pass at the speed of memory, without a temporary. Finite values may overflow it."""
    if x.dtype.itemsize < 4:  # BLAS has no 16-bit types, and a sum of squares in one would overflow at once
        return False
    flat = x.reshape(-1, order="A")
    return math.isfinite(np.vdot(flat, flat))  # unlike np.dot it warns of no overflow


def library_of(x: Any) -> str:
    """The name of an array's type with its library: "torch.Tensor", "jaxlib.ArrayImpl".

    >>> library_of(np.zeros(1))
    'numpy.ndarray'
    """
    return f"{type(x).__module__.partition('.')[0]}.{type(x).__name__}"


def as_array(x: Any, what: str) -> HostArray:
    """`x` as a NumPy array, without a copy where it is one; `what` is its name in errors.

    Numbers, text and dates keep their dtype, and objects that are all numbers get one. TypeError for what is sparse,
    has fields, holds an object that is no number, or cannot be read; ValueError for masked and missing values, and for
    rows of different lengths.
    """
    if type(x) is np.ndarray and x.dtype.kind in "fiub":
        return x
    refuse_masked(x, what)
    refuse_data_set(x, what)
    if hasattr(x, "tocsr"):
        raise TypeError(f"{what} must be dense, got the sparse {type(x).__name__}. Pass its toarray().")
    if getattr(getattr(x, "dtype", None), "names", None):
        raise TypeError(
            f"{what} must be plain numbers, got an array with the fields {', '.join(x.dtype.names)}. Pass "
            "numpy.lib.recfunctions.structured_to_unstructured(x), which makes a matrix of them."
        )
    try:
        array = x.to_numpy(np.float64, na_value=np.nan) if _is_mixed_table(x) else np.asarray(x)
    except ValueError as error:  # rows of different lengths
        raise ValueError(f"{what} cannot be made an array. Do all rows have the same length? ({error})") from error
    except (TypeError, RuntimeError, BufferError) as error:  # what the other library refuses to hand out
        raise TypeError(
            f"{what}, a {library_of(x)}, cannot be read as a NumPy array: {str(error).rstrip('.')}. Convert it first: "
            "X.detach() where it records gradients, X.float() where NumPy lacks its dtype."
        ) from error
    return _of_objects(array, what) if array.dtype.kind == "O" and array.ndim else array


def is_data_set(x: Any) -> bool:
    """Whether x has a training and a test part, as a `fcnn_gpu.datasets.Dataset` has."""
    return all(hasattr(x, name) for name in ("X_train", "y_train", "X_test", "y_test"))


def refuse_data_set(x: Any, what: str) -> None:
    """TypeError for a data set where one of its arrays is expected."""
    if is_data_set(x):
        raise TypeError(
            f"{what}: got a data set, which has a training and a test part. Pass one of its arrays, such as X_train."
        )


def as_labels(x: Any, what: str) -> Any:
    """Names of classes as they are given, but what is all numbers as numbers: objects, and pandas' own integers.

    ValueError for masked ones, and for None, NaN and the like among objects.
    """
    refuse_masked(x, what)
    array = np.asarray(x)
    each = x if isinstance(x, list | tuple) else array.flat if array.dtype.kind == "O" else ()
    gaps = [i for i, label in enumerate(each) if _is_gap(label)]  # of a list NumPy would make the text "nan"
    if gaps:
        row = gaps[0] * max(1, len(array)) // max(1, len(each))
        raise ValueError(
            f"{what} has no label in row {row} ({len(gaps):,} such in all): it contains NaN or None. Remove these "
            "samples."
        )
    if array.dtype.kind in "biu":  # scikit-learn would make floats of pandas' Int64
        return array
    if array.dtype.kind != "O" or not array.ndim or not all(isinstance(label, _NUMBERS) for label in array.flat):
        return x
    return _of_objects(array, what)


def _is_gap(label: Any) -> bool:
    """Whether it is what libraries have in the place of a value that is missing."""
    if label is None or type(label).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(label, float | np.floating) and bool(np.isnan(label))


def refuse_masked(x: Any, what: str) -> None:
    """A ValueError if `x`, or a row of it, is an array of which anything is masked: its mask would be lost."""
    if isinstance(x, np.ma.MaskedArray):
        mask = np.ma.getmaskarray(x)
        n = int(np.count_nonzero(mask if mask.dtype.names is None else [any(fields) for fields in mask.tolist()]))
    elif isinstance(x, list | tuple):
        n = sum(np.ma.count_masked(row) for row in x if isinstance(row, np.ma.MaskedArray))
    else:
        return
    if n:
        raise ValueError(f"{what} has {n} masked values. Remove or impute them.")


def column_names(X: Any, who: str, what: str = "X") -> tuple[str, ...] | None:
    """The names of a table's columns (pandas, Polars, Arrow, ...); None where X is no table, or numbers its columns.

    As in scikit-learn, columns have names where all of these are text. TypeError where only some are, and ValueError
    where a name occurs twice; `what` is what they call the table.
    """
    if type(X) is np.ndarray:
        return None
    # Of the type: a table's own columns are attributes, too.
    attribute = next((name for name in ("column_names", "columns") if hasattr(type(X), name)), None)
    columns = None if attribute is None else getattr(X, attribute)
    try:
        names = list(columns) if columns is not None and not callable(columns) else []
    except TypeError:
        return None
    are_text = [isinstance(name, str) for name in names]
    if not any(are_text):
        return None
    if not all(are_text):
        odd = names[are_text.index(False)]
        raise TypeError(
            f"{who}: some columns of {what} are named by text and others not ({odd!r}). Name all: {what}.columns = "
            f"{what}.columns.astype(str)."
        )
    if len(set(names)) < len(names):
        twice = next(name for name, times in Counter(names).items() if times > 1)
        raise ValueError(f"{who}: {what} has two columns {twice!r}. Rename or drop one.")
    return tuple(names)


def several(names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Names of columns that could be confused: those of two or more."""
    return names if names is not None and len(names) > 1 else None


def _is_mixed_table(x: Any) -> bool:
    """Whether `x` is a DataFrame of numbers of several kinds, of which pandas would make Python objects."""
    if not (hasattr(x, "columns") and hasattr(x, "dtypes") and hasattr(x, "to_numpy")):
        return False
    kinds = {getattr(dtype, "kind", "O") for dtype in x.dtypes}
    return kinds <= set("fiub") and len(kinds) > 1


def _of_objects(array: HostArray, what: str) -> HostArray:
    """An array of Python objects as one of numbers: whole ones stay exact where NumPy has a dtype for them."""
    flat = array.reshape(-1).tolist()
    kinds = set(map(type, flat))
    foreign = {kind for kind in kinds if not issubclass(kind, _NUMBERS)}
    if foreign:
        at = next(i for i, value in enumerate(flat) if type(value) in foreign)
        row, *columns = (int(i) for i in np.unravel_index(at, array.shape))
        column = f", column {columns[0]}" if columns else ""
        if type(flat[at]).__name__ in _MISSING:
            raise RowError(f"{what}: a value is missing, {flat[at]} ({{row}}{column}). Remove or impute it.", row)
        raise TypeError(
            f"{what}, row {row}{column}: the argument must be neither a string nor any other object than a number, got "
            f"{flat[at]!r}. {ENCODE}"
        )
    if all(issubclass(kind, bool | np.bool_) for kind in kinds):
        return array.astype(bool)
    whole = all(issubclass(kind, numbers.Integral | np.bool_) for kind in kinds)
    for dtype in (np.int64, np.uint64) if whole else ():
        try:
            return array.astype(dtype)
        except OverflowError:
            continue
    try:
        return array.astype(np.float64)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{what} holds a number that float64 cannot: {error}.") from error
