"""Limits that the system sets: Python in a process of its own whose memory is limited and measured, and full disks."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

needs_limits = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the system does not say how much memory a process has used"
)
needs_file_limits = pytest.mark.skipif(
    importlib.util.find_spec("resource") is None, reason="the system does not limit the size of files"
)

_PROLOGUE = """
import resource, sys
limit = int(sys.argv[1])
if limit:
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
"""
_EPILOGUE = """
with open("/proc/self/status", encoding="ascii") as status:
    peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
import json
print("\\n" + json.dumps({"peak": peak, "result": globals().get("result")}))
"""


@dataclass(frozen=True)
class Finished:
    """A process that has ended: the most memory that was resident at a time (mapped files included), what the code
    left in its variable `result` (plain JSON data), and the two streams.
    """

    peak: int
    result: Any
    stdout: str
    stderr: str


def run_limited(
    code: str, *arguments: object, limit: int = 0, timeout: float = 600, env: dict[str, str] | None = None
) -> Finished:
    """Run code, with `arguments` as text in sys.argv[2:], where memory beyond `limit` bytes cannot be had.

    The limit is RLIMIT_DATA: what a process allocates, not the files that it maps, which `peak` includes. 0: none.
    """
    program = _PROLOGUE + textwrap.dedent(code) + _EPILOGUE
    done = subprocess.run(
        [sys.executable, "-c", program, str(limit), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", **(env or {})},
        check=False,
    )
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    said = json.loads(done.stdout.rstrip().rpartition("\n")[2])
    return Finished(said["peak"], said["result"], done.stdout, done.stderr)


@contextlib.contextmanager
def file_size_limit(n_bytes: int) -> Iterator[None]:
    """This process's files end at `n_bytes`: the system takes what comes before, and refuses the rest as a full disk
    does (EFBIG). Python ignores the signal that would end the process.
    """
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
