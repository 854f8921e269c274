"""Which of a test's cases have something new: those with a value of a parameter that none before them had.

Coverage is measured in them alone. A trace function makes tests in Python half as slow again, and most of the thousands
of cases are combinations of what others have one by one. What only the others reach counts as not covered: the figure
is a lower bound. On software CUDA, the kernels' own tests run in them alone.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest


def leave_unmeasured(config: pytest.Config, items: Iterable[pytest.Item]) -> None:
    """Mark the other cases for pytest-cov, where it measures: it stops while they run."""
    if not config.pluginmanager.hasplugin("_cov"):
        return
    for item in without_news(items):
        item.add_marker("no_cover")


def without_news(items: Iterable[pytest.Item]) -> list[pytest.Item]:
    """The cases of which all parameters have values that cases before them had."""
    seen: set[tuple[str, str, int]] = set()
    found = []
    for item in items:
        values = values_of(item)
        if values and values <= seen:
            found.append(item)
        seen |= values
    return found


def values_of(item: pytest.Item) -> set[tuple[str, str, int]]:
    """The parameters of a test's case, each as the test, its name and which object its value is: cases share them."""
    callspec = getattr(item, "callspec", None)
    function = item.nodeid.partition("[")[0]
    return {(function, name, id(value)) for name, value in callspec.params.items()} if callspec else set()
