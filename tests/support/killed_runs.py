"""Processes that are ended at a random moment: what must be whole on the disk afterwards.

`main` forks a child for each kill, so that what it imports is there already, lets it run for a random share of the time
that a whole run takes, sends SIGKILL, SIGTERM or SIGINT (Ctrl-C), and looks at what the child has left.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any, ClassVar

import fcnn_gpu as fcnn
from tests.support.failing_system_calls import arrays, command, equal, network, samples, stored_network

SIGNALS = tuple(getattr(signal, name) for name in ("SIGKILL", "SIGINT", "SIGTERM") if hasattr(signal, name))
_UNEXPECTED = 99


class Run:
    """What the child does in a folder, and what must hold of that."""

    name: ClassVar[str]
    seconds: float | None = None
    """How long the child is left alone at most, where it does not end by itself."""

    def prepare(self, folder: Path) -> None:
        """Make what is there before."""

    def act(self, folder: Path) -> None:
        """In the child."""
        raise NotImplementedError

    def fault(self, folder: Path) -> str | None:
        """What does not hold of the folder afterwards."""
        raise NotImplementedError


def _parts(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*.part")]


class Saving(Run):
    """Two models take each other's place in one file without end."""

    name = "save"
    seconds = 0.15

    def prepare(self, folder: Path) -> None:
        self.models = [network(seed) for seed in range(2)]
        self.models[0].save(folder / "model")

    def act(self, folder: Path) -> None:
        for model in itertools.cycle(self.models):
            model.save(folder / "model")

    def fault(self, folder: Path) -> str | None:
        found = arrays(fcnn.load(folder / "model", backend="numpy"))
        if not any(equal(found, arrays(model)) for model in self.models):
            return "the model is neither of the two"
        left = _parts(folder)
        self.models[0].save(folder / "model")
        if len(left) > 1 or _parts(folder):
            return f"the folder held {left}, and after the next save {_parts(folder)}"
        return None


class Training(Run):
    """A network in a folder is opened and goes on training without end, a step an epoch."""

    name = "folder-train"
    seconds = 0.25

    def prepare(self, folder: Path) -> None:
        model = stored_network(folder / "net")
        X, y = samples()
        fcnn.Trainer(model, "cross_entropy", fcnn.Adam(0.01)).fit(X, y, epochs=1, batch_size=16, progress=False)
        model.close()
        shutil.copytree(folder / "net", folder.parent / "reference")
        self._states: list[dict[str, Any]] = []
        self._reference = self._opened(folder.parent / "reference")

    def _opened(self, folder: Path) -> fcnn.Trainer:
        return fcnn.Trainer(fcnn.load(folder, backend="numpy"), "cross_entropy", fcnn.Adam(0.01))

    def _fit(self, trainer: fcnn.Trainer, epochs: int) -> None:
        X, y = samples()
        trainer.fit(X, y, epochs=epochs, batch_size=16, progress=False, shuffle=False)

    def act(self, folder: Path) -> None:
        trainer = self._opened(folder / "net")
        self._fit(trainer, 10**6)
        trainer.model.close()

    def _state(self, step: int) -> dict[str, Any]:
        """What the network is after so many steps, when nothing comes between."""
        while len(self._states) < step:
            self._states.append(arrays(self._reference.model))
            self._fit(self._reference, 1)
        return self._states[step - 1]

    def fault(self, folder: Path) -> str | None:
        trainer = self._opened(folder / "net")
        model = trainer.model
        try:
            step = int(trainer.optimizer.control.step[0])
            if step < 1 or not equal(arrays(model), self._state(step)):
                return f"it is not the network after step {step}"
            self._fit(trainer, 1)
            if not equal(arrays(model), self._state(step + 1)):
                return f"it does not go on from step {step} as it would have"
        finally:
            model.close()
        return f"the folder holds {_parts(folder)}" if _parts(folder) else None


