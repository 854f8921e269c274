"""X as a network takes it, dense or sparse; of sparse X the numbers other than 0, checked. It never becomes dense."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np

from .._arrays import library_of
from .._types import Array, HostArray
from ..backend import Ops, SparseRows
from ._input_checks import Features, Network, check_matrix, features, refuse_number
from ._signature import SIGNED_SAMPLES, Signature

_MOST_COLUMNS = 2**31 - 1


def is_sparse(X: Any) -> bool:
    """Whether X is a sparse matrix or array of SciPy's, which is not imported for that.

    >>> from scipy.sparse import coo_array
    >>> is_sparse(coo_array((2, 3))), is_sparse(np.zeros((2, 3)))
    (True, False)
    """
    return hasattr(X, "tocsr") and any(base.__module__.partition(".")[0] == "scipy" for base in type(X).__mro__)


class SparseFeatures:
    """X (n_samples, n_features), sparse, checked: the counterpart of `Features`, on the host.

    Its numbers are of the model's dtype, in the memory of X where they were so before. `sparse_features` makes one.
    """

    def __init__(self, ops: Ops, rows: SparseRows, given_as: np.dtype[Any]) -> None:
        self._ops, self._rows = ops, rows
        self.given_as = given_as
        """The dtype of the numbers that X was given in."""
        self.n_features = rows.n_in
        self.dtype = rows.values.dtype

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def n_values(self) -> int:
        """How many numbers are kept."""
        extents = self._rows.extents
        return int((extents[:, 1] - extents[:, 0]).sum())

    @property
    def sample_bytes(self) -> int:
        """Of a sample as it is stored, on average."""
        kept = self.n_values * (self._rows.values.itemsize + self._rows.columns.itemsize) + self._rows.extents.nbytes
        return -(-kept // len(self))

    def some(self) -> HostArray:
        """The numbers of some samples, in a row, and a 0: by them a signature knows the scale of X."""
        return np.append(self._rows[:SIGNED_SAMPLES].packed().values, np.zeros(1, self.dtype))

    def on_model(self) -> SparseRows:
        """All samples on the model's device."""
        return self._rows.on(self._ops)

    def batches(self, size: int) -> Generator[tuple[int, SparseRows]]:
        """All samples, `size` at a time, on the model's device: the number of the first, and the samples."""
        for start in range(0, len(self), size):
            yield start, self._rows[start : start + size].on(self._ops)

    def take(self, index: HostArray) -> SparseFeatures:
        """The samples of these numbers; what is kept of them stays where it is."""
        return SparseFeatures(self._ops, self._rows[index], self.given_as)


def features_of(
    network: Network,
    X: Any,
    who: str,
    signature: Signature | None = None,
    checks_digits: bool = False,
    prepared: bool = False,
    may_be_empty: bool = False,
) -> Features | SparseFeatures:
    """X, dense or sparse, for a network, by its signature unless another is given; the rest is as in `features`.

    TypeError for sparse X where the network does not take it, or that is not SciPy's.
    """
    signature = network.signature if signature is None else signature
    ops, n_in, dtype = network.ops, network.n_in, network.dtype
    if not prepared:
        X = signature.prepared(X, who)
    if is_sparse(X):
        if network.sparse_obstacle is not None:
            raise TypeError(f"{who}: X is a sparse {type(X).__name__}, and {network.sparse_obstacle}")
        return sparse_features(ops, X, n_in, dtype, who, signature, may_be_empty)
    if hasattr(X, "tocsr"):
        raise TypeError(
            f"{who}: X, a {library_of(X)}, is sparse, and of sparse matrices those of SciPy are taken. Convert it "
            "first: X.get() of CuPy, X.to_scipy_sparse() of sparse."
        )
    center, categories = network.input_center, network.categories
    return features(ops, X, n_in, dtype, who, signature, center, checks_digits, categories, True, may_be_empty)


def sparse_features(
    ops: Ops, X: Any, n_in: int | None, dtype: Any, who: str, signature: Signature, may_be_empty: bool = False
) -> SparseFeatures:
    """X of SciPy's in any format, for a model of this dtype and signature; its columns go by place.

    Several numbers at one place are added up, as SciPy does. TypeError for what is not numeric; ValueError for wrong
    shapes, places outside of X, numbers that are not finite or not in dtype's range, another scale than in training.
    """
    check_matrix(X, n_in, who, may_be_empty)
    if X.shape[1] > _MOST_COLUMNS:
        raise ValueError(f"{who} takes sparse X of at most {_MOST_COLUMNS:,} features, got {X.shape[1]:,}.")
    _check_places(X, who)
    csr = _canonical(X.tocsr(), who)
    n = int(csr.indptr[-1])
    signature.check_scale(csr.data[:n], who)
    values = _values(csr, n, np.dtype(dtype), who)
    columns = np.ascontiguousarray(csr.indices[:n], np.int32)
    extents = np.stack([csr.indptr[:-1], csr.indptr[1:]], axis=1).astype(np.int64, copy=False)
    return SparseFeatures(ops, SparseRows(values, columns, extents, csr.shape[1]), csr.data.dtype)


def _check_places(X: Any, who: str) -> None:
    """ValueError for places outside of X in the formats whose conversion, in C, does not look: memory would be lost."""
    sound = True
    if X.format in ("csc", "bsr"):
        try:
            X.check_format(full_check=True)
        except ValueError:
            sound = False
    elif X.format == "coo":
        places = X.coords if hasattr(X, "coords") else (X.row, X.col)
        sound = all(not len(i) or (i.min() >= 0 and i.max() < n) for i, n in zip(places, X.shape, strict=True))
    if not sound:
        raise _misplaced(X, who)


def _misplaced(X: Any, who: str) -> ValueError:
    return ValueError(
        f"{who}: X, a sparse {type(X).__name__} of shape {X.shape}, has places outside of it, or rows that do not "
        "follow each other. X.check_format() says which; make it anew from its rows and columns."
    )


def _canonical(csr: Any, who: str) -> Any:
    """X itself if the columns of each row ascend and none is there twice, else a copy of which that is so.

    Not by what X says of itself: SciPy remembers that from before its arrays were changed. ValueError for places that
    do not exist.
    """
    indptr, indices = csr.indptr, csr.indices
    n = int(indptr[-1])
    sound = len(indptr) == csr.shape[0] + 1 and indptr[0] == 0 and not (indptr[1:] < indptr[:-1]).any()
    sound = sound and n <= min(len(indices), len(csr.data))
    if not sound or (n and (indices[:n].min() < 0 or indices[:n].max() >= csr.shape[1])):
        raise _misplaced(csr, who)
    ascends = indices[1:n] > indices[: max(0, n - 1)]
    begins = indptr[1:-1]
    ascends[begins[(begins > 0) & (begins < n)] - 1] = True  # from the end of a row to the next
    if ascends.all():
        return csr
    copied = type(csr)((csr.data, csr.indices, csr.indptr), shape=csr.shape, copy=True)
    copied.sum_duplicates()
    return copied


def _values(csr: Any, n: int, dtype: np.dtype[Any], who: str) -> Array:
    """The numbers in `dtype`, all finite."""
    given = csr.data[:n]
    with np.errstate(all="ignore"):
        values = np.ascontiguousarray(given, dtype)
    finite = np.isfinite(values)
    if not finite.all():
        at = int(np.argmin(finite))
        row = int(np.searchsorted(csr.indptr, at, side="right")) - 1
        refuse_number(given[at], row, int(csr.indices[at]), dtype, who)
    return values
