"""What this machine can train on: every link of the chain, fine or with the command that mends it."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from ._checks import suggest
from ._console import every_character
from ._on_demand import own_names
from .backend import (
    autotune_setting,
    check_default_backend,
    choose_backend,
    default_backend,
    quiet_arithmetic,
    read_cpu,
    resolve_backend,
    threads_and_reason,
)
from .backend._blas import Blas, Slowdown, build_time_blas, loop_slowdowns, numpy_blas, numpy_simd, product_slowdowns
from .backend._cpu import Cpu
from .backend._kernel_source import kernel_folder, stems
from .backend._probe import Link, failing_link, probe_links

__dir__ = own_names(__name__)

T = TypeVar("T")

VARIABLES = (
    "FCNN_AUTOTUNE",
    "FCNN_BACKEND",
    "FCNN_CACHE_DIR",
    "FCNN_COMPILED",
    "FCNN_CPU_LEVEL",
    "FCNN_DATA_DIR",
    "FCNN_NVRTC_PATH",
    "FCNN_THREADS",
)
"""The environment variables that the package reads."""
_REINSTALL = "Run: pip install --force-reinstall numpy; then install fcnn_gpu again, from where it came."
_UNSET_BACKEND = "unset FCNN_BACKEND, or set it to auto, cpu, numpy or cupy"

_PRODUCT = 1024
"""Rows and columns of the matrices whose product is timed: more than fit into a cache, and 2 Gflop."""
_PRODUCT_SECONDS = 0.3


@dataclass(frozen=True)
class Report:
    """What `examine` found.

    Attributes:
        cpu: the links that training on the CPU hangs on, Python first.
        gpu: the links from our kernels and CuPy to a CUDA device's answer.
        processor: what there is to compute with on the CPU; None where it could not be read.
        blas: the libraries behind NumPy's matrix products, as far as they are known.
        threads: how many share a large product, and why so many; None where a variable is no number of them.

    A link that is fine and has a fix all the same could be faster, on the CPU, or lacks something that training can do
    without, on the GPU.
    """

    cpu: list[Link]
    gpu: list[Link]
    processor: Cpu | None = None
    blas: Sequence[Blas] = ()
    threads: tuple[int, str] | None = None

    @property
    def cpu_works(self) -> bool:
        """Whether networks can be trained on the CPU."""
        return all(link.ok for link in self.cpu)

    @property
    def gpu_works(self) -> bool:
        """Whether networks can be trained on the CUDA device."""
        return self.cpu_works and all(link.ok for link in self.gpu)

    @property
    def slow(self) -> list[Link]:
        """The links of the CPU that work but could be faster; their fixes say how."""
        return [link for link in self.cpu if link.ok and link.fix]

    @property
    def limited(self) -> list[Link]:
        """The links of the GPU that lack something which training can do without; their fixes say how to get it."""
        return [link for link in self.gpu if link.ok and link.fix]

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

    @property
    def hint(self) -> str:
        """What would make training on the CPU faster, in one line; empty where nothing slows it down."""
        fixes = "; ".join(link.fix for link in self.slow)
        return f"Training on the CPU could be faster: {fixes}" if fixes else ""

    def plain(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "cpu_works": self.cpu_works,
            "gpu_works": self.gpu_works,
            "verdict": self.verdict,
            "hint": self.hint,
            "cpu": [asdict(link) for link in self.cpu],
            "gpu": [asdict(link) for link in self.gpu],
            "processor": None if self.processor is None else asdict(self.processor),
            "blas": [asdict(blas) for blas in self.blas],
            "threads": None if self.threads is None else dict(zip(("number", "reason"), self.threads, strict=True)),
        }


def examine(device: int = 0) -> Report:
    """Check every link. Never raises; a check that fails in a way nobody foresaw becomes a link that says so."""
    cpu = [
        _check("Python", _python),
        _check("processor", _processor),
        _check("NumPy", _numpy),
        _check("matrix products", _products),
        _check("compiled kernels", _compiled_kernels),
    ]
    variables = _check("variables", _variables)
    if cpu[-1].ok:
        step = _check("training step", _training_step, _REINSTALL)
    else:
        step = Link("training step", None, "not checked: it needs compiled kernels first.")
    kernels = _check("kernel files", _kernel_files, "Install fcnn_gpu again: its wheel holds the kernels.")
    try:
        chain = probe_links(device)
    except Exception as error:  # the promise of `examine` must not hang on the promise of the probe
        chain = [_failed("GPU probe", error, "Report this as a bug of fcnn_gpu.")]
    broken = failing_link([kernels, *chain])
    if broken is not None and variables.ok and default_backend() == "cupy":
        variables = Link("variables", False, "FCNN_BACKEND=cupy asks for a GPU, and none can be used.", _UNSET_BACKEND)
    cpu += [variables, step]
    return Report(cpu, [kernels, *chain], _read(read_cpu), _read(numpy_blas) or (), _read(threads_and_reason))


def print_report(report: Report) -> None:
    """The report as a table for people."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    marks = {True: "[green]ok[/]", False: "[bold red]no[/]", None: "[dim]—[/]"}
    slow, part = "[bold yellow]slow[/]", "[bold yellow]part[/]"
    console = Console()
    for title, links in (("CPU", report.cpu), ("GPU", report.gpu)):
        table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE, show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for link in links:
            fix = f"\n[bold]→ {escape(link.fix)}[/]" if link.fix else ""
            mark = slow if link in report.slow else part if link in report.limited else marks[link.ok]
            table.add_row(mark, link.name, escape(link.detail) + fix)
        with every_character(sys.stdout):
            console.print(table)
    with every_character(sys.stdout):
        if report.hint:
            print(report.hint)
        print(report.verdict)


