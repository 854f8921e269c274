"""Whenever a process is killed or interrupted: a model is whole, and a folder holds the network of a whole step."""

from __future__ import annotations

import os

import pytest

from tests.support.faults import Faults, told
from tests.support.killed_runs import RUNS

COUNTS = {"save": 24, "folder-train": 18, "folder-create": 12, "train": 6}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked, so that a kill costs no start of Python")
@pytest.mark.parametrize("name", RUNS)
def test_what_a_kill_leaves_is_whole(name: str, faults: Faults) -> None:
    said = faults.inject("killed_runs", name, COUNTS[name], faults.seed)
    assert not said["faults"], told(said["faults"], f"Of {said['count']} children.")
    assert said["ended"], "every child had ended before its signal came"
