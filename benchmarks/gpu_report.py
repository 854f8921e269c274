"""Everything about this machine's CUDA device in one command: tests, training, PyTorch and JAX beside it, kernels.

    python benchmarks/gpu_report.py --list                # the parts, their groups, and how long each may take
    python benchmarks/gpu_report.py --only training       # the tests, MNIST and CUDA graphs: at most 9 minutes
    python benchmarks/gpu_report.py --only contest        # PyTorch and JAX beside it: at most 9 minutes
    python benchmarks/gpu_report.py --only primitives     # products, kernels, CPU against GPU: at most 9 minutes
    python benchmarks/gpu_report.py                       # all of it
    python benchmarks/gpu_report.py --only tests          # one part alone, with up to 9 minutes
    python benchmarks/gpu_report.py --quick               # few and short rounds: to see that all works
    python benchmarks/gpu_report.py --sanitizer           # NVIDIA's compute-sanitizer over the kernel tests instead

Needs this repository, CuPy and pytest; PyTorch and JAX take part where they are installed. report.md and report.json go
to benchmarks/results/<date>-<device>/, anew while the parts run. Several calls on one day, device and commit make one
report there. The exit status is 0 if all went well, 1 where a test failed or a part ended early, and 2 where there is
no GPU: one line names what is missing.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import re
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # the repository itself, also where it is not installed

try:
    from benchmarks.gpu import setting
    from benchmarks.gpu.catalogue import ALL, GROUP_SECONDS, GROUPS, PARTS, SANITIZER, chosen
    from benchmarks.gpu.file import load, save
    from benchmarks.gpu.outcome import Outcome, Report, Run, run_part
    from benchmarks.gpu.page import to_markdown
    from benchmarks.gpu.plan import Part, Plan
    from fcnn_gpu.bench._json import ReportFileError
except ModuleNotFoundError as missing:
    print(f"gpu_report.py needs the package {missing.name}: pip install {missing.name}", file=sys.stderr)
    sys.exit(2)

RESULTS = ROOT / "benchmarks" / "results"
ALONE_SECONDS = GROUP_SECONDS - setting.START_SECONDS
"""For a part that is named alone."""
_SOFTWARE_SLACK = 5.0
"""Times a part's limit where the device is a program on the CPU."""
_LEAST_SECONDS = 5.0
_SAVED_SECONDS = 2.0
"""The report on the disk is no older than this while results come."""
FAILED, UNUSABLE, INTERRUPTED, TERMINATED = 1, 2, 130, 143


