"""A pytest plugin: each test's outcome as a line of JSON the moment it is known, so that an ended run loses none.

It also ends a process whose device is lost. After an illegal access, a failed assertion or a trap in a kernel every
call of that process fails, whatever it is, and thousands of tests would take the blame of one. xdist starts a new
process in its place and goes on with the tests that are left.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import pytest

LOG = "FCNN_GPU_REPORT_TEST_LOG"
"""Names the file."""
_MESSAGE, _DETAILS = 600, 4000
"""Characters that are kept of an error, and of the end of its traceback."""
_DEVICE_LOST = 70
"""The exit status of a process that ends because of it."""
_STAYING = frozenset(
    {
        214,  # an uncorrectable memory error
        220,  # of NVLink
        700,  # illegal address
        702,  # time-out of a launch
        709,  # context destroyed
        710,  # assertion
        714,  # hardware stack
        715,  # illegal instruction, which __trap() is
        716,  # misaligned address
        717,  # invalid address space
        718,  # invalid program counter
        719,  # launch failure
        721,  # tensor memory leak
        999,  # unknown
    }
)
"""CUDA's errors after which it asks for the process to be ended (the descriptions of cudaError_t say so)."""


def pytest_configure(config: pytest.Config) -> None:
    path = os.environ.get(LOG)
    in_worker = hasattr(config, "workerinput")
    if path and not in_worker:
        config.pluginmanager.register(_Log(path), "fcnn_gpu-report-log")
    if path:
        config.pluginmanager.register(_Ender(in_worker), "fcnn_gpu-report-ender")


class _Log:
    """Of the process that hears of all tests."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - open until the process ends

    def _write(self, **record: Any) -> None:
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if not session.config.getoption("numprocesses", None):  # with xdist, this process collects nothing
            self._write(collected=len(session.items))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        self._write(collected=len(ids))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._write(test=report.nodeid, when="collect", outcome="failed", seconds=0.0, **_said(report))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._write(begun=nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        told = {} if report.passed else _said(report)
        self._write(test=report.nodeid, when=report.when, outcome=report.outcome, seconds=report.duration, **told)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._write(ended=nodeid)


def _said(report: Any) -> dict[str, str]:
    """The message of an error and the end of its traceback, or the reason of a skip."""
    said = report.longrepr
    if isinstance(said, tuple):
        return {"message": str(said[2]).removeprefix("Skipped: ")[:_MESSAGE]}
    if getattr(report, "wasxfail", None) is not None:
        return {"message": f"expected to fail: {report.wasxfail}"[:_MESSAGE]}
    text = str(said)
    crash = getattr(said, "reprcrash", None)
    message = crash.message if crash is not None else text.strip()
    return {"message": message[:_MESSAGE], "details": text[-_DETAILS:]}


class _Ender:
    """Of each process that runs tests."""

    def __init__(self, in_worker: bool) -> None:
        self._in_worker = in_worker
        self._failed = False

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._failed |= report.failed

    @pytest.hookimpl(trylast=True)  # after xdist has sent the report on
    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        if not self._failed:
            return
        self._failed = False
        lost = lost_device()
        if lost:
            print(f"{nodeid} lost the device ({lost}): its process ends.", file=sys.stderr, flush=True)
            if self._in_worker:
                os._exit(_DEVICE_LOST)  # not through CUDA, which would wait for the device
            pytest.exit(f"{nodeid} lost the device ({lost}).", _DEVICE_LOST)


def lost_device() -> str:
    """CUDA's error if this process can use its device no more, or nothing."""
    cupy = sys.modules.get("cupy")
    if cupy is None:
        return ""
    error_type = cupy.cuda.runtime.CUDARuntimeError
    error = None
    for _ in range(2):  # the first may tell of a launch that failed, the second tells whether that stays
        try:
            cupy.cuda.runtime.deviceSynchronize()
        except error_type as found:
            error = found
        else:
            return ""
    return str(error) if error is not None and error.status in _STAYING else ""
