"""`fcnn-gpu bench`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ._defaults import BENCH_BATCH

_WHAT, _AGAINST, _OUTPUT = "What is measured", "Against what, and how", "Output"


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
            f"A batch size; may be given several times. (default: {BENCH_BATCH} with --net, else the cases' own)",
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
    options = locals()
    from ._bench import run_bench  # which the help does without

    return run_bench(**options)
