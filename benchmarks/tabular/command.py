"""`fcnn-gpu train` as a model of scikit-learn's kind: a CSV file, a process, the defaults, and nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray

from .models import Job

NAME = "fcnn-gpu train"
_TARGET = "target"


class Command:
    """The command line with its defaults; no settings are shared with it."""

    name = NAME
    version_of = "fcnn_gpu"

    def make(self, job: Job) -> Any | None:
        return None if job.rules == "equal" else CommandEstimator(job)


class CommandEstimator:
    """What a user types, `fit` and `score` in a folder of its own. Its time is the whole process's, files included."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._folder = Path(tempfile.mkdtemp(prefix="fcnn-gpu-tabular-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    def fit(self, X: HostArray, y: HostArray) -> CommandEstimator:
        self._write("train.csv", X, y)
        arguments = ("--target", _TARGET, "--task", self._job.task, "--seed", self._job.seed, "--test-fraction", 0)
        self._run("train", "--data", "train.csv", *arguments, "--no-progress", "--out", "run")
        return self

    def score(self, X: HostArray, y: HostArray) -> float:
        """Accuracy or R², as `fcnn-gpu evaluate` measures it."""
        self._write("test.csv", X, y)
        told = json.loads(self._run("evaluate", "run", "--data", "test.csv", "--json"))
        return float(told["accuracy" if self._job.task == "classification" else "r2"])

    def _write(self, name: str, X: HostArray, y: HostArray) -> None:
        names = [*(f"x{i}" for i in range(X.shape[1])), _TARGET]
        path = self._folder / name
        np.savetxt(path, np.column_stack([X, y]), delimiter=",", header=",".join(names), comments="", fmt="%.17g")

    def _run(self, *arguments: object) -> str:
        line = [sys.executable, "-m", "fcnn_gpu", *map(str, arguments), "--backend", "cpu"]
        line += ["--threads", str(fcnn.threads())]
        done = subprocess.run(line, cwd=self._folder, capture_output=True, text=True, encoding="utf-8", check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(line)} failed: {done.stderr.strip()}")
        return done.stdout
