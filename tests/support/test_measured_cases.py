"""Of a test's cases coverage is measured in those that have something new."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

from .measured_cases import leave_unmeasured


class Case:
    """What is asked of a collected test."""

    def __init__(self, test: str, **values: Any) -> None:
        self.nodeid = f"{test}[{'-'.join(map(str, values.values()))}]" if values else test
        if values:
            self.callspec = SimpleNamespace(params=values)
        self.measured = True

    def add_marker(self, name: str) -> None:
        assert name == "no_cover"
        self.measured = False


def measured(cases: list[Case], measuring: bool = True) -> list[str]:
    plugins = SimpleNamespace(hasplugin=lambda name: name == "_cov" and measuring)
    config: Any = SimpleNamespace(pluginmanager=plugins)
    items: Any = cases
    leave_unmeasured(config, items)
    return [case.nodeid for case in cases if case.measured]


def grid(test: str) -> list[Case]:
    return [Case(test, layer=layer, dtype=dtype) for layer, dtype in itertools.product("abc", ("single", "double"))]


def test_each_value_is_measured_once_in_each_test() -> None:
    of_one = ["[a-single]", "[a-double]", "[b-single]", "[c-single]"]
    assert measured(grid("f") + grid("g")) == [f"{test}{case}" for test in "fg" for case in of_one]


def test_all_are_measured_without_parameters_and_where_pytest_cov_measures_nothing() -> None:
    assert measured([Case("f"), Case("g")]) == ["f", "g"]
    assert len(measured(grid("f"), measuring=False)) == 6
