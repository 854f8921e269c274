"""Constructors of estimators: the shared parameters and an estimator's own, each declared once, in one signature."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import make_dataclass
from typing import Any, TypeVar, dataclass_transform

from .._registry import answers_arguments

_Class = TypeVar("_Class", bound=type)
_Declared = tuple[str, Any] | tuple[str, Any, Any]
"""(name, type, default), or ("_", KW_ONLY) where the keyword-only parameters begin; as `make_dataclass` takes them."""


@dataclass_transform(eq_default=False)
def shared_parameters(cls: _Class) -> _Class:
    """The class's annotated attributes, written as in a dataclass, are parameters of all estimators."""
    cls._shared_parameters = _declared(cls)  # type: ignore[attr-defined]
    return cls


@dataclass_transform(eq_default=False, kw_only_default=True)
def constructor_of(estimator: str, *, before: str) -> Callable[[_Class], _Class]:
    """The constructor of `estimator`: the class's annotated attributes, in front of the shared parameter `before`.

    scikit-learn reads the parameters from the constructor's signature; type checkers read them from the attributes, and
    strictly only where no base is scikit-learn's, which they see no types of: hence a class of its own.

    The constructor is a dataclass's, but the class is none: tools that compare dataclasses do so by their fields (dask
    names a result after those of the arguments), and would take networks trained on different data for the same.
    """

    def decorate(cls: _Class) -> _Class:
        shared: list[_Declared] = cls._shared_parameters  # type: ignore[attr-defined]
        place = [name for name, *_ in shared].index(before)
        parameters = [*shared[:place], *_declared(cls), *shared[place:]]
        made = make_dataclass(estimator, parameters, namespace={"__module__": cls.__module__})
        cls.__init__ = answers_arguments(made.__init__)  # type: ignore[misc]
        return cls

    return decorate


def _declared(cls: type) -> list[_Declared]:
    defaults = vars(cls)
    annotations = inspect.get_annotations(cls, eval_str=True)  # as types: each file knows the names in its own alone
    return [(name, kind, defaults[name]) if name in defaults else (name, kind) for name, kind in annotations.items()]
