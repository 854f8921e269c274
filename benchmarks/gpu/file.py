"""The report's folder: report.json, every number as it was, and report.md, the page made from it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from fcnn_gpu.bench._json import ReportFileError, _plain, _read
from fcnn_gpu.bench.results import CaseResult, Ceilings, Crossover
from fcnn_gpu.files._replacement import write_atomically

from . import results
from .clocks import Load
from .outcome import Outcome, Report, Run
from .plan import Part, Plan
from .setting import Setting

FORMAT, VERSION = "fcnn_gpu GPU report", 2
KINDS: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        results.Choice,
        results.Compilation,
        results.Fact,
        results.Fault,
        results.Fit,
        results.FusedTiming,
        results.Goal,
        results.KernelTiming,
        results.LargeProduct,
        results.ProductTiming,
        results.PytestRun,
        results.StepTiming,
        CaseResult,
        Ceilings,
        Crossover,
    )
}
"""What a part may yield, besides notes."""


def save(report: Report, page: str, folder: Path) -> None:
    """Write report.json and report.md; a reader finds each whole, the old one or the new one."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "report.json", to_json(report).encode())
    write_atomically(folder / "report.md", page.encode())


def load(folder: Path, parts: dict[str, Part]) -> Report | None:
    """The report in the folder, or None if there is none. Raises ReportFileError for a file that is none."""
    path = folder / "report.json"
    if not path.exists():
        return None
    try:
        return from_json(path.read_text(encoding="utf-8"), parts)
    except (ReportFileError, UnicodeDecodeError) as error:
        raise ReportFileError(f"{path} is no GPU report that can be read: {error}") from error


def to_json(report: Report) -> str:
    """Every number of the report; each result says what kind it is."""
    runs = [
        {
            "created": run.created,
            "command": run.command,
            "setting": dataclasses.asdict(run.setting),
            "plan": dataclasses.asdict(run.plan),
            "planned": run.planned,
            "seconds": run.seconds,
            "ended": run.ended,
            "parts": [_outcome_as_plain(outcome) for outcome in run.outcomes],
        }
        for run in report.runs
    ]
    whole = {"format": FORMAT, "version": VERSION, "runs": runs}
    return json.dumps(_plain(whole), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _outcome_as_plain(outcome: Outcome) -> dict[str, Any]:
    return {
        "name": outcome.part.name,
        "created": outcome.created,
        "seconds": outcome.seconds,
        "failure": outcome.failure,
        "details": outcome.details,
        "load": None if outcome.load is None else dataclasses.asdict(outcome.load),
        "results": [_named(result) for result in outcome.results],
    }


def _named(result: Any) -> dict[str, Any]:
    if isinstance(result, str):
        return {"kind": "Note", "text": result}
    assert type(result).__name__ in KINDS, result
    return {"kind": type(result).__name__} | dataclasses.asdict(result)


def from_json(text: str, parts: dict[str, Part]) -> Report:
    """The report that `to_json` wrote, its parts among `parts`; ReportFileError names what is wrong."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise ReportFileError(f"it is not JSON ({error}).") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ReportFileError("it does not say that it is one.")
    if data.get("version") != VERSION:
        raise ReportFileError(f"its format has version {data.get('version')!r}, and this code reads {VERSION}.")
    try:
        return Report([_run(run, parts) for run in data["runs"]])
    except (KeyError, TypeError) as error:
        raise ReportFileError(f"it is not whole ({type(error).__name__}: {error}).") from error


def _run(data: dict[str, Any], parts: dict[str, Part]) -> Run:
    return Run(
        created=data["created"],
        command=data["command"],
        setting=_read(Setting, data["setting"], "setting"),
        plan=_read(Plan, data["plan"], "plan"),
        planned=_read(list[str], data["planned"], "planned"),
        seconds=_read(float, data["seconds"], "seconds"),
        ended=data["ended"],
        outcomes=[_outcome(outcome, parts) for outcome in data["parts"]],
    )


def _outcome(data: dict[str, Any], parts: dict[str, Part]) -> Outcome:
    name = data["name"]
    if name not in parts:
        raise ReportFileError(f"it has a part {name!r}, which nobody knows.")
    return Outcome(
        part=parts[name],
        created=data["created"],
        seconds=_read(float, data["seconds"], f"{name}.seconds"),
        failure=data["failure"],
        details=data["details"],
        load=_read(Load | None, data["load"], f"{name}.load"),
        results=[_result(result, f"{name}.results[{i}]") for i, result in enumerate(data["results"])],
    )


def _result(data: dict[str, Any], where: str) -> Any:
    kind, fields = data["kind"], {key: value for key, value in data.items() if key != "kind"}
    if kind == "Note":
        return fields["text"]
    if kind not in KINDS:
        raise ReportFileError(f"{where} is a {kind!r}, which nobody knows.")
    return _read(KINDS[kind], fields, where)