class _Mistake(Exception):
    """What somebody has set wrongly, and what mends it."""

    def __init__(self, words: str, fix: str) -> None:
        super().__init__(words)
        self.fix = fix


def _check(name: str, check: Callable[[], str | tuple[str, list[Slowdown]]], fix: str = "") -> Link:
    try:
        found = check()
        detail, slowdowns = (found, []) if isinstance(found, str) else found
        reasons = [slowdown.reason for slowdown in slowdowns]
        return Link(name, True, " ".join([detail, *reasons]), "; ".join(slowdown.fix for slowdown in slowdowns))
    except _Mistake as mistake:
        return Link(name, False, str(mistake), mistake.fix)
    except Exception as error:
        return _failed(name, error, fix)


def _failed(name: str, error: Exception, fix: str) -> Link:
    return Link(name, False, f"{type(error).__name__}: {' '.join(str(error).split())}", fix)


def _read(read: Callable[[], T]) -> T | None:
    """For the report's data: what fails here has failed in a link too, which says why."""
    try:
        return read()
    except Exception:
        return None


def _python() -> str:
    return f"{platform.python_version()} on {platform.system()} {platform.release()} ({platform.machine()})"


def _processor() -> str:
    cpu = read_cpu()
    cores = f"{cpu.logical_cpus} core{'' if cpu.logical_cpus == 1 else 's'} for this process"
    quota = "" if cpu.quota is None else f", of which a control group grants the time of {cpu.quota}"
    memory = "" if cpu.memory_bytes is None else f", {cpu.memory_bytes / 2**30:.0f} GiB of memory"
    sets = f"; {', '.join(cpu.instruction_sets)}" if cpu.instruction_sets else ""
    return f"{cpu.name}, {cores}{quota}{memory}{sets}"


def _numpy() -> tuple[str, list[Slowdown]]:
    A = np.arange(6.0).reshape(2, 3)
    if not np.array_equal(A @ A.T, [[5, 14], [14, 50]]):
        raise ArithmeticError("NumPy multiplied two small matrices wrongly.")
    simd = numpy_simd()
    loops = f", its own loops with {', '.join(simd)}" if simd else ""
    return f"{np.__version__}{loops}.", loop_slowdowns(os.environ)


