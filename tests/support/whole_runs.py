"""A run of everything: as many processes as there are cores, and all kernels compiled for the CPU before it begins.

That is `pytest` alone. Where tests are named (a path, `-k`, `-m`, `--lf`), where somebody looks on (`--pdb`, `-s`) or
says how many processes there should be (`-n 0` for one), nothing is decided here.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.cuda_on_cpu import build_kernels, missing_compiler

MOST_PROCESSES = 8
"""Each takes up to a gigabyte."""

DRIVER_FILES = ("/dev/nvidiactl", "/dev/dxg")
"""Linux or WSL has one with an NVIDIA driver. Tests on a GPU measure its free memory, so one process has it."""


def _n_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _is_whole_run(config: pytest.Config) -> bool:
    option = config.option
    of_plugins = ("lf", "failedfirst", "stepwise")  # which may be switched off
    named = option.keyword or option.markexpr or any(getattr(option, name, False) for name in of_plugins)
    seen = option.usepdb or option.trace or option.capture == "no" or option.collectonly or option.setupplan
    return config.args_source is pytest.Config.ArgsSource.TESTPATHS and not (named or seen)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Before pytest-xdist, which turns the number of processes into what it starts."""
    if hasattr(config, "workerinput") or not _is_whole_run(config):
        return
    n_cores = _n_cores()
    if missing_compiler() is None:
        with ThreadPoolExecutor(n_cores) as pool:
            build_kernels(pool)
    chosen = getattr(config.option, "numprocesses", 0)  # no such option without pytest-xdist
    if chosen is None and config.option.dist == "no" and n_cores > 1 and not any(map(os.path.exists, DRIVER_FILES)):
        config.option.numprocesses = min(n_cores, MOST_PROCESSES)
        config.option.dist = "worksteal"  # each process has a stretch of files, whose fixtures it makes once
        for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ.setdefault(name, "1")  # the processes keep the cores busy
