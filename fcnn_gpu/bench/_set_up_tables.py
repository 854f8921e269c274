"""On what a report was measured: machine, versions, settings and ceilings."""

from __future__ import annotations

from typing import Any

from . import _numbers as show
from ._reading import place_of
from ._table import Column, Section, Table, cells
from .results import Ceilings, Report

_IN_NOTES = {"no_gpu_because"}
_APART = {"environment"}
"""Settings with rows of their own."""


def set_up_section(report: Report) -> Section:
    """When, how and on what it was measured, and what a reader must know."""
    rows = [
        cells(*_named(key, value))
        for key, value in report.machine.items()
        if key not in _IN_NOTES and value is not None
    ]
    rows.append(cells("versions", ", ".join(f"{name} {version}" for name, version in report.versions.items())))
    settings = {key: value for key, value in report.settings.items() if key not in _APART}
    rows.append(cells("settings", plain_text(settings)))
    rows += [cells(f"workers: {_words(key)}", _assignments(value)) for key, value in _environment(report).items()]
    text = [f"Measured on {report.created[:16].replace('T', ' at ')} UTC by: {report.command}"]
    if report.interrupted:
        text.append("Interrupted by Ctrl-C: what was measured until then is here.")
    tables = [Table("Machine and settings", [Column("", True), Column("", True, keeps=20)], rows)]
    if report.ceilings:
        tables.append(_ceilings(report.ceilings))
    notes = [f"Note: {note}" for note in report.notes]
    return Section("How this was measured", text + notes, tables)


def _ceilings(ceilings: list[Ceilings]) -> Table:
    columns = [
        Column("device", True, keeps=16),
        Column("dtype", True),
        Column("large product"),
        Column("its shape", True, optional=2),
        Column("large copy"),
        Column("its size", optional=1),
        Column("shortest call"),
    ]
    rows = [
        cells(
            place_of(c),
            c.dtype,
            f"{show.giga(c.product_flops_per_second)} GFLOP/s",
            c.product_shape,
            f"{show.giga(c.copy_bytes_per_second)} GB/s",
            f"{c.copy_bytes / 1e6:,.0f} MB",
            show.duration(c.call_seconds),
        )
        for c in ceilings
    ]
    return Table("Ceilings, measured in the same run", columns, rows)


def plain_text(value: Any) -> str:
    """A machine's or a setting's value in words.

    >>> plain_text({"blas": ["openblas", {"threads": 2}], "native": True, "gpu": None})
    'blas openblas, threads 2; native yes; gpu none'
    """
    if value is None or value in ([], {}, ""):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, dict):
        return "; ".join(" ".join(_named(key, item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(plain_text, value))
    return str(value)


def _named(key: str, value: Any) -> tuple[str, str]:
    """What is called so, in words: "memory_bytes" is memory, in GiB."""
    name = str(key)
    if name.endswith("_bytes") and isinstance(value, int | float):
        return name.removesuffix("_bytes"), f"{value / 2**30:.1f} GiB"
    return _words(name), plain_text(value)


def _words(key: str) -> str:
    return key if key.isupper() else key.replace("_", " ")


def _environment(report: Report) -> dict[str, Any]:
    """What the workers ran in; for several numbers of threads, of each."""
    found = report.settings.get("environment", {})
    if isinstance(found, dict):
        return {key: value for key, value in found.items() if value and key != "threads"}
    return {
        f"{key}, {show.threads(one['threads'])}": value
        for one in found
        for key, value in one.items()
        if value and key != "threads"
    }


def _assignments(value: Any) -> str:
    """Variables as a shell writes them."""
    if isinstance(value, dict):
        return ", ".join(f"{name}={setting}" for name, setting in value.items())
    return plain_text(value)