def _products() -> tuple[str, list[Slowdown]]:
    """The library that multiplies NumPy's matrices, which takes most of a training step's time, and its rate."""
    cpu, libraries = read_cpu(), numpy_blas()
    slowdowns = [slowdown for blas in libraries for slowdown in product_slowdowns(blas, cpu, os.environ)]
    names = " and ".join(blas.describe() for blas in libraries) or f"{build_time_blas()}, unknown to threadpoolctl"
    n, reason = threads_and_reason()
    rate = f"{_flops_per_second() / 1e9:,.0f} GFLOP/s in float32 with {n} thread{'' if n == 1 else 's'}, {reason}."
    return f"{names}: {rate}", list(dict.fromkeys(slowdowns))


def _flops_per_second() -> float:
    """The best rate of a few large products, computed as in training."""
    ops = resolve_backend("numpy")
    A = np.random.default_rng(0).standard_normal((_PRODUCT, _PRODUCT), np.float32)
    Z, best = np.empty_like(A), float("inf")
    begin = time.perf_counter()
    with quiet_arithmetic():
        while (start := time.perf_counter()) < begin + _PRODUCT_SECONDS:
            ops.gemm(A, A, Z)
            best = min(best, time.perf_counter() - start)
    return 2.0 * _PRODUCT**3 / best


def _compiled_kernels() -> tuple[str, list[Slowdown]]:
    """The library of compiled operations that networks are trained with on the CPU, where there is one."""
    from .backend._compiled import LEVEL_VARIABLE, NotCompiledError, load_library

    try:
        library = load_library()
    except NotCompiledError as fault:
        return f"none: {fault.reason}.", [Slowdown("Networks are trained on NumPy.", fault.fix)]
    except ValueError as error:  # the variable's
        raise _Mistake(str(error), f"unset {LEVEL_VARIABLE}") from None
    slowdowns = []
    if library.level_name != library.levels[0]:
        slowdowns.append(Slowdown("It is not the best of them.", f"unset {LEVEL_VARIABLE}"))
    return f"for {library.level_name}, of this CPU's {', '.join(library.levels)}: {library.path}.", slowdowns


def _variables() -> str:
    """Those of this package that are set; a word for one that none of its parts reads."""
    for check, fix in ((check_default_backend, _UNSET_BACKEND), (autotune_setting, "unset FCNN_AUTOTUNE")):
        try:
            check()
        except ValueError as error:
            raise _Mistake(str(error), fix) from None
    mine = sorted(name for name in os.environ if name.startswith("FCNN_"))
    said = [f"{name}={os.environ[name]}" for name in mine if name in VARIABLES]
    others = [name for name in mine if name not in VARIABLES]
    said += [f"{name} is none of fcnn_gpu's. {suggest(name, VARIABLES)}".rstrip(".") for name in others]
    return "; ".join(said) + "." if said else "none of fcnn_gpu's is set."


def _training_step() -> str:
    """Train a tiny network: every part of the package that training on the CPU needs takes part."""
    from .layers import Dense
    from .model import Sequential
    from .training import Trainer

    X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    ops, _ = choose_backend("cpu", "doctor")
    model = Sequential([Dense(8, activation="tanh"), Dense(2)], n_in=2, seed=0, backend=ops)
    trainer = Trainer(model, optimizer="adam")
    before = trainer.evaluate(X, [0, 1, 1, 0])["loss"]
    trainer.fit(X, [0, 1, 1, 0], epochs=20, batch_size=4, progress=False)
    if trainer.history.stopped_by == "interrupt":
        raise KeyboardInterrupt
    after = trainer.evaluate(X, [0, 1, 1, 0])["loss"]
    if not after < before:
        raise ArithmeticError(f"the loss of a tiny network went from {before:.3f} to {after:.3f} in 20 steps.")
    return "a tiny network learns"


def _kernel_files() -> str:
    found: Sequence[str] = stems()
    return f"{len(found)} in {kernel_folder()}"
