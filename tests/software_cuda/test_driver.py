"""The software driver's own rules: when work is done, what a capture forbids, what the guards catch."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.software_cuda import build, driver_cases, environment
from tests.software_cuda.required import skip_unless_buildable


@functools.cache
def faults(settings: str) -> dict[str, str]:
    pairs = dict(pair.split("=") for pair in settings.split())
    # Without the overlay, whose sitecustomize would load the driver before the cases' own processes are forked.
    alone = {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-m", "tests.software_cuda.driver_cases", settings],
        env={**environment(build(), **pairs), **alone},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("settings", "name"), [(settings, name) for settings, cases in driver_cases.CASES.items() for name in cases]
)
def test_driver(settings: str, name: str) -> None:
    skip_unless_buildable()
    assert not faults(settings)[name]
