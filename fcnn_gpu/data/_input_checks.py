"""Checks of what users pass as data, made before anything changes: on the host, or where the data already is."""

from __future__ import annotations

from collections.abc import Generator, Sized
from typing import Any, Protocol

import numpy as np

from .._arrays import ENCODE, column_names, surely_finite
from .._checks import RowError
from .._console import counted
from .._types import Array, DType, HostArray
from ..backend import Ops, as_array, available_memory
from ..datasets._digits import difference, may_round
from ..files import MappedFile, let_go_of_pages, place_in_file
from ._categories import Categories
from ._centering import REMEDY, centered, centered_on_device, warn_of_lost_digits
from ._signature import Signature

_STORED_AS_GIVEN = ("uint8", "float16", "bfloat16")
"""Dtypes in which samples stay, to save memory; they are cast when a batch is gathered."""
_CHECKED_AT_ONCE = 2**24
"""Bytes of a data set on the host that are converted and checked at a time, where all of it must not be copied."""
_COPIED_AT_ONCE = 2**22
"""The same on their way to a device: what is in cache when it has been checked."""
_MAPPED_AT_ONCE = 64
"""Rows of a memory map that a thread reads before its pages are let go: each may have brought 64 KiB into memory."""
_MAPPED_BYTES = 2**20
"""The same for rows that lie close together."""
_PAGES = 2**16
"""Bytes that a touched page of a map brings into memory."""
_LOOKED_AT = 256
"""Rows of an array of the device that are looked at on the host."""

_NOTHING_KNOWN = Signature()


class Network(Protocol):
    """What samples are made ready for, as far as that matters to them."""

    @property
    def ops(self) -> Ops: ...
    @property
    def dtype(self) -> DType: ...
    @property
    def n_in(self) -> int: ...
    @property
    def n_out(self) -> int: ...
    @property
    def n_predictions(self) -> int: ...
    @property
    def signature(self) -> Signature: ...
    @property
    def input_center(self) -> HostArray | None: ...
    @property
    def output_center(self) -> HostArray | None: ...
    @property
    def prediction_center(self) -> HostArray | None: ...
    @property
    def categories(self) -> Categories | None: ...
    @property
    def sparse_obstacle(self) -> str | None: ...


