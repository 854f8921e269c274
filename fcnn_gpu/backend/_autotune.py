"""Which of several ways of computing the same is fastest here: timed once per problem, then kept.

A product with a bias and an activation can be one library call or three launches, and which is faster depends on
shapes, dtypes and device. The candidates of a problem are timed on the device when the problem first comes up, never
while a graph is being recorded. The choice holds for the process and, if a file is named, for others after it.

A device's clock rises while it works, so that whatever is timed last looks fastest. So candidates are timed in turn,
round by round, until none gets faster; the shortest time of each counts; and an earlier candidate gives way to a later
one only where that is clearly better. What is chosen, and with it the last bits of results, then repeats.
"""

from __future__ import annotations

import json
import logging
import math
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakSet

from .._checks import suggest
from ..files import write_atomically
from ._cublas import CublasError, Status

logger = logging.getLogger("fcnn_gpu")

VARIABLE = "FCNN_AUTOTUNE"
_FORMAT = 1
_REPEATS = 10  # calls in one graph, so that launching it does not outweigh small kernels
_LONG = 1e-3  # seconds; of calls that take longer, one to a graph is enough
_FASTER = 0.99  # times its time before, a candidate has got faster: the clock is still rising
_STEADY, _STEADY_LONG = 6, 3  # rounds in which none gets faster, after which timing ends
_ROUNDS, _SECONDS = 3, 0.25  # at least so many; beyond them, no more than so much time on the device
_BETTER = 0.97  # times an earlier candidate's time, a later one takes its place
_SIZES = 8
"""Sizes that are timed of problems that differ in the batch alone: enough for training, evaluation and the rest of a
data set in each. Inference on batches of every size must not stop to time each."""

Candidates = Mapping[str, Callable[..., None]]
"""Ways of computing the same by name, in the order of preference without timing."""
Problem = tuple[Any, ...]
"""What distinguishes one problem from another: strings, integers and tuples of them."""


@dataclass(frozen=True)
class Question:
    """What there is to choose from.

    Args:
        candidates: the ways of computing the problem.
        trial: gives arguments for them, whose outputs they may overwrite.
        families: (family, size) pairs. Problems of a family differ in their size alone; what is best for one of them
            is likely to be so for another.
    """

    candidates: Candidates
    trial: Callable[[], tuple[Any, ...]]
    families: tuple[tuple[Problem, int], ...] = ()


@dataclass(frozen=True)
class Tuned:
    """What was chosen for one problem, and why.

    `seconds` holds each candidate's time and `dropped` the reason for each that cannot compute this problem. Without
    times the choice is the first candidate, for the reason in `note`, or comes from a file.
    """

    device: str
    problem: Problem
    choice: str
    seconds: dict[str, float] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    note: str = ""

    def __str__(self) -> str:
        times = ", ".join(f"{name} {1e6 * t:.1f} us" for name, t in sorted(self.seconds.items(), key=lambda x: x[1]))
        refused = "".join(f"; {name}: {reason}" for name, reason in self.dropped.items())
        why = "; ".join(part for part in (self.note, times) if part)
        return f"{_described(self.problem)} on {self.device}: {self.choice} ({why}{refused})"


class Clock(Protocol):
    """What the tuner needs of the primitives of a device."""

    def capture(self, fn: Callable[[], None]) -> Callable[[], None]:
        """fn, recorded at its second call."""

    def stopwatch(self) -> Callable[[], float]:
        """Starts a stopwatch on the device."""


_lock = threading.RLock()
_setting: str | None = None
_tuners: WeakSet[Autotuner] = WeakSet()


def set_autotune(setting: str | os.PathLike[str]) -> None:
    """Choose how a GPU's matrix products are chosen from now on.

    "on" times the candidates of each new shape and dtype, for the process; the path of a .json file does so as well,
    and keeps the choices there for later processes; "off" always takes the same first candidate, so that two processes
    make the same calls: together with a fixed seed that is what makes their results the same bit for bit.

    It goes before the environment variable FCNN_AUTOTUNE, which takes the same values; without either it is "on". What
    has been chosen so far in this process is forgotten; steps that a running `fit` has captured stay as they are.
    """
    global _setting
    checked = _checked(setting, "set_autotune")
    with _lock:
        _setting = checked
        for tuner in _tuners:
            tuner.forget()


def autotune_report() -> list[Tuned]:
    """What has been chosen in this process, in order: each problem, the candidates' times and what was refused.

    Print an entry to read it. Empty where autotuning is off or nothing has run on a GPU.
    """
    with _lock:
        return [tuned for tuner in _tuners for tuned in tuner.results()]


def autotune_setting() -> str:
    """ "on", "off" or the path of the file that choices are kept in."""
    if _setting is not None:
        return _setting
    value = os.environ.get(VARIABLE)
    return _checked(value, f"The environment variable {VARIABLE}") if value else "on"


