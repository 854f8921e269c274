"""The description of the machine: plain data, and what a reader is warned of."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from fcnn_gpu.bench import machine
from fcnn_gpu.bench.settings import Settings


def test_the_description_is_json() -> None:
    described, versions = machine.describe(Settings(threads=1, timeout=60))
    assert json.loads(json.dumps(described)) == described
    assert described["cpu"]
    assert described["logical_cpus"] >= 1
    assert (described["gpu"] is None) == bool(described["no_gpu_because"])
    assert all(blas["threads"] == 1 for blas in described["blas"])  # as in the workers, whatever is set here
    assert versions["numpy"] == np.__version__
    assert "python" in versions


def test_packages_that_are_absent_have_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_PACKAGES", ("numpy", "a-package-that-nobody-has"))
    assert set(machine.versions()) == {"python", "numpy"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"load_average": 3.0}, ["load average 3.00 on 2 cores"]),
        ({"virtual": True}, ["virtual machine"]),
        ({"cpu_quota": 1}, ["limits the process to 1 CPU"]),
        ({"load_average": None, "physical_cores": None}, []),
        ({}, []),
    ],
)
def test_notes_warn_of_what_spoils_times(change: dict[str, Any], words: list[str]) -> None:
    quiet = {"load_average": 0.1, "physical_cores": 2, "logical_cpus": 4, "virtual": False, "cpu_quota": None}
    notes = machine.notes(quiet | change)
    assert len(notes) == len(words)
    for note, word in zip(notes, words, strict=True):
        assert word in note
