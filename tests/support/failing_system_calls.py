"""The k-th system call fails: what must hold of whatever was being written, read or opened at that moment.

The old content is whole, or the new one is; the error names the path; nothing is left beside it. `main` tries a
scenario (`SCENARIOS`) with failures that a seed draws, in a process into which the C file has been preloaded.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import gc
import hashlib
import io
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

import fcnn_gpu as fcnn

_SOURCE = Path(__file__).with_suffix(".c")
ERRORS = (errno.ENOSPC, errno.EIO, errno.EMFILE, errno.EACCES, errno.EINTR)


@functools.cache
def missing() -> str | None:
    """Why calls cannot be made to fail here, or None."""
    if not sys.platform.startswith("linux"):
        return "system calls are made to fail by LD_PRELOAD and found by /proc, as on Linux"
    if shutil.which("cc") is None:
        return "there is no C compiler (cc) to build tests/support/failing_system_calls.c with"
    return None


@functools.cache
def library() -> Path:
    """failing_system_calls.c, built once for this text of it."""
    text = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:16]
    built = Path(tempfile.gettempdir()) / f"fcnn_gpu-failing-calls-{os.getuid()}-{text}.so"
    if not built.exists():
        part = built.with_suffix(f".{os.getpid()}")
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", part, _SOURCE, "-ldl"],
            check=True,
            capture_output=True,
            text=True,
        )
        os.replace(part, built)
    return built


class Failed(Exception):
    """A command ended with an error; the text is its message."""


class Scenario:
    """Something that is done in a folder, again and again from the same state."""

    name: ClassVar[str]

    def prepare(self, folder: Path) -> None:
        """Make what is there before."""

    def act(self, folder: Path) -> None:
        """Do it. An OSError, or `Failed`, where it fails."""
        raise NotImplementedError

    def let_go(self) -> None:
        """Drop what `act` may have left open."""

    def fault(self, folder: Path, done: bool) -> str | None:
        """What does not hold of the folder afterwards; `done`: `act` reported no error."""
        raise NotImplementedError


def network(seed: int, **options: Any) -> fcnn.Sequential:
    """A small one."""
    return fcnn.Sequential([fcnn.Dense(4), fcnn.Dense(2)], 3, seed=seed, backend="numpy", **options)


def samples() -> tuple[Any, Any]:
    """For `stored_network`."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(16, 8)).astype(np.float32), rng.integers(0, 3, 16)


def stored_network(folder: Path) -> fcnn.Sequential:
    """A network in a folder."""
    layers = [fcnn.Dense(8, activation="relu", placement="disk"), fcnn.Dense(3)]
    return fcnn.Sequential(layers, 8, seed=2, backend="numpy", storage=folder)


def arrays(model: fcnn.Sequential) -> dict[str, Any]:
    """Copies of everything that it has learned."""
    return {name: np.array(array) for name, array in model.named_arrays().items()}