def _checked(setting: object, who: str) -> str:
    value = os.fspath(setting) if isinstance(setting, os.PathLike) else setting
    if value in ("on", "off"):
        return str(value)
    if not isinstance(value, str) or not value.endswith(".json"):
        raise ValueError(
            f'{who} expects "on", "off" or the path of a .json file, got {value!r}. {_hint(value)}'.rstrip()
        )
    path = Path(value).expanduser().absolute()
    if not path.parent.is_dir():
        raise ValueError(f"{who}: there is no folder {path.parent} to keep {path.name} in. Make it, or choose another.")
    return str(path)


def _hint(value: object) -> str:
    return suggest(value, ["on", "off"]) if isinstance(value, str) and len(value) < 5 else ""


class Autotuner:
    """The choices for one device.

    Args:
        device: its name.
        libraries: those that the candidates call, with their versions. What a file keeps is for these alone, and for
            this version of fcnn_gpu.
    """

    def __init__(self, device: str, libraries: str) -> None:
        from .. import __version__  # the package is not whole yet where this module is imported

        self.device = device
        self._key = f"{device}, {libraries}, fcnn_gpu {__version__}"
        self._known: dict[Problem, Tuned] = {}
        self._timed: dict[Problem, list[tuple[int, str]]] = {}
        self._from_file: tuple[str, dict[str, str]] | None = None
        with _lock:
            _tuners.add(self)

    def forget(self) -> None:
        """Choose anew, by the present setting."""
        self._known.clear()
        self._timed.clear()
        self._from_file = None

    def known(self, problem: Problem) -> str | None:
        """The choice for a problem that has come up before."""
        found = self._known.get(problem)
        return None if found is None else found.choice

    def results(self) -> list[Tuned]:
        """What has been chosen, in order."""
        return list(self._known.values())

    def choose(self, problem: Problem, question: Callable[[], Question], clock: Clock) -> str:
        """The name of the candidate to take for a problem.

        Args:
            problem: what is to be computed.
            question: gives what there is to choose from; called only for a problem that is new.
            clock: the device's primitives, which are not recording.
        """
        known = self._known.get(problem)
        if known is not None:
            return known.choice
        with _lock:
            known = self._known.get(problem)
            if known is None:
                known = self._known[problem] = self._decided(problem, question(), clock)
            return known.choice

    def _decided(self, problem: Problem, question: Question, clock: Clock) -> Tuned:
        setting, candidates = autotune_setting(), question.candidates
        first = next(iter(candidates))
        if setting == "off":
            return Tuned(self.device, problem, first, note="autotuning is off")
        if setting != "on":
            kept = self._kept(setting).get(_described(problem))
            if kept is not None and kept in candidates:
                return Tuned(self.device, problem, kept, note=f"kept in {setting}")
        try:
            arguments = question.trial()
        except MemoryError:
            return Tuned(self.device, problem, first, note="not timed: there was no memory for a trial")
        like = self._nearest(question)
        if like is not None:
            return self._as_for(like, problem, candidates, arguments)
        tuned = self._compared(problem, candidates, arguments, clock)
        for family, size in question.families:
            self._timed.setdefault(family, []).append((size, tuned.choice))
        if setting != "on":
            self._keep(setting, tuned)
        return tuned

    def _compared(self, problem: Problem, candidates: Candidates, arguments: tuple[Any, ...], clock: Clock) -> Tuned:
        """The fastest of the candidates that the device can compute."""
        runs: dict[str, Callable[[], None]] = {}
        dropped: dict[str, str] = {}
        first = next(iter(candidates))
        for name, run in candidates.items():
            try:
                run(*arguments)
            except CublasError as error:
                if name == first or not _refused(error):
                    raise
                if not error.unsupported:  # a combination that the documentation allows, or an error of ours
                    logger.warning("%s is left out for %s: %s", name, _described(problem), error)
                dropped[name] = str(error)
            else:
                runs[name] = partial(run, *arguments)
        seconds = _times(clock, runs)
        return Tuned(self.device, problem, _preferred(seconds), seconds, dropped)

    def _nearest(self, question: Question) -> str | None:
        """The choice for the nearest size of a family of which enough sizes have been timed."""
        for family, size in question.families:
            timed = self._timed.get(family, [])
            if len(timed) >= _SIZES:
                return min(timed, key=lambda of: abs(of[0] - size))[1]
        return None

    def _as_for(self, like: str, problem: Problem, candidates: Candidates, arguments: tuple[Any, ...]) -> Tuned:
        """`like`, which was best for another size, if the device can compute this one so."""
        choice, note = next(iter(candidates)), f"not timed: {_SIZES} other sizes have been"
        if like in candidates:
            try:
                candidates[like](*arguments)
                choice = like
            except CublasError as error:
                if not _refused(error):
                    raise
                note += f", and {like} does not go: {error}"
        return Tuned(self.device, problem, choice, note=note)

    # The file

    def _kept(self, path: str) -> dict[str, str]:
        """The choices for this device and these versions in the file."""
        if self._from_file is None or self._from_file[0] != path:
            self._from_file = path, _choices_of(_read(path), self._key)
        return self._from_file[1]

    def _keep(self, path: str, tuned: Tuned) -> None:
        """Add a choice to the file, whatever other processes have added to it."""
        content = _read(path)
        devices = content.setdefault("devices", {})
        devices.setdefault(self._key, {})[_described(tuned.problem)] = {
            "choice": tuned.choice,
            "microseconds": {name: round(1e6 * t, 3) for name, t in tuned.seconds.items()},
        }
        try:
            _write(path, content)
        except OSError as error:
            logger.warning("The choices of autotuning cannot be kept in %s (%s).", path, error.strerror or error)
        self._from_file = None


