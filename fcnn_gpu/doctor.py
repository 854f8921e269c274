"""What this machine can train on: every link of the chain, fine or with the command that mends it."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .backend._kernel_source import kernel_folder, stems
from .backend._probe import Link, failing_link, probe_links


@dataclass(frozen=True)
class Report:
    """What `examine` found.

    Attributes:
        cpu: the links that training on the CPU hangs on, Python first.
        gpu: the links from our kernels and CuPy to a CUDA device's answer.
    """

    cpu: list[Link]
    gpu: list[Link]

    @property
    def cpu_works(self) -> bool:
        """Whether networks can be trained on the CPU."""
        return all(link.ok for link in self.cpu)

    @property
    def gpu_works(self) -> bool:
        """Whether networks can be trained on the CUDA device."""
        return self.cpu_works and all(link.ok for link in self.gpu)

    @property
    def verdict(self) -> str:
        """The findings in one line."""
        broken = failing_link(self.cpu)
        if broken is not None:
            return f"Training does not work here. First mend this: {broken.sentence()}"
        broken = failing_link(self.gpu)
        if broken is not None:
            return f"Training works on the CPU. For a GPU, first mend this: {broken.sentence()}"
        return "Training works on the CPU and on the GPU."

    def plain(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "cpu_works": self.cpu_works,
            "gpu_works": self.gpu_works,
            "verdict": self.verdict,
            "cpu": [asdict(link) for link in self.cpu],
            "gpu": [asdict(link) for link in self.gpu],
        }


def examine(device: int = 0) -> Report:
    """Check every link. Never raises; a check that fails in a way nobody foresaw becomes a link that says so."""
    cpu = [
        _check("Python", _python),
        _check("processor", _processor),
        _check("NumPy", _numpy),
        _check("training step", _training_step, "Run: pip install --force-reinstall fcnn_gpu numpy"),
    ]
    kernels = _check("kernel files", _kernel_files, "Install fcnn_gpu again: its wheel holds the kernels.")
    try:
        chain = probe_links(device)
    except Exception as error:  # the promise of `examine` must not hang on the promise of the probe
        chain = [_failed("GPU probe", error, "Report this as a bug of fcnn_gpu.")]
    return Report(cpu, [kernels, *chain])


def print_report(report: Report) -> None:
    """The report as a table for people."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    marks = {True: "[green]ok[/]", False: "[bold red]no[/]", None: "[dim]—[/]"}
    console = Console()
    for title, links in (("CPU", report.cpu), ("GPU", report.gpu)):
        table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE, show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for link in links:
            fix = f"\n[bold]→ {escape(link.fix)}[/]" if link.fix else ""
            table.add_row(marks[link.ok], link.name, escape(link.detail) + fix)
        console.print(table)
    print(report.verdict)


def _check(name: str, check: Callable[[], str], fix: str = "") -> Link:
    try:
        return Link(name, True, check())
    except Exception as error:
        return _failed(name, error, fix)


def _failed(name: str, error: Exception, fix: str) -> Link:
    return Link(name, False, f"{type(error).__name__}: {' '.join(str(error).split())}", fix)


def _python() -> str:
    return f"{platform.python_version()} on {platform.system()} {platform.release()} ({platform.machine()})"


def _processor() -> str:
    name = _processor_name() or platform.processor() or platform.machine()
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {usable} core{'' if usable == 1 else 's'} for this process{_memory()}"


def _processor_name() -> str:
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return ""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def _memory() -> str:
    if sys.platform == "win32":
        return ""
    return f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB of memory"


def _numpy() -> str:
    """NumPy's version and the library that multiplies its matrices, which takes most of a training step's time."""
    from threadpoolctl import threadpool_info

    A = np.arange(6.0).reshape(2, 3)
    if not np.array_equal(A @ A.T, [[5, 14], [14, 50]]):
        raise ArithmeticError("NumPy multiplied two small matrices wrongly.")
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    blas = [f"{pool['internal_api']} {pool['version'] or '?'} with {_threads(pool)}" for pool in pools]
    return f"{np.__version__}, {' and '.join(dict.fromkeys(blas)) or 'its BLAS unknown to threadpoolctl'}"


def _threads(pool: dict[str, Any]) -> str:
    n = pool["num_threads"]
    return f"{n} thread{'' if n == 1 else 's'}"


def _training_step() -> str:
    """Train a tiny network: every part of the package that training on the CPU needs takes part."""
    from .layers import Dense
    from .model import Sequential
    from .training import Trainer

    X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    model = Sequential([Dense(8, activation="tanh"), Dense(2)], n_in=2, seed=0, backend="numpy")
    trainer = Trainer(model, optimizer="adam")
    before = trainer.evaluate(X, [0, 1, 1, 0])["loss"]
    trainer.fit(X, [0, 1, 1, 0], epochs=20, batch_size=4, progress=False)
    after = trainer.evaluate(X, [0, 1, 1, 0])["loss"]
    if not after < before:
        raise ArithmeticError(f"the loss of a tiny network went from {before:.3f} to {after:.3f} in 20 steps.")
    return "a tiny network learns"


def _kernel_files() -> str:
    found: Sequence[str] = stems()
    return f"{len(found)} in {kernel_folder()}"