def equal(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Bit for bit."""
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


class Replaced(Scenario):
    """A file that is replaced whole."""

    file: ClassVar[str]

    def write(self, target: Path, seed: int) -> None:
        """Make or replace it; another seed, another content."""
        raise NotImplementedError

    def content(self, target: Path) -> Any:
        """What is in it, to compare."""
        return target.read_bytes()

    def prepare(self, folder: Path) -> None:
        self.write(folder / self.file, 1)
        self.new = self.content(folder / self.file)
        self.write(folder / self.file, 0)
        self.old = self.content(folder / self.file)
        assert self.old != self.new
        self.names = sorted(os.listdir(folder))

    def act(self, folder: Path) -> None:
        self.write(folder / self.file, 1)

    def fault(self, folder: Path, done: bool) -> str | None:
        names = sorted(os.listdir(folder))
        if names != self.names:
            return f"the folder holds {names}"
        content = self.content(folder / self.file)
        if content not in ((self.new,) if done else (self.old, self.new)):
            return f"{self.file} is neither the old one nor the new"
        return None


class SavedModel(Replaced):
    file = "model.safetensors"

    def content(self, target: Path) -> Any:
        found = arrays(fcnn.load(target, backend="numpy"))
        return {name: array.tolist() for name, array in found.items()}


class Save(SavedModel):
    name = "save"

    def write(self, target: Path, seed: int) -> None:
        network(seed).save(target)


class SaveStored(SavedModel):
    """The same of a network whose weights pass through memory in blocks."""

    name = "save-stored"

    def write(self, target: Path, seed: int) -> None:
        layers = [fcnn.Dense(4, placement="host"), fcnn.Dense(2)]
        fcnn.Sequential(layers, 3, seed=seed, backend="numpy").save(target)


class HistoryTable(Replaced):
    name = "history"
    file = "history.csv"

    def write(self, target: Path, seed: int) -> None:
        fcnn.History([{"epoch": float(i), "loss": seed + 1 / i} for i in range(1, 4)]).to_csv(target)


class Plot(Replaced):
    name = "plot"
    file = "history.png"

    def write(self, target: Path, seed: int) -> None:
        fcnn.History([{"epoch": float(i), "loss": seed + 1 / i} for i in range(1, 4)]).plot(target)


class IdxFile(Replaced):
    name = "idx"
    file = "images.idx.gz"

    def write(self, target: Path, seed: int) -> None:
        fcnn.datasets.write_idx(target, np.full((5, 4), seed, np.uint8))


def command(*arguments: object) -> None:
    """`fcnn-gpu` in this process. `Failed` with what it says on standard error, for an exit status other than 0."""
    from fcnn_gpu.cli import run

    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = run([str(argument) for argument in arguments])
    if code:
        raise Failed(said.getvalue())


class Predict(Replaced):
    name = "predict"
    file = "out.csv"

    def prepare(self, folder: Path) -> None:
        for seed in range(2):
            model = network(seed)
            model.link = "softmax"
            model.save(folder / f"model{seed}")
        np.save(folder / "inputs.npy", np.eye(3, dtype=np.float32))
        super().prepare(folder)

    def write(self, target: Path, seed: int) -> None:
        command("predict", target.parent / f"model{seed}", target.parent / "inputs.npy", "--out", target)


class Load(Scenario):
    name = "load"

    def prepare(self, folder: Path) -> None:
        model = network(0)
        model.save(folder / "model")
        self.arrays, self.content = arrays(model), (folder / "model").read_bytes()

    def act(self, folder: Path) -> None:
        self.found = None
        self.found = arrays(fcnn.load(folder / "model", backend="numpy"))

    def fault(self, folder: Path, done: bool) -> str | None:
        if done and (self.found is None or not equal(self.found, self.arrays)):
            return "loaded something else"
        return None if (folder / "model").read_bytes() == self.content else "changed the file"


class Train(Scenario):
    """`fcnn-gpu train --out` over the folder of an earlier run."""

    name = "train"

    def _train(self, folder: Path, seed: int) -> None:
        options = ["--epochs", 2, "--layers", 4, "--seed", seed, "--no-progress", "--backend", "numpy"]
        command("train", "--data", folder / "data.csv", *options, "--out", folder / "run", "--overwrite")

    def prepare(self, folder: Path) -> None:
        rng = np.random.default_rng(0)
        rows = [f"{a:.3f},{b:.3f},{'yes' if a > b else 'no'}" for a, b in rng.normal(size=(40, 2))]
        (folder / "data.csv").write_text("\n".join(["a,b,label", *rows, ""]))
        self._train(folder, 1)
        self.new = arrays(fcnn.load(folder / "run" / "model.safetensors", backend="numpy"))
        shutil.rmtree(folder / "run")
        self._train(folder, 0)
        self.old = arrays(fcnn.load(folder / "run" / "model.safetensors", backend="numpy"))
        self.names = sorted(os.listdir(folder)), sorted(os.listdir(folder / "run"))

    def act(self, folder: Path) -> None:
        self._train(folder, 1)

    def fault(self, folder: Path, done: bool) -> str | None:
        run = folder / "run"
        names = os.listdir(folder), os.listdir(run)
        pictures = {name for name in self.names[1] if name.endswith(".png")}
        lacks = {name for name in self.names[1] if name not in names[1]} - (set() if done else pictures)
        if sorted(names[0]) != self.names[0] or lacks or set(names[1]) - set(self.names[1]):
            return f"the folders hold {sorted(names[0])}, {sorted(names[1])}"
        found = arrays(fcnn.load(run / "model.safetensors", backend="numpy"))
        seed = json.loads((run / "run.json").read_text())["options"]["seed"]
        if equal(found, self.new):
            return None if seed == 1 else "the new model lies beside the old run.json"
        if done or not equal(found, self.old):
            return "the model is neither the old one nor the new"
        return None if seed == 0 else "the old model lies beside the new run.json"


class Folder(Scenario):
    """A network in a folder, trained for two steps."""

    def prepare(self, folder: Path) -> None:
        model = stored_network(folder / "net")
        X, y = samples()
        self.trainer = fcnn.Trainer(model, "cross_entropy", fcnn.Adam(0.01))
        self.trainer.fit(X, y, epochs=2, batch_size=16, progress=False, shuffle=False)
        self.before = arrays(model)
        model.close()
        copy = folder / "after"
        shutil.copytree(folder / "net", copy)
        model = self.opened(copy)
        self._step(model)
        self.after = arrays(model)
        model.close()
        shutil.rmtree(copy)
        self.model: fcnn.Sequential | None = None
        del self.trainer

    def opened(self, folder: Path) -> fcnn.Sequential:
        return fcnn.load(folder, backend="numpy")

    def _step(self, model: fcnn.Sequential) -> None:
        X, y = samples()
        trainer = fcnn.Trainer(model, "cross_entropy", fcnn.Adam(0.01))
        trainer.fit(X, y, epochs=1, batch_size=16, progress=False, shuffle=False)

    def let_go(self) -> None:
        if self.model is not None:
            self.model.close()
        self.model = None

    def fault(self, folder: Path, done: bool) -> str | None:
        model = self.opened(folder / "net")
        try:
            found, step = arrays(model), int(fcnn.Adam(0.01).bind(model).control.step[0])
            moments = all(np.any(array) for array in fcnn.Adam(0.01).bind(model).whole_state.values())
        finally:
            model.close()
        states = {2: self.before, 3: self.after}
        if step not in states or not equal(found, states[step]):
            return f"it is not the network of a whole step (step {step})"
        if done and step != self.steps:
            return f"step {step} is there, and {self.steps} steps were reported"
        names = [name for name in os.listdir(folder / "net") if name.endswith(".part")]
        return None if not names and moments is not None else f"the folder holds {names}"

    steps = 2


class OpenFolder(Folder):
    name = "folder-open"

    def act(self, folder: Path) -> None:
        self.model = self.opened(folder / "net")


class Moments(Folder):
    name = "folder-moments"

    def act(self, folder: Path) -> None:
        self.model = self.opened(folder / "net")
        fcnn.Adam(0.01).bind(self.model)


class Step(Folder):
    name = "folder-step"
    steps = 3

    def act(self, folder: Path) -> None:
        self.model = self.opened(folder / "net")
        self._step(self.model)


class CreateFolder(Scenario):
    name = "folder-create"

    def prepare(self, folder: Path) -> None:
        self.model: fcnn.Sequential | None = None

    def act(self, folder: Path) -> None:
        self.model = stored_network(folder / "net")

    def let_go(self) -> None:
        if self.model is not None:
            self.model.close()
        self.model = None

    def fault(self, folder: Path, done: bool) -> str | None:
        expected = stored_network(folder / "other")
        values = arrays(expected)
        expected.close()
        there = sorted(os.listdir(folder / "net")) if (folder / "net").exists() else []
        if "network.state" in there:
            model = fcnn.load(folder / "net", backend="numpy")
            found = arrays(model)
            model.close()
            return None if equal(found, values) else "another network lies there"
        if done:
            return "nothing lies there"
        if [name for name in there if name != "lock"]:
            return f"the folder holds {there}"
        stored_network(folder / "net").close()  # can be made now
        return None


def _scenarios(base: type[Scenario]) -> list[type[Scenario]]:
    own = [base] if "name" in vars(base) else []
    return own + [found for cls in base.__subclasses__() for found in _scenarios(cls)]


SCENARIOS = {scenario.name: scenario for scenario in _scenarios(Scenario)}


def fault_of_error(error: BaseException, folder: Path) -> str | None:
    """What is wrong with the error that a failed call became."""
    shown = f"{type(error).__name__}: {str(error)[:300]}"
    if not isinstance(error, OSError | Failed):
        return f"leaks {shown}"
    if str(folder) not in str(error) and str(folder) not in str(error.__dict__) + str(getattr(error, "filename", "")):
        return f"does not name the path: {shown}"
    return None


def main(name: str, count: int, seed: int) -> None:
    """Try `count` failures, and print as JSON how many calls there are and what did not hold."""
    calls: Any = ctypes.CDLL(None)
    calls.faults_call.restype = ctypes.c_char_p
    warnings.simplefilter("ignore")
    scenario, faults = SCENARIOS[name](), []
    with tempfile.TemporaryDirectory() as top:
        sound, folder = Path(top) / "sound", Path(top) / "folder"
        folder.mkdir()
        scenario.prepare(folder)
        shutil.copytree(folder, sound)

        def attempt(k: int, error: int) -> tuple[int, bytes, BaseException | None]:
            shutil.rmtree(folder)
            shutil.copytree(sound, folder)
            raised: BaseException | None = None
            calls.faults_begin(os.fsencode(folder), k, error, int(error == errno.ENOSPC))
            try:
                scenario.act(folder)
            except Exception as caught:
                raised = caught.with_traceback(None)
            n = calls.faults_end()
            scenario.let_go()
            gc.collect()
            return n, calls.faults_call(), raised

        attempt(0, 0)  # imports what is imported late, so that the calls are counted without
        n_calls, _, raised = attempt(0, 0)
        if raised is not None:
            raise raised
        fault = scenario.fault(folder, True)
        if fault is not None:
            raise AssertionError(f"without any failure: {fault}")
        every = list(itertools.product(range(1, n_calls + 1), ERRORS))
        random.Random(seed).shuffle(every)
        for k, error in every[:count]:
            _, call, raised = attempt(k, error)
            try:
                found = scenario.fault(folder, raised is None)
            except Exception as caught:
                found = f"cannot be read any more: {type(caught).__name__}: {str(caught)[:300]}"
            if found is not None and found.startswith("the folder") and call == b"unlink":
                found = None  # what was to be removed could not be
            if found is None and raised is not None:
                found = fault_of_error(raised, folder)
            if found is not None:
                what = {"call": k, "of": n_calls, "what": call.decode(), "error": errno.errorcode[error]}
                faults.append(what | {"raised": repr(raised)[:200], "fault": found.replace(top, "")})
    print("\n" + json.dumps({"calls": n_calls, "tried": min(count, len(every)), "faults": faults}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
