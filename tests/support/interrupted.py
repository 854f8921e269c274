"""Processes of their own that get real signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals between processes")


def run_and_signal(
    script: str,
    said: str = "begun",
    number: int = signal.SIGINT,
    send: Callable[[subprocess.Popen[str]], None] | None = None,
    **variables: str,
) -> tuple[int, list[str], str]:
    """Run a Python script, send it a signal when it prints `said`; (exit code, lines of output, standard error)."""
    threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | threads | {"FCNN_BACKEND": "numpy", "PYTHONPATH": str(CHECKOUT)} | variables,
        start_new_session=True,  # Ctrl-C at a terminal reaches the whole group: so may the test
    )
    try:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            if lines[-1] == said:
                break
        if send is None:
            process.send_signal(number)
        else:
            send(process)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    return process.returncode, [*lines, *out.splitlines()], err