def _refused(error: CublasError) -> bool:
    """Whether the library refused the call, before anything was queued."""
    return error.unsupported or error.status == Status.INVALID_VALUE


class _Timed:
    """A candidate that has run before, recorded, and the shortest time of a call."""

    def __init__(self, clock: Clock, run: Callable[[], None]) -> None:
        self._clock, self._run, self._n = clock, clock.capture(run), 1
        self.shortest = math.inf
        estimate = [self.sample() for _ in range(3)][-1]  # as it is, recorded, launched again
        self.is_long = estimate >= _LONG
        if not self.is_long:

            def several() -> None:
                for _ in range(_REPEATS):
                    run()

            self._run, self._n = clock.capture(several), _REPEATS
            for _ in range(2):
                self._run()
        self.shortest = math.inf

    def sample(self) -> float:
        """Run it; the seconds that takes, all calls together."""
        seconds = self._clock.stopwatch()
        self._run()
        took = seconds()
        self.shortest = min(self.shortest, took / self._n)
        return took


def _times(clock: Clock, runs: Mapping[str, Callable[[], None]]) -> dict[str, float]:
    """The shortest time of a call of each, timed in turn until none gets faster."""
    timed = {name: _Timed(clock, run) for name, run in runs.items()}
    steady = _STEADY_LONG if any(each.is_long for each in timed.values()) else _STEADY
    before = dict.fromkeys(timed, math.inf)
    n_rounds, n_steady, spent = 0, 0, 0.0
    while n_rounds < _ROUNDS or (n_steady < steady and spent < _SECONDS):
        names = list(timed) if n_rounds % 2 == 0 else list(reversed(timed))  # what comes late gains nothing by it
        spent += sum(timed[name].sample() for name in names)
        faster = [name for name in names if timed[name].shortest < _FASTER * before[name]]
        before.update((name, timed[name].shortest) for name in faster)
        n_rounds, n_steady = n_rounds + 1, 0 if faster else n_steady + 1
    return {name: each.shortest for name, each in timed.items()}


def _preferred(seconds: Mapping[str, float]) -> str:
    """The first name, unless a later one is clearly better; of those the same."""
    found = next(iter(seconds))
    for name, time in seconds.items():
        if time <= _BETTER * seconds[found]:
            found = name
    return found


def _described(problem: Problem) -> str:
    return " ".join(_part(part) for part in problem)


def _part(part: Any) -> str:
    return "x".join(map(str, part)) if isinstance(part, tuple) else str(part)


def _read(path: str) -> dict[str, Any]:
    """The file's content; empty where there is none. What cannot be read is reported, and written anew."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {"format": _FORMAT}
    except (OSError, ValueError) as error:
        logger.warning(
            "The autotuning file %s cannot be read (%s): it is ignored and will be written anew.", path, error
        )
        return {"format": _FORMAT}
    if not _well_formed(content):
        logger.warning("The file %s holds no autotuning choices: it is ignored and will be written anew.", path)
        return {"format": _FORMAT}
    return dict(content)


def _well_formed(content: Any) -> bool:
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        return False
    devices = content.get("devices", {})
    if not isinstance(devices, dict) or not all(isinstance(problems, dict) for problems in devices.values()):
        return False
    entries = [entry for problems in devices.values() for entry in problems.values()]
    return all(isinstance(entry, dict) and isinstance(entry.get("choice"), str) for entry in entries)


def _choices_of(content: dict[str, Any], key: str) -> dict[str, str]:
    return {problem: entry["choice"] for problem, entry in content.get("devices", {}).get(key, {}).items()}


def _write(path: str, content: dict[str, Any]) -> None:
    """Replace the file whole, so that another process never sees half of it; one that is lost is measured anew."""
    text = json.dumps(content, indent=1, sort_keys=True) + "\n"
    write_atomically(path, text.encode(), durable=False)
