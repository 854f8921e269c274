"""Whenever a process is killed or interrupted: a model is whole, and a folder holds the network of a whole step."""

from __future__ import annotations

import os

import pytest

from tests.support.faults import Faults, told, with_pending
from tests.support.killed_runs import RUNS

PENDING = {"save": "what a dead process has left is removed by the next replacement: files/_replacement.py"}
"""What fails until another part of the package is mended, and which."""
COUNTS = {"save": 24, "folder-train": 18, "folder-create": 12, "train": 6}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked, so that a kill costs no start of Python")
@pytest.mark.parametrize("name", with_pending(RUNS, PENDING))
def test_what_a_kill_leaves_is_whole(name: str, faults: Faults) -> None:
    said = faults.inject("killed_runs", name, COUNTS[name], faults.seed)
    assert not said["faults"], told(said["faults"], f"Of {said['count']} children.")
    assert said["ended"], "every child had ended before its signal came"
