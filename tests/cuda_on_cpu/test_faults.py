"""Tests that let a kernel fail cannot do so on a GPU."""

from __future__ import annotations

import ast
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fcnn_gpu.backend._kernels import Launcher
from tests.cuda_on_cpu import HostDevice, missing_compiler
from tests.cuda_on_cpu.faults import MAY_REACH_A_GPU, expected_fault

TESTS = Path(__file__).parents[1]


class Item:
    """What `expected_fault` asks of a test."""

    def __init__(self, fixtures: tuple[str, ...] = (), marker: str | None = None) -> None:
        self.fixturenames, self.marker = fixtures, marker

    def get_closest_marker(self, name: str) -> str | None:
        return name if name == self.marker else None


def expected(match: str, item: Item, device: Any = None) -> AbstractContextManager[Launcher]:
    some: Any = item
    return expected_fault(match, device or HostDevice(), some)


@pytest.mark.parametrize("item", [*(Item(("tmp_path", name)) for name in MAY_REACH_A_GPU), Item(marker="gpu")])
def test_a_test_that_may_be_on_a_gpu_is_refused(item: Item) -> None:
    with pytest.raises(pytest.fail.Exception, match="a GPU under"), expected("", item):
        raise AssertionError("entered")


def test_another_device_is_refused() -> None:
    class Gpu(HostDevice):
        pass

    for device in (Gpu(), object()):
        with pytest.raises(pytest.fail.Exception, match="HostDevice, got"), expected("", Item(), device):
            raise AssertionError("entered")


@pytest.mark.skipif(missing_compiler() is not None, reason=str(missing_compiler()))
def test_the_fault_must_come() -> None:
    def gather(launcher: Launcher, row: int) -> None:
        X, out = np.zeros((5, 2), np.float32), np.zeros((1, 2), np.float32)
        arguments = [5, 2, 1, 1, X, np.array([row]), np.array([0]), out]
        launcher.launch("gather", "gather_rows", (np.float32,), arguments, threads=2)

    with expected("__trap", Item()) as launcher:
        gather(launcher, 5)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"), expected("__trap", Item()) as launcher:
        gather(launcher, 4)


def test_the_shared_fixtures_that_may_be_a_gpu_are_known() -> None:
    found = set()
    for path in TESTS.rglob("conftest.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                decorated = " ".join(ast.unparse(d) for d in node.decorator_list)
                if "BACKENDS" in decorated or "mark.gpu" in decorated:
                    found.add(node.name)
    assert found == set(MAY_REACH_A_GPU)


def test_nothing_but_the_emulations_own_tests_names_the_fault() -> None:
    """Every other test goes through `expect_fault`."""
    named = []
    for path in TESTS.rglob("*.py"):
        if path.is_relative_to(TESTS / "cuda_on_cpu"):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        named += [
            f"{path.relative_to(TESTS)}:{node.lineno}"
            for node in ast.walk(tree)
            if (
                isinstance(node, ast.Name | ast.alias)
                and "KernelFault" in (getattr(node, "id", ""), getattr(node, "name", ""))
            )
            or (isinstance(node, ast.Attribute) and node.attr == "KernelFault")
        ]
    assert not named, f"{', '.join(named)}: expect a fault with the fixture expect_fault (tests/kernels/conftest.py)."