class Building(Run):
    """A network is built in a folder, and trained for some steps."""

    name = "folder-create"

    def act(self, folder: Path) -> None:
        model = stored_network(folder / "net")
        X, y = samples()
        fcnn.Trainer(model, "cross_entropy", fcnn.Adam(0.01)).fit(X, y, epochs=3, batch_size=16, progress=False)
        model.close()

    def fault(self, folder: Path) -> str | None:
        try:
            fcnn.load(folder / "net", backend="numpy").close()
        except FileNotFoundError:
            stored_network(folder / "net").close()  # there was none yet: it can be built
            fcnn.load(folder / "net", backend="numpy").close()
        return None


class Command(Run):
    """`fcnn-gpu train --out` over the folder of an earlier run."""

    name = "train"

    def _train(self, folder: Path, seed: int) -> None:
        options = ["--epochs", 30, "--layers", 4, "--seed", seed, "--no-progress", "--backend", "numpy"]
        command("train", "--data", folder / "data.csv", *options, "--out", folder / "run", "--overwrite")

    def prepare(self, folder: Path) -> None:
        rng = random.Random(0)
        rows = [(rng.random(), rng.random()) for _ in range(40)]
        lines = [f"{a:.3f},{b:.3f},{'yes' if a > b else 'no'}" for a, b in rows]
        (folder / "data.csv").write_text("\n".join(["a,b,label", *lines, ""]))
        self._train(folder, 0)
        self.old = arrays(fcnn.load(folder / "run" / "model.safetensors", backend="numpy"))

    def act(self, folder: Path) -> None:
        self._train(folder, 1)

    def fault(self, folder: Path) -> str | None:
        model = fcnn.load(folder / "run" / "model.safetensors", backend="numpy")
        if model.seed not in (0, 1) or (model.seed == 0 and not equal(arrays(model), self.old)):
            return "the model is neither the old one nor the new"
        json.loads((folder / "run" / "run.json").read_text())
        return None


RUNS: dict[str, type[Run]] = {run.name: run for run in Run.__subclasses__()}


def _child(run: Run, folder: Path, said: Path) -> None:
    """Never returns. What Python says goes to the file `said`."""
    code = _UNEXPECTED
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with open(said, "w", encoding="utf-8") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        run.act(folder)
        code = 0
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt) or (str(error).strip().endswith("interrupted"))
        code = 130 if interrupted else _UNEXPECTED
        if not interrupted:
            with contextlib.suppress(BaseException), open(said, "a", encoding="utf-8") as file:
                traceback.print_exc(file=file)
    finally:
        os._exit(code)


def main(name: str, count: int, seed: int) -> None:
    """End `count` children, and print as JSON what did not hold."""
    warnings.simplefilter("ignore")
    run, rng, faults, after = RUNS[name](), random.Random(seed), [], {"ended": 0, "by itself": 0}
    with tempfile.TemporaryDirectory() as top:
        sound, folder, said = Path(top) / "sound", Path(top) / "folder", Path(top) / "said"
        folder.mkdir()
        run.prepare(folder)
        shutil.copytree(folder, sound)

        def start() -> int:
            shutil.rmtree(folder)
            shutil.copytree(sound, folder)
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until the child is where it can be interrupted
            child = os.fork()
            if child == 0:
                _child(run, folder, said)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            return child

        seconds = run.seconds
        if seconds is None:
            began = time.perf_counter()
            _, status = os.waitpid(start(), 0)
            seconds = time.perf_counter() - began
            if status:
                raise AssertionError(f"without any signal: exit status {status}: {said.read_text()}")
        for i in range(count):
            sent, share = SIGNALS[i % len(SIGNALS)], rng.random()
            child = start()
            time.sleep(share * seconds)
            os.kill(child, sent)
            _, status = os.waitpid(child, 0)
            code = os.waitstatus_to_exitcode(status)
            after["ended" if code in (-sent, 130) else "by itself"] += 1
            if code == _UNEXPECTED or code not in (0, 130, -sent):
                found: str | None = f"exit status {code}: {said.read_text()[-1500:]}"
            else:
                try:
                    found = run.fault(folder)
                except Exception as error:
                    found = f"cannot be read any more: {type(error).__name__}: {str(error)[:300]}"
            if found is not None:
                names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
                faults.append({"run": i, "signal": sent.name, "after": round(share * seconds, 4), "fault": found})
                faults[-1]["files"] = names
    print("\n" + json.dumps({"count": count, "faults": faults} | after))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
