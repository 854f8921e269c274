"""Names of a package that are imported when they are first asked for, by a module's `__getattr__` (PEP 562).

A package says twice what it has so: to people and type checkers as imports, under `if TYPE_CHECKING:`, and here as a
table. Tests hold the two together. A module's `__dir__` leaves out what the module needs itself: `dir(fcnn.schedules)`
shows schedules, and no `math`.
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
        return sorted({*vars(sys.modules[package]), *module_of} - _NEEDED_THEMSELVES)

    return __getattr__, __dir__


_NEEDED_THEMSELVES = {"TYPE_CHECKING", "annotations", "on_demand"}


def own_names(module: str) -> Callable[[], list[str]]:
    """The `__dir__` of a module: what it has in `__all__`, else what it defines, without what it imports.

    That is read off the module's source when it is asked for.
    """

    def __dir__() -> list[str]:
        import ast
        import inspect

        here = sys.modules[module]
        own = set(getattr(here, "__all__", ()))
        if own:
            return sorted(name for name in vars(here) if name in own or name.startswith("__"))
        for node in ast.parse(inspect.getsource(here)).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                own.add(node.name)
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                own |= {target.id for target in targets if isinstance(target, ast.Name)}
        return sorted(name for name in vars(here) if name in own or name.startswith("__"))

    return __dir__
