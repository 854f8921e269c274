"""Everything about this machine's CUDA device in one command: tests, kernels, products, PyTorch and JAX beside it.

    python benchmarks/gpu_report.py                     # all of it, in at most 8 minutes
    python benchmarks/gpu_report.py --quick             # few and short rounds: to see that all works
    python benchmarks/gpu_report.py --only tests peers  # these parts, each with up to 9 minutes
    python benchmarks/gpu_report.py --sanitizer         # NVIDIA's compute-sanitizer over the kernel tests instead

Needs this repository, CuPy and pytest; PyTorch and JAX take part where they are installed. report.md and report.json go
to benchmarks/results/<date>-<device>/, anew after each part. Where there is no GPU, one line names what is missing, and
the exit status is 2; it is 1 where a test failed or a part ended early.
"""

from __future__ import annotations

import argparse
import datetime
import re
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # the repository itself, also where it is not installed

try:
    from benchmarks.gpu.catalogue import PARTS, SANITIZER
    from benchmarks.gpu.environment import find_device
    from benchmarks.gpu.outcome import Outcome, Report, run_part, save
    from benchmarks.gpu.page import to_markdown
    from benchmarks.gpu.plan import Part, Plan
    from benchmarks.gpu.results import PytestRun
except ModuleNotFoundError as missing:
    print(f"gpu_report.py needs the package {missing.name}: pip install {missing.name}", file=sys.stderr)
    sys.exit(2)

TOTAL_SECONDS = 465.0
"""For all parts of a whole run; the last ones get what is left."""
ALONE_SECONDS = 540.0
"""For each part that `--only` names."""
_LEAST_SECONDS = 5.0
NO_DEVICE, INTERRUPTED = 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="few and short rounds, not to be quoted")
    parser.add_argument("--no-peers", action="store_true", help="leave PyTorch and JAX out")
    parser.add_argument("--sanitizer", action="store_true", help="memcheck and racecheck over the kernel tests instead")
    parser.add_argument("--select", default="", metavar="EXPRESSION", help="of the tests, as pytest -k takes it")
    parser.add_argument("--device", type=int, default=0, help="number of the CUDA device (default: 0)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, data and orders (default: 0)")
    parser.add_argument("--out", type=Path, help="folder of the report (default: benchmarks/results/<date>-<device>)")
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(given)
    if options.only and options.sanitizer:
        parser.error("--sanitizer runs by itself: leave --only out")
    if options.out is not None and (options.out / "report.json").exists():
        parser.error(f"{options.out} holds a report already: name another folder")
    plan = Plan(f"cupy:{options.device}", options.quick, not options.no_peers, options.seed, options.select)
    device, fault = find_device(options.device)
    if fault:
        print(f"No report: {fault}", file=sys.stderr)
        return NO_DEVICE
    report = Report(
        created=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M"),
        command=shlex.join(["python", "benchmarks/gpu_report.py", *_without_folder(given)]),
        device=device,
        plan=plan,
    )
    chosen = [SANITIZER] if options.sanitizer else [PARTS[name] for name in options.only or PARTS]
    folder = options.out or free_folder(ROOT / "benchmarks" / "results", report)
    print(f"{device}. The report goes to {folder}.", flush=True)
    try:
        run_parts(report, chosen, folder, whole=not options.only and not options.sanitizer)
    except KeyboardInterrupt:
        print(f"Interrupted. What was measured until then is in {folder}.", file=sys.stderr)
        return INTERRUPTED
    print(f"Done in {report.seconds:.0f} s: {folder / 'report.md'}")
    return 1 if any(went_wrong(outcome) for outcome in report.outcomes) else 0


def run_parts(report: Report, parts: Sequence[Part], folder: Path, whole: bool) -> None:
    """One part after the other, the report written anew after each; in a whole run within `TOTAL_SECONDS`."""
    start = time.perf_counter()
    for part in parts:
        left = TOTAL_SECONDS - (time.perf_counter() - start)
        seconds = min(part.seconds, left) if whole else max(part.seconds, ALONE_SECONDS)
        print(f"{part.title} (up to {max(0.0, seconds):.0f} s)", flush=True)
        if seconds < _LEAST_SECONDS:
            outcome = Outcome(part, failure="the parts before it left no time for it (run it with --only)")
        else:
            outcome = run_part(part, report.plan, seconds, _tell)
        report.outcomes.append(outcome)
        if outcome.failure:
            print(f"  ended early: {outcome.failure}", file=sys.stderr, flush=True)
        report.seconds = time.perf_counter() - start
        save(report, to_markdown(report), folder)


def _tell(result: Any) -> None:
    text = result if isinstance(result, str) else repr(result)
    print(f"  {text if len(text) <= 160 else text[:159] + '…'}", flush=True)


def went_wrong(outcome: Outcome) -> bool:
    """Whether the part ended early, or one of its runs of pytest did not pass or passed nothing."""
    return bool(outcome.failure) or any(run.exit_status != 0 or not run.passed for run in outcome.of(PytestRun))


def free_folder(results: Path, report: Report) -> Path:
    """results/<date>-<device>, with a number behind it where there is one already."""
    device = re.sub(r"[^a-z0-9]+", "-", report.device.lower()).strip("-")
    name = f"{report.created[:10]}-{device}"
    n = 1
    while (folder := results / (name if n == 1 else f"{name}-{n}")).exists():
        n += 1
    return folder


def _without_folder(arguments: Sequence[str]) -> list[str]:
    """The arguments without --out: where a report was put says nothing about it."""
    kept = [a for i, a in enumerate(arguments) if a != "--out" and (i == 0 or arguments[i - 1] != "--out")]
    return [argument for argument in kept if not argument.startswith("--out=")]


if __name__ == "__main__":
    sys.exit(main())
