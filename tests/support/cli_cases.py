"""Running the command line, what a mistake looks like, and small files: what its tests share."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

CHECKOUT = Path(__file__).resolve().parents[2]
Output = tuple[int, str, str]
Command = Callable[..., Output]


def spawn(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """`python -m fcnn_gpu` as a process of its own."""
    environment = os.environ | {"FCNN_BACKEND": "numpy", "PYTHONPATH": str(CHECKOUT), "PYTHONIOENCODING": "utf-8"}
    line = [sys.executable, "-m", "fcnn_gpu", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(line, stdout=pipe, stderr=pipe, text=True, encoding="utf-8", env=environment, **options)


def save_no_picture(figure: Any, path: Path, **_: Any) -> None:
    """In place of `Figure.savefig`: what a PNG file begins with."""
    path.write_bytes(b"\x89PNG\r\n\x1a\n")


def assert_mistake(output: Output, message: str, code: int = 2) -> None:
    """One line on standard error that holds `message`, and the exit code."""
    found, _, err = output
    assert err.startswith("fcnn-gpu: error: ")
    assert err.count("\n") == 1, err
    assert re.search(message, err), err
    assert "Traceback" not in err
    assert found == code


def iris_like(path: Path, n: int = 150) -> Path:
    """A CSV file with three named classes and features of very different scales."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, n)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["length", "weight", "always", "species"])
        for label in labels:
            x, z = label + 0.1 * rng.standard_normal(), 5000 - 900 * label + 100 * rng.standard_normal()
            writer.writerow([f"{x:.4f}", f"{z:.2f}", "7", ("ash", "birch", "cedar")[label]])
    return path


def linear(path: Path, n: int = 200) -> Path:
    """A CSV file with a regression whose target is a plane, far from 0."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((n, 2)) * [1.0, 1000.0] + [50.0, -4000.0]
    y = 20_000 * X[:, 0] - 30 * X[:, 1] + 5
    np.savetxt(path, np.column_stack([X, y]), delimiter=",", header="a,b,price", comments="")
    return path


QUICK = ("--layers", "16", "--epochs", "8", "--no-progress")
