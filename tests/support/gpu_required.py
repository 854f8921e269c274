"""`pytest -m gpu` asks for a GPU: without one, or where nothing has run, it fails, and never ends in skips alone."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable

import pytest


def asks_for_gpu(expression: str) -> bool:
    """Whether `pytest -m expression` selects tests because they are marked gpu.

    >>> [asks_for_gpu(x) for x in ("gpu", "gpu and not slow", "torch or gpu")]
    [True, True, True]
    >>> [asks_for_gpu(x) for x in ("", "not slow", "not gpu", "not (large or gpu)")]
    [False, False, False, False]
    """
    try:
        tree = ast.parse(expression.strip() or "None", mode="eval")
    except SyntaxError:
        return False  # pytest will say what is wrong with it
    return _wants(tree.body)


def _wants(node: ast.expr, wanted: bool = True) -> bool:
    match node:
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return _wants(operand, not wanted)
        case ast.BoolOp(values=values):
            return any(_wants(value, wanted) for value in values)
        case ast.Name(id="gpu"):
            return wanted
    return False


def require_gpu(config: pytest.Config, no_device: Callable[[], str | None]) -> None:
    """To be called by `pytest_configure`: refuse `-m gpu` without a GPU, and watch that something runs.

    Args:
        config: pytest's.
        no_device: says which link to the device fails, or None. It is asked where `-m` wants a GPU alone.

    Raises:
        pytest.UsageError: with that link; pytest ends with status 4.
    """
    if not asks_for_gpu(config.option.markexpr) or config.option.collectonly or hasattr(config, "workerinput"):
        return  # in xdist's workers the process that started them has asked
    reason = no_device()
    if reason:
        raise pytest.UsageError(f"-m {config.option.markexpr!r} asks for a GPU: {reason}")
    config.pluginmanager.register(_SomethingRuns(), "something-runs-on-the-gpu")


class _SomethingRuns:
    """Fails a session in which every test was skipped."""

    def __init__(self) -> None:
        self._any = False
        self._skips: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped:
            self._skips[str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)] += 1
        elif report.when == "call":
            self._any = True

    def _nothing(self, status: int) -> bool:
        return status == pytest.ExitCode.OK and not self._any

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if self._nothing(exitstatus):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
        if self._nothing(exitstatus):
            terminalreporter.section("nothing ran on the GPU", red=True)
            for reason, count in self._skips.most_common():
                terminalreporter.line(f"{count} x {reason}")
