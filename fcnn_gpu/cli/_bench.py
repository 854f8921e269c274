"""What `fcnn-gpu bench` measures, and how it tells it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from ..bench.report import JSON_NAME, Benchmark, Listener, load, to_json, write
from ..bench.results import Report
from ._bench_options import make_cases, make_settings
from ._output import HOW_TO_PLOT, can_plot, check_free, prepare_folder
from ._stdout import print_data, print_error

INTERRUPTED = 130

_OF_SHOW = {"show", "markdown", "as_json", "out", "overwrite"}
"""The options that a saved report can be shown with."""


def run_bench(
    *,
    context: typer.Context,
    sections: list[str] | None,
    quick: bool,
    net: list[str] | None,
    batch: list[int] | None,
    dropout: float,
    batch_norm: bool,
    job: str | None,
    backend: str | None,
    dtype: str,
    seed: int,
    against: str | None,
    compile: bool,
    threads: list[int] | None,
    rounds: int | None,
    instructions: str,
    keep_environment: bool,
    timeout: float,
    out: Path | None,
    overwrite: bool,
    as_json: bool,
    markdown: bool,
    show: Path | None,
) -> int:
    """Run `fcnn-gpu bench` with these options; returns its exit code."""
    if as_json and markdown:
        raise ValueError("--json and --markdown are two forms of the same: give one of them.")
    if out is not None and show != out / JSON_NAME:
        replaced = check_free(out, overwrite, (JSON_NAME,))
        if replaced is not None:
            print_error(replaced)
    if show is not None:
        _check_nothing_to_measure(context)
        report = load(show)
        _hand_over(report, out, as_json, markdown)
        return 0
    benchmark = Benchmark(
        sections or None,
        make_settings(
            against=against,
            rounds=rounds,
            seed=seed,
            instructions=instructions,
            dtype=dtype,
            compile=compile,
            keep_environment=keep_environment,
            timeout=timeout,
            quick=quick,
        ),
        cases=make_cases(net, batch, dropout, batch_norm),
        jobs=("train", "infer") if job is None else (job,),
        backend=backend,
        threads=threads or (),
        quick=quick,
        command=_command(context),
    )
    if out is not None:
        prepare_folder(out)
    return _measure(benchmark, out, as_json, markdown)


def _measure(benchmark: Benchmark, out: Path | None, as_json: bool, markdown: bool) -> int:
    """Run it; what an error or Ctrl-C leaves is written, and after Ctrl-C printed too."""
    try:
        with _Progress() as progress:
            benchmark.run(progress)
    except KeyboardInterrupt:
        _hand_over(benchmark.report, out, as_json, markdown)
        return INTERRUPTED
    except Exception:
        if out is not None and _has_results(benchmark.report):
            write(benchmark.report, out)
        raise
    _hand_over(benchmark.report, out, as_json, markdown)
    return 0


def _hand_over(report: Report, out: Path | None, as_json: bool, markdown: bool) -> None:
    from ..bench._render import print_report, to_markdown

    if as_json:
        print_data(to_json(report))
    elif markdown:
        print_data(to_markdown(report))
    else:
        print_report(report, Console())
    if out is not None:
        prepare_folder(out)
        written = write(report, out)
        told = Console(stderr=as_json or markdown, soft_wrap=True, highlight=False, markup=False)
        told.print(f"Written to {out}: {', '.join(written)}")
        if not can_plot():
            told.print(f"No pictures, since matplotlib is not installed: {HOW_TO_PLOT}")


def _has_results(report: Report) -> bool:
    return bool(report.cases or report.operations or report.epochs or report.crossovers)


def _given(context: typer.Context) -> dict[str, tuple[Any, Any]]:
    """The parameters that the command line names, and their values, by name."""
    return {
        parameter.name: (parameter, context.params[parameter.name])
        for parameter in context.command.params
        if parameter.name is not None
        and getattr(context.get_parameter_source(parameter.name), "name", "") == "COMMANDLINE"
    }


def _check_nothing_to_measure(context: typer.Context) -> None:
    others = [parameter for name, (parameter, _) in _given(context).items() if name not in _OF_SHOW]
    if others:
        name = others[0].opts[-1] if others[0].name != "sections" else "a section"
        raise ValueError(f"--show prints what was measured before, and {name} would need a new run: leave one out.")


def _command(context: typer.Context) -> str:
    """The command that measures the same again; where it writes or prints to is left out."""
    words = ["fcnn-gpu", "bench"]
    for name, (parameter, value) in _given(context).items():
        if name in _OF_SHOW:
            continue
        values = value if isinstance(value, list | tuple) else [value]
        for one in values:
            option = [] if name == "sections" else [max(parameter.opts, key=len)]
            words += option if isinstance(one, bool) else [*option, str(one)]
    return shlex.join(words)


class _Progress(Listener):
    """A bar on standard error where that is a terminal, and a line there for each result."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._console = Console(stderr=True, highlight=False, markup=False)
        self._bar: Progress | None = None
        if self._console.is_terminal:
            self._bar = Progress(
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.description}", markup=False),
                console=self._console,
                transient=True,
                auto_refresh=False,  # drawing takes time from what is being measured: between the rounds alone
            )
            self._task = self._bar.add_task("", total=1)

    def __enter__(self) -> _Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def doing(self, what: str, done: int, total: int) -> None:
        if self._bar is not None:
            self._bar.update(self._task, description=what, completed=done, total=total, refresh=True)

    def found(self, line: str) -> None:
        self._console.print(line, soft_wrap=True)
