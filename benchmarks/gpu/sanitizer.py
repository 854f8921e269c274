"""NVIDIA's compute-sanitizer over the kernel tests: memory errors and data races that the GPU itself sees."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from .plan import Plan
from .results import Fault, PytestRun
from .suite import run_tests

TOOLS = ("memcheck", "racecheck")
SECONDS = 3600.0
"""For both. Under these tools kernels take ten to a hundred times as long."""
_MARGIN = 10.0
_KERNEL_TESTS = ("-m", "gpu", "tests/kernels")
_FAILED = 86
"""The exit status that the tool is told to end with when it found something; pytest's own are 0 to 5."""
_PLACES = ("/usr/local/cuda/bin", "/usr/local/cuda/compute-sanitizer", "/opt/nvidia/compute-sanitizer")

HOW_TO_INSTALL = (
    "compute-sanitizer was not found: it comes with the CUDA toolkit (the package cuda-sanitizer). Put its folder into "
    "PATH, or name the toolkit's in CUDA_HOME."
)


def find() -> str | None:
    """The tool in PATH or in a toolkit's folder."""
    homes = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if name in os.environ]
    folders = [*(str(Path(home) / "bin") for home in homes), *_PLACES]
    return shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path=os.pathsep.join(folders))


def command(tool: str, program: str = "compute-sanitizer") -> list[str]:
    """What runs before pytest. All processes are watched: a Python may be a program that starts another."""
    limits = ["--error-exitcode", str(_FAILED), "--print-limit", "20"]
    return [program, "--tool", tool, "--target-processes", "all", *limits]


def measure(plan: Plan) -> Iterator[PytestRun | Fault]:
    """Each tool over the kernel tests, every argument in an allocation of its own length."""
    program = find()
    if program is None:
        yield Fault("compute-sanitizer", HOW_TO_INSTALL)
        return
    for tool in TOOLS:
        yield run_tests(
            [*_KERNEL_TESTS, *plan.selection],
            max(_MARGIN, plan.seconds / len(TOOLS) - _MARGIN),
            command(tool, program),
            {"FCNN_TEST_EXACT_ALLOCATIONS": "1"},
        )
