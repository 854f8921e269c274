"""Arrays of other libraries, in and out: scikit-learn's array API dispatch, and arrays in a GPU's memory."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from sklearn import get_config

from .._types import HostArray
from ..backend import on_cuda
from ..data import is_sparse

_Method = TypeVar("_Method", bound=Callable[..., Any])


def to_host(x: Any) -> Any:
    """CuPy's and PyTorch's arrays in a GPU's memory as copies on the host; all else as it is."""
    copy = getattr(x, "get", None) or getattr(x, "cpu", None)
    return copy() if callable(copy) and on_cuda(x) else x


def follows_input(method: _Method) -> _Method:
    """Decorates method(X): numbers come back as arrays of X's library, on X's device, where scikit-learn is told to.

    That is with `sklearn.set_config(array_api_dispatch=True)`; otherwise, and for labels that are text, they are
    NumPy's.
    """

    @functools.wraps(method)
    def call(self: Any, X: Any) -> Any:
        return _like(X, method(self, X))

    return call  # type: ignore[return-value]


def _like(X: Any, result: HostArray) -> Any:
    if not get_config()["array_api_dispatch"] or is_sparse(X) or result.dtype.kind not in "biuf":
        return result
    from sklearn.utils._array_api import get_namespace_and_device

    xp, follows, device = get_namespace_and_device(X)
    return xp.asarray(result, device=device) if follows else result