class Features:
    """X (n_samples, n_features), its shape and type checked: on the host as it was given, or on the model's device.

    `dtype` is what samples are stored as: uint8 (for booleans, too), float16 and bfloat16 stay, everything else becomes
    the model's dtype, and so does all of which a center is subtracted. `features` makes one. What lies on the host is
    converted, and its numbers are checked, when they are asked for; what lies on the device is ready in `array`.
    """

    def __init__(
        self,
        ops: Ops,
        array: Array,
        dtype: Any,
        who: str,
        on_device: bool,
        index: Any = None,
        center: HostArray | None = None,
        categories: Categories | None = None,
    ) -> None:
        self._ops, self._who, self._index, self._center = ops, who, index, center
        self._categories = categories
        self.array, self.dtype, self.on_device = array, np.dtype(dtype), on_device
        self.n_features = array.shape[1]
        self._mapped = not on_device and place_in_file(array) is not None
        self._file = MappedFile.of(array) if self._mapped else None
        self._row_bytes = self.n_features * array.dtype.itemsize

    def __len__(self) -> int:
        return len(self.array) if self._index is None else len(self._index)

    @property
    def exceeds_memory(self) -> bool:
        """Whether X is mapped from a file and is more than half of the memory that is free."""
        free = available_memory() if self._mapped else None
        return free is not None and self.nbytes > free / 2

    @property
    def nbytes(self) -> int:
        """Bytes of all samples as they are stored."""
        return len(self) * self.sample_bytes

    @property
    def sample_bytes(self) -> int:
        """Of a sample as it is stored."""
        return self.n_features * self.dtype.itemsize

    def pages_in_memory(self, shuffled: bool, n_threads: int) -> int:
        """Bytes of a map's pages that are in memory at a time while so many threads read it; 0 for any other array."""
        if not self._mapped:
            return 0
        apart = _MAPPED_AT_ONCE * (self._row_bytes + _PAGES)
        together = max(_MAPPED_AT_ONCE * self._row_bytes, _MAPPED_BYTES) + _PAGES
        return min(self.nbytes, n_threads * (apart if shuffled else together))

    def whole(self) -> Array:
        """All samples, C-ordered, of `dtype`: on the host or on the device, wherever they are. X itself if it is so.

        ValueError for NaN, infinity, or a value outside the dtype's range.
        """
        if self.on_device:
            return self.array
        if self._file is not None:
            self._file.check()
        return self._checked(self.array if self._index is None else self.array[self._index], 0)

    def on_model(self) -> Array:
        """All samples, as `whole` gives them, on the model's device: converted, checked and copied in pieces."""
        ops = self._ops
        if self.on_device or not ops.asynchronous:
            return ops.asarray(self.whole())
        out = ops.empty((len(self), self.n_features), self.dtype)
        for start, rows in self.batches(max(1, _COPIED_AT_ONCE // (self.n_features * self.dtype.itemsize))):
            ops.assign(out[start : start + len(rows)], rows)
        if self._mapped:
            let_go_of_pages(self.array)
        return out

    def part(self, start: int, stop: int) -> Array:
        """The samples from `start` up to `stop`, as `whole` gives them. A map lets go of what earlier calls gave."""
        if self.on_device:
            return self.array[start:stop]
        if self._mapped:
            let_go_of_pages(self.array)
        if self._file is not None:
            self._file.check()
        rows: Any = slice(start, stop) if self._index is None else self._index[start:stop]
        return self._checked(self.array[rows], start)

    def check(self) -> None:
        """The ValueError that `whole` would raise, found without a copy of all samples."""
        known = self.array.dtype.kind in "biu" and self._center is None and self._categories is None
        if not self.on_device and not known:
            rows = max(1, _CHECKED_AT_ONCE // (self.n_features * self.dtype.itemsize))
            for start in range(0, len(self), rows):
                self.part(start, min(start + rows, len(self)))

    def read(self, rows: HostArray, out: HostArray) -> None:
        """out = the samples of these numbers, cast: from the host, already checked; out (len(rows), n_features)."""
        if self._index is not None:
            rows = self._index[rows]
        if self._mapped:
            self._read_mapped(rows, out)
        elif self._center is not None:
            centered(self.array[rows], self._center, out)
        elif self.array.dtype == out.dtype and self.array.flags.c_contiguous:
            self.array.take(rows, 0, out, "clip")  # of any other array NumPy would first copy all
        else:
            np.copyto(out, self.array[rows], casting="unsafe")

    def _read_mapped(self, rows: HostArray, out: HostArray) -> None:
        """`read` in the order of the file, with few of its pages in memory at a time.

        A touched page brings its neighbours with it. Rows in order share them; each for itself, small rows would take
        ten times as long.
        """
        if self._file is not None:
            self._file.check()
        order = np.argsort(rows, kind="stable")
        dense = rows[order[-1]] - rows[order[0]] < 2 * len(rows)
        at_once = max(_MAPPED_AT_ONCE, _MAPPED_BYTES // self._row_bytes) if dense else _MAPPED_AT_ONCE
        for first in range(0, len(rows), at_once):
            part = order[first : first + at_once]
            picked = self.array[rows[part]]
            out[part] = picked if self._center is None else difference(picked, self._center)
            let_go_of_pages(self.array)

    def batches(self, size: int) -> Generator[tuple[int, Array]]:
        """All samples, `size` at a time: the number of the first, and the samples as `whole` gives them."""
        for start in range(0, len(self), size):
            yield start, self.part(start, min(start + size, len(self)))

    def take(self, index: HostArray) -> Features:
        """The samples of these numbers: a copy on the device; on the host they are picked when they are asked for."""
        if not self.on_device:
            index = index if self._index is None else self._index[index]
            return Features(self._ops, self.array, self.dtype, self._who, False, index, self._center, self._categories)
        ops = self._ops
        picked = ops.empty((len(index), self.n_features), self.dtype)
        ops.gather_rows(self.array, ops.asarray(index.astype(np.int64)), ops.zeros(1, np.int64), picked)
        return Features(ops, picked, self.dtype, self._who, True)

    def _checked(self, rows: HostArray, first: int) -> HostArray:
        checked = converted(rows, self.dtype, self._who, first, self._index, self._center)
        if self._categories is not None:
            self._categories.check(checked, self._who, first, self._index)
        return checked


def features(
    ops: Ops,
    X: Any,
    n_in: int | None,
    dtype: Any,
    who: str,
    signature: Signature | None = None,
    center: HostArray | None = None,
    checks_digits: bool = False,
    categories: Categories | None = None,
    prepared: bool = False,
    may_be_empty: bool = False,
) -> Features:
    """X, an array of any library on the host or on the device of `ops`, or a table, for a model of this dtype.

    A table's columns are taken by name where the signature has names, and made inputs of where it has a preparation.
    Raises TypeError for what is not numeric
    (complex, text, objects, sparse matrices) or lies where the model cannot read it, and ValueError for wrong shapes or
    columns, another scale than in training, and another device. What lies on the device must be finite, too. `center`
    is subtracted in float64; `checks_digits` warns where the model's dtype then loses digits of a column. Numbers of
    `categories` are checked where the others are. `prepared`: X is what the signature's preparation has made.
    `may_be_empty`: it may have no samples.
    """
    signature = _NOTHING_KNOWN if signature is None else signature
    if not prepared:
        X = signature.prepared(X, who)
    names = column_names(X, who)
    places = signature.places(names, who)
    adopted = None if type(X) is np.ndarray else ops.adopt(X, f"{who}: X")
    on_device = adopted is not None
    array: Array = adopted if on_device else as_array(X, f"{who}: X")
    if places is not None and array.ndim == 2:
        array = array[:, places]
    check_matrix(array, n_in, who, may_be_empty)
    stored = storage_dtype(array.dtype, dtype, center)
    if checks_digits and may_round(array.dtype, stored):
        looked_at = array
        if on_device:
            looked_at = ops.to_numpy(array[:: max(1, len(array) // _LOOKED_AT)])
        if places is not None:
            names = names if signature.feature_names is None else tuple(signature.feature_names)
        warn_of_lost_digits(looked_at, stored, center, f"{who}: X", names, REMEDY)
    if on_device:
        array = _ready(ops, array, stored, who, center)
        if categories is not None:
            categories.check_on_device(ops, array, who)
    else:
        signature.check_scale(array, who)
    return Features(ops, array, stored, who, on_device, None, center, categories)


def check_features(X: Any, n_in: int | None, dtype: Any, who: str) -> HostArray:
    """X as a C-contiguous (n_samples, n_in) array of `dtype` on the host, without NaN or infinity.

    Raises TypeError for what is not numeric (complex, text, objects, sparse matrices) and ValueError for wrong shapes
    and for values that are not finite, or not in `dtype`'s range.
    """
    array = as_array(X, f"{who}: X")
    check_matrix(array, n_in, who)
    warn_of_lost_digits(array, dtype, None, f"{who}: X", None, REMEDY)
    return converted(array, np.dtype(dtype), who)


def check_matrix(array: Any, n_in: int | None, who: str, may_be_empty: bool = False) -> None:
    """TypeError or ValueError unless `array`, dense or sparse, holds real numbers, in n_in columns (None: any).

    `may_be_empty`: it may have no rows.
    """
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        kind = "complex numbers" if array.dtype.kind == "c" else f"{array.dtype} values"
        raise TypeError(f"{who} expects X to hold real numbers, got {kind}. {ENCODE}")
    if array.ndim != 2:
        hint = (
            "Reshape one sample to X.reshape(1, -1)"
            if array.ndim == 1
            else "Flatten each sample: X.reshape(len(X), -1)"
        )
        raise ValueError(f"{who} expects X of shape (n_samples, n_features), got {array.shape}. {hint}.")
    if array.shape[0] == 0 and not may_be_empty:
        raise ValueError(f"{who} got an X without samples: shape {array.shape}.")
    if array.shape[1] == 0:
        raise ValueError(f"{who} got an X without features: shape {array.shape}.")
    if n_in is not None and array.shape[1] != n_in:
        hint = " Did you pass X.T instead of X?" if array.shape[0] == n_in else ""
        raise ValueError(f"{who} expects X of shape (n_samples, {n_in}), got {array.shape}.{hint}")


def storage_dtype(given: Any, dtype: Any, center: HostArray | None = None) -> Any:
    if given == dtype or center is not None:
        return np.dtype(dtype)  # before names are looked at, which takes longer
    if given.kind == "b":
        return np.dtype(np.uint8)
    return given.newbyteorder("=") if given.name in _STORED_AS_GIVEN else np.dtype(dtype)


def converted(
    array: HostArray,
    dtype: Any,
    who: str,
    first: int = 0,
    index: HostArray | None = None,
    center: HostArray | None = None,
) -> HostArray:
    """`array`, samples from number `first` on (of `index`), C-contiguous and of `dtype`, all numbers finite.

    `center` is subtracted, in float64.
    """
    if array.dtype.kind == "b" and dtype == np.uint8:
        array = array.view(np.uint8)
    if center is not None:
        converted = np.empty(array.shape, dtype)
        centered(array, center, converted)
    elif array.dtype == dtype and array.flags.c_contiguous:
        converted = array
    else:
        with np.errstate(all="ignore"):
            converted = np.ascontiguousarray(array, dtype)
    if dtype.kind != "u" and (array.dtype.kind not in "biu" or center is not None) and not surely_finite(converted):
        finite = np.isfinite(converted)
        if not finite.all():
            row, column = (int(i) for i in np.argwhere(~finite)[0])
            sample = first + row if index is None else int(index[first + row])
            refuse_number(array[row, column], sample, column, dtype, who)
    return converted


def refuse_number(value: Any, row: int, column: int, dtype: Any, who: str) -> None:
    """RowError for a number that is not finite, or not in `dtype`."""
    if np.isfinite(value):
        raise RowError(
            f"{who}: X holds {value:g} ({{row}}, column {column}), outside the range of {np.dtype(dtype).name}. "
            "Scale the features, for example with sklearn.preprocessing.StandardScaler.",
            row,
        )
    raise RowError(f"{who}: X holds {value} (first in {{row}}, column {column}). Remove or impute such values.", row)


def _ready(ops: Ops, array: Array, dtype: Any, who: str, center: HostArray | None = None) -> Array:
    """An array of the device, C-ordered and of `dtype`: itself if it is so. One number is read back.

    Of one that a center is subtracted from, all numbers pass through the host.
    """
    given = array.dtype
    if given.kind == "b" and array.flags.c_contiguous:
        array = array.view(np.uint8)
    ready = ops.asarray(array, dtype) if center is None else centered_on_device(ops, array, center, dtype)
    if given.kind not in "biu" or center is not None:
        count = ops.zeros(1, np.int64)
        ops.count_nonfinite(ready, count)
        n_bad = int(ops.to_numpy(count)[0])
        if n_bad:
            outside = "" if given == ready.dtype else f", or outside the range of {ready.dtype.name}"
            raise ValueError(
                f"{who}: {n_bad} of the {ready.size} values of X, which lies on the device, are NaN or infinite"
                f"{outside}. Remove, impute or scale them."
            )
    return ready


def check_same_length(X: Sized, y: HostArray, who: str) -> None:
    """A ValueError unless X and y have equally many samples."""
    if len(X) != len(y):
        raise ValueError(f"{who} got {counted(len(X), 'sample')} in X but {len(y)} in y.")
