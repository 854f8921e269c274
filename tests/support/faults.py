"""`pytest --faults N --faults-seed S`: how many faults tests/faults injects of each kind, and which."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
_MEMORY = 3 * 2**30
"""What a process may allocate, so that a file that asks for more ends in MemoryError and not in the machine's."""
_CODE = """
import sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[1]),) * 2)
except (ImportError, ValueError):
    pass
from importlib import import_module
import_module("tests.support." + sys.argv[2]).main(sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
"""


def add_option(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults", "tests/faults, which injects faults")
    group.addoption("--faults", type=int, metavar="N", help="so many faults of each kind. (default: a few)")
    group.addoption("--faults-seed", type=int, default=0, metavar="S", help="another seed, other faults. (default: 0)")


@dataclass(frozen=True)
class Faults:
    """What the options say."""

    count: int | None
    seed: int

    def inject(self, program: str, kind: str, count: int, first: int, preload: Path | None = None) -> Any:
        """What `tests.support.<program>.main` prints at last, in a process of its own."""
        number = count if self.count is None else self.count
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "FCNN_BACKEND": "numpy", "MPLBACKEND": "agg"}
        if preload is not None:
            environment["LD_PRELOAD"] = str(preload)
        done = subprocess.run(
            [sys.executable, "-c", _CODE, str(_MEMORY), program, kind, str(number), str(first)],
            capture_output=True,
            text=True,
            errors="replace",
            env=environment,
            cwd=ROOT,
            timeout=300 + 60 * number,
            check=False,
        )
        assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return json.loads(done.stdout.rstrip().rpartition("\n")[2])


def told(faults: Sequence[dict[str, Any]], how: str) -> str:
    """For a failure: each kind of fault once, how often it was met, and how to have the first of them back."""
    by_fault: dict[str, list[dict[str, Any]]] = {}
    for fault in faults:
        by_fault.setdefault(fault["fault"][:60], []).append(fault)
    lines = [f"{len(faults)} faults. {how}"]
    lines += [f"{len(found):>5} times: {found[0]}" for found in by_fault.values()]
    return "\n".join(lines)