class Terminated(BaseException):
    """Somebody asked this process to end."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*GROUPS, *PARTS]
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--list", action="store_true", help="print parts, groups and their limits, measure nothing")
    parser.add_argument("--within", type=float, metavar="SECONDS", help="for all: the last parts get what is left")
    parser.add_argument("--quick", action="store_true", help="few and short rounds, not to be quoted")
    parser.add_argument("--no-peers", action="store_true", help="leave PyTorch and JAX out")
    parser.add_argument("--sanitizer", action="store_true", help="memcheck and racecheck over the kernel tests instead")
    parser.add_argument("--select", default="", metavar="EXPRESSION", help="of the tests, as pytest -k takes it")
    parser.add_argument("--device", type=int, default=0, help="number of the CUDA device (default: 0)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, data and orders (default: 0)")
    parser.add_argument("--out", type=Path, help="folder of the report (default: benchmarks/results/<date>-<device>)")
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(given)
    if options.list:
        print(listing())
        return 0
    if options.only and options.sanitizer:
        parser.error("--sanitizer runs by itself: leave --only out")
    start = time.perf_counter()
    try:
        found = setting.find(options.device)
    except setting.NoDevice as fault:
        print(f"No report: {fault}", file=sys.stderr)
        return UNUSABLE
    parts = [SANITIZER] if options.sanitizer else chosen(options.only or list(PARTS))
    if found.is_software:  # in which a C++ compiler takes NVRTC's place
        parts = [dataclasses.replace(part, seconds=_SOFTWARE_SLACK * part.seconds) for part in parts]
    run = Run(
        created=_now(),
        command=shlex.join(["python", "benchmarks/gpu_report.py", *_without_folder(given)]),
        setting=found,
        plan=Plan(
            f"cupy:{options.device}",
            options.quick,
            not options.no_peers,
            options.seed,
            options.select,
            small=found.is_software,
            pci_bus_id=found.pci_bus_id,
        ),
        planned=[part.name for part in parts],
    )
    try:
        report, folder = open_report(run, options.out)
    except (ReportFileError, ValueError) as fault:
        print(f"No report: {fault}", file=sys.stderr)
        return UNUSABLE
    budget = options.within or limit(parts) + setting.START_SECONDS
    print(f"{found.device}. The report goes to {folder}, in at most {_minutes(budget)}.", flush=True)
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        run_parts(report, parts, folder, start + budget)
    except KeyboardInterrupt:
        return _stopped(report, folder, "Ctrl-C", INTERRUPTED)
    except Terminated:
        return _stopped(report, folder, "SIGTERM", TERMINATED)
    finally:
        signal.signal(signal.SIGTERM, before)
    print(f"Done in {run.seconds:.0f} s: {folder / 'report.md'}")
    faults = [f"{outcome.part.title}: {fault}" for outcome in run.outcomes for fault in outcome.faults]
    for fault_line in faults:
        print(fault_line, file=sys.stderr)
    return FAILED if faults else 0


def limit(parts: Sequence[Part]) -> float:
    """Seconds that these parts may take together."""
    return ALONE_SECONDS if len(parts) == 1 and parts[0].name in PARTS else sum(part.seconds for part in parts)


def listing() -> str:
    """Groups with their parts and limits; every part is in one of them."""
    lines = [
        f"Code {setting.code_digest()}. Limits in seconds; looking at the device: {setting.START_SECONDS:.0f}.",
        "",
    ]
    for name, members in GROUPS.items():
        lines.append(f"{name}, at most {_minutes(group_seconds(name))}:")
        lines += [f"  {part:12} {PARTS[part].seconds:4.0f}  {PARTS[part].title}" for part in members]
        lines.append("")
    lines.append(f"All parts, each once, at most {_minutes(limit(list(PARTS.values())) + setting.START_SECONDS)}.")
    return "\n".join(lines)


def group_seconds(name: str) -> float:
    """What one call for this group may take."""
    return sum(PARTS[part].seconds for part in GROUPS[name]) + setting.START_SECONDS


def open_report(run: Run, asked: Path | None) -> tuple[Report, Path]:
    """The report that the run's parts go into, and its folder: one of the same day, device and code goes on.

    Raises ValueError for a folder whose report is of something else, or that results of a software device must not
    go to, and ReportFileError for a report that cannot be read.
    """
    if run.setting.is_software and (asked is None or asked.resolve().is_relative_to(RESULTS.resolve())):
        raise ValueError(
            f"{run.setting.device} computes on the CPU: what is measured there is no result of a GPU, and does not go "
            f"to {RESULTS.relative_to(ROOT)}. Name another folder with --out."
        )
    if asked is not None:
        there = load(asked, ALL)
        clashes = [] if there is None else there.clashes(run)
        if clashes:
            raise ValueError(f"{asked} holds a report that these parts cannot stand in: {'; '.join(clashes)}.")
        return _joined(there, run), asked
    device = re.sub(r"[^a-z0-9]+", "-", run.setting.device.lower()).strip("-")
    name, n = f"{run.created[:10]}-{device}", 1
    while True:
        folder = RESULTS / (name if n == 1 else f"{name}-{n}")
        n += 1
        try:
            there = load(folder, ALL)
        except ReportFileError as error:
            print(f"{error} It stays as it is.", file=sys.stderr)
            continue
        if (there is None and not folder.exists()) or (there is not None and not there.clashes(run)):
            return _joined(there, run), folder


def _joined(there: Report | None, run: Run) -> Report:
    return Report([*(there.runs if there is not None else []), run])


def run_parts(report: Report, parts: Sequence[Part], folder: Path, deadline: float) -> None:
    """One part after the other until `deadline` (of time.perf_counter), the report written anew meanwhile."""
    run = report.runs[-1]
    start = time.perf_counter()

    def write() -> None:
        run.seconds = time.perf_counter() - start
        save(report, to_markdown(report), folder)

    for part in parts:
        seconds = min(limit(parts) if len(parts) == 1 else part.seconds, deadline - time.perf_counter())
        print(f"{part.title} (up to {max(0.0, seconds):.0f} s)", flush=True)
        outcome = Outcome(part, created=_now())
        run.outcomes.append(outcome)
        if seconds < _LEAST_SECONDS:
            outcome.failure = "the parts before it left no time for it (run it with --only)"
        else:
            run_part(outcome, run.plan, run.setting.pci_bus_id, seconds, _Teller(write).tell)
        for fault in outcome.faults:
            print(f"  {fault}", file=sys.stderr, flush=True)
        write()
    run.ended = ""
    write()


class _Teller:
    """Prints results as they come, and writes the report at once and then from time to time."""

    def __init__(self, write: Any) -> None:
        self._write = write
        self._written = float("-inf")

    def tell(self, result: Any) -> None:
        if result is not None:
            text = result if isinstance(result, str) else repr(result)
            print(f"  {text if len(text) <= 160 else text[:159] + '…'}", flush=True)
        if time.perf_counter() - self._written >= _SAVED_SECONDS:
            self._write()
            self._written = time.perf_counter()


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _stopped(report: Report, folder: Path, by: str, status: int) -> int:
    run = report.runs[-1]
    run.ended = f"{by} ended it"
    if run.outcomes and run.outcomes[-1].failure:
        run.outcomes[-1].failure = f"{by} ended the run"
    save(report, to_markdown(report), folder)
    print(f"Ended by {by}. What was measured until then is in {folder}.", file=sys.stderr)
    return status


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M")


def _minutes(seconds: float) -> str:
    """90 → "1 min 30 s"."""
    return f"{int(seconds // 60)} min {round(seconds % 60)} s"


def _without_folder(arguments: Sequence[str]) -> list[str]:
    """The arguments without --out: where a report was put says nothing about it."""
    kept = [a for i, a in enumerate(arguments) if a != "--out" and (i == 0 or arguments[i - 1] != "--out")]
    return [argument for argument in kept if not argument.startswith("--out=")]


if __name__ == "__main__":
    sys.exit(main())
