"""Whichever system call fails: a file is the old one or the new, the error names the path, nothing is left behind."""

from __future__ import annotations

import importlib.util

import pytest

from tests.support.failing_system_calls import SCENARIOS, library, missing
from tests.support.faults import Faults, told

COUNTS = {"train": 20, "predict": 25, "plot": 15}
_OTHERS = 40


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_failing_call_loses_nothing(name: str, faults: Faults) -> None:
    reason = missing()
    if reason:
        pytest.skip(reason)
    if name == "plot" and not importlib.util.find_spec("matplotlib"):
        pytest.skip("matplotlib is not installed")
    said = faults.inject("failing_system_calls", name, COUNTS.get(name, _OTHERS), faults.seed, library())
    assert said["calls"] >= 3, "the calls are not counted"
    assert said["tried"]
    assert not said["faults"], told(said["faults"], f"Of {said['calls']} calls.")
