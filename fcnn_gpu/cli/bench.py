"""`fcnn-gpu bench`"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ..bench.report import JSON_NAME, Benchmark, Listener, load, to_json, write
from ..bench.results import Report
from ._bench_options import DEFAULT_BATCH, make_cases, make_settings
from ._output import HOW_TO_PLOT, can_plot, check_free, prepare_folder
from ._stdout import print_data, print_error

INTERRUPTED = 130

_WHAT, _AGAINST, _OUTPUT = "What is measured", "Against what, and how", "Output"
_OF_SHOW = {"show", "markdown", "as_json", "out", "overwrite"}
"""The options that a saved report can be shown with."""


def _option(text: str, panel: str, *names: str) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel)


def bench(
    context: typer.Context,
    sections: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SECTION",
            help="nets: training steps and inference. operations: single primitives. epoch: Trainer.fit on full MNIST "
            "against its bare steps. crossover: CPU against GPU. (default: all that can run)",
        ),
    ] = None,
    quick: Annotated[
        bool, _option("Few and short rounds: to see that all works, not to quote.", _WHAT, "--quick")
    ] = False,
    net: Annotated[
        list[str] | None,
        _option(
            "A net by its widths, as in 784-128-10; may be given several times. (default: seven standard cases)", _WHAT
        ),
    ] = None,
    batch: Annotated[
        list[int] | None,
        _option(
            f"A batch size; may be given several times. (default: {DEFAULT_BATCH} with --net, else the cases' own)",
            _WHAT,
        ),
    ] = None,
    dropout: Annotated[
        float, _option("The probability with which a hidden unit of --net is dropped in a training step.", _WHAT)
    ] = 0.0,
    batch_norm: Annotated[
        bool, _option("Normalize each hidden layer of --net over the batch.", _WHAT, "--batch-norm")
    ] = False,
    job: Annotated[str | None, _option("train or infer. (default: both)", _WHAT)] = None,
    backend: Annotated[
        str | None,
        _option(
            "cpu or numpy (the CPU, on both of our backends), cupy or cupy:N (CUDA device N), or auto: the CPU and, "
            "where there is one, the GPU. "
            "(default: the variable FCNN_BACKEND, else auto)",
            _WHAT,
        ),
    ] = None,
    dtype: Annotated[str, _option("float32 or float64.", _WHAT)] = "float32",
    seed: Annotated[int, _option("Of the initial weights, the data and its order.", _WHAT)] = 0,
    against: Annotated[
        str | None,
        _option("Other libraries, as in torch,jax,sklearn; or none. (default: all that are installed)", _AGAINST),
    ] = None,
    compile: Annotated[
        bool, _option("Also time torch.compile, which takes tens of seconds to begin.", _AGAINST, "--compile")
    ] = False,
    threads: Annotated[
        list[int] | None,
        _option(
            "Threads of every library; may be given several times, to be measured one after the other. (default: the "
            "physical cores of this process)",
            _AGAINST,
        ),
    ] = None,
    rounds: Annotated[
        int | None, _option("How often every library has its turn. (default: 15, with --quick 5)", _AGAINST)
    ] = None,
    instructions: Annotated[
        str, _option("native: each library takes what suits this CPU. avx2: none goes beyond AVX2.", _AGAINST)
    ] = "native",
    keep_environment: Annotated[
        bool,
        _option(
            "Leave variables that restrict one library's kernels, such as OPENBLAS_CORETYPE, as they are.",
            _AGAINST,
            "--keep-environment",
        ),
    ] = False,
    timeout: Annotated[
        float, _option("Seconds after which a library that gives no answer is given up.", _AGAINST)
    ] = 300.0,
    out: Annotated[
        Path | None,
        _option("The folder for report.json, report.md and pictures. (default: nothing is kept)", _OUTPUT),
    ] = None,
    overwrite: Annotated[
        bool,
        _option("Replace an earlier report in --out, which is refused otherwise.", _OUTPUT, "--overwrite"),
    ] = False,
    as_json: Annotated[bool, _option("Print the report as JSON.", _OUTPUT, "--json")] = False,
    markdown: Annotated[bool, _option("Print the report as Markdown.", _OUTPUT, "--markdown")] = False,
    show: Annotated[
        Path | None, _option("Measure nothing: print a report.json again, or write it anew with --out.", _OUTPUT)
    ] = None,
) -> int:
    """Time training and inference on this machine, against the libraries that are installed.

    Every library runs the same net, batches, weights and number of threads, in turn, after its results have been
    compared with ours. Results are printed as each case is done, tables at the end. Ctrl-C keeps what was measured.
    """
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
