"""Names of a package that are imported when they are first asked for, by a module's `__getattr__` (PEP 562).

A package says twice what it has so: to people and type checkers as imports, under `if TYPE_CHECKING:`, and here as a
table. Tests hold the two together.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module


def on_demand(package: str, names: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """The `__getattr__` and the `__dir__` of a package: for each of its modules the names that it has of it.

    Between names are spaces; those under "" are of modules themselves. A name that was asked for stays in the package.
    """
    module_of = {name: module for module, listed in names.items() for name in listed.split()}

    def __getattr__(name: str) -> object:
        if name not in module_of:
            here = sys.modules[package]
            raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name, obj=here)
        module = module_of[name]
        if not module:
            return import_module(f".{name}", package)  # which puts it into the package
        value: object = getattr(import_module(f".{module}", package), name)
        setattr(sys.modules[package], name, value)
        return value

    def __dir__() -> list[str]:
        return sorted({*vars(sys.modules[package]), *module_of})

    return __getattr__, __dir__
