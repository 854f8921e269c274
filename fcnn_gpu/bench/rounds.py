"""One case, all libraries: each in a process of its own, checked to agree, then timed in turn, round by round."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np

from .._checks import check_choice, check_integer
from .._types import HostArray
from ..backend import read_cpu
from . import _contest, agreement
from ._contest import Stretch
from ._worker import Worker, WorkerError
from .bound import step_verdict
from .environment import Environment, worker_environment
from .libraries import Entrant, Problem, own_variants, peers
from .nets import Net
from .results import OURS, Absent, Agreement, CaseResult, Ceilings, Job, Timing
from .settings import Settings as Settings

_UNTIMED_SHARE = 10
"""One untimed repetition for so many timed ones, and at least two."""

Progress = Callable[[str], None]


@dataclass
class _Starter:
    """A library that is ready to be timed."""

    entrant: Entrant
    worker: Worker
    cold: dict[Job, float] = field(default_factory=dict)
    jobs: list[str] = field(default_factory=list)
    computed: dict[str, HostArray] = field(default_factory=dict)


@dataclass
class _Field:
    """Everyone in one case: our reference, and all who compute what it does, our other variants first."""

    reference: _Starter
    device: str
    others: list[_Starter] = field(default_factory=list)
    agreements: list[Agreement] = field(default_factory=list)
    absent: list[Absent] = field(default_factory=list)


def time_case(
    net: Net,
    batch: int,
    jobs: Sequence[Job] = ("train", "infer"),
    backend: str = "numpy",
    settings: Settings | None = None,
    *,
    ceilings: Ceilings,
    progress: Progress | None = None,
) -> list[CaseResult]:
    """Time one net at one batch size in every library that can run it; one result per job.

    All processes stay alive and one works at a time. `ceilings` are of the same backend, dtype and settings;
    `progress` is called with what is being done. A peer, or a variant of ours beside the reference, that is missing,
    disagrees or fails is in `absent`, with the reason. Raises `WorkerError` if the process of our reference fails, and
    ValueError or TypeError for unusable arguments.
    """
    settings = Settings() if settings is None else settings
    batch = check_integer("time_case(batch)", batch, low=2 if net.batch_norm else 1)
    for job in jobs:
        check_choice("time_case(jobs)", job, ("train", "infer"))
    environment = worker_environment(settings, backend)
    problem = Problem(net, batch, backend, settings.dtype, settings.seed, environment.threads, settings.precision)
    say: Progress = (lambda phrase: None) if progress is None else lambda phrase: progress(f"{net}, {batch}: {phrase}")
    with ExitStack() as ends:
        field = _start(problem, jobs, environment, settings, ends, say)
        return [_time_job(problem, job, field, settings, ceilings, say) for job in jobs]


def _start(
    problem: Problem, jobs: Sequence[Job], environment: Environment, settings: Settings, ends: ExitStack, say: Progress
) -> _Field:
    """Start everyone, one after the other or side by side, and keep those who compute what our reference does."""

    def ready(entrant: Entrant) -> _Starter | str:
        say(f"{entrant.label} starts")
        worker = ends.enter_context(Worker(entrant.label, environment, settings.timeout))
        reason = worker.call(_contest.build, entrant, problem)
        if reason is not None:
            worker.close()
            return reason
        starter = _Starter(entrant, worker, jobs=worker.call(_contest.jobs))
        for job in jobs:
            if job in starter.jobs:
                starter.cold[job] = worker.call(_contest.stretch, job, 0, 1).seconds
        worker.call(_contest.prepare)
        starter.computed = worker.call(_contest.computed, entrant, problem, agreement.STEPS)
        return starter

    def ready_or_absent(entrant: Entrant) -> _Starter | Absent:
        try:
            found = ready(entrant)
        except WorkerError as error:
            return Absent(entrant.library, entrant.variant, error.summary)
        return Absent(entrant.library, entrant.variant, found) if isinstance(found, str) else found

    first, *rest = own_variants(problem, settings)
    reference = ready(first)
    if isinstance(reference, str):
        raise WorkerError(first.label, reference)
    on_gpu = problem.gpu is not None
    field = _Field(reference, reference.worker.call(_contest.device) if on_gpu else f"CPU ({read_cpu().name})")
    initial = problem.without_dropout().initial_weights()  # as the agreement is computed
    entrants, field.absent = peers(problem, settings)
    entrants = rest + entrants
    started: Iterable[_Starter | Absent] = map(ready_or_absent, entrants)
    if settings.start_together and entrants:
        with ThreadPoolExecutor(len(entrants)) as pool:
            started = list(pool.map(ready_or_absent, entrants))
    for starter in started:
        if isinstance(starter, Absent):
            field.absent.append(starter)
            continue
        entrant = starter.entrant
        found = agreement.deviation(starter.computed, reference.computed, initial, problem.net, problem.arithmetic)
        starter.computed = {}
        field.agreements.append(Agreement(entrant.library, entrant.variant, found.value, found.limit))
        if found.agrees:
            field.others.append(starter)
        else:
            starter.worker.close()
            reason = (
                f"it does not compute what {first.label} does: {found.array} is off by {found.value:.1e}, "
                f"limit {found.limit:g}"
            )
            field.absent.append(Absent(entrant.library, entrant.variant, reason))
    return field


@dataclass
class _Turn:
    """One job of one worker, and its stretches so far."""

    starter: _Starter
    job: str
    repetitions: int
    stretches: list[Stretch] = field(default_factory=list)

    def take(self) -> None:
        untimed = max(2, self.repetitions // _UNTIMED_SHARE)
        self.stretches.append(self.starter.worker.call(_contest.stretch, self.job, untimed, self.repetitions))

    @property
    def seconds(self) -> list[float]:
        return [stretch.seconds for stretch in self.stretches]


def _time_job(
    problem: Problem, job: Job, field: _Field, settings: Settings, ceilings: Ceilings, say: Progress
) -> CaseResult:
    turns: list[_Turn] = []
    lost: list[Absent] = []

    def give_up(starter: _Starter, error: WorkerError) -> None:
        """Leave one out from here on; our reference's failure is everyone's."""
        if starter is field.reference:
            raise error
        entrant = starter.entrant
        starter.worker.close()
        field.others.remove(starter)
        turns[:] = [turn for turn in turns if turn.starter is not starter]
        lost.append(Absent(entrant.library, entrant.variant, error.summary))

    say("warming up")
    for starter in [field.reference, *field.others]:
        wanted = [job, f"products of {job}", f"hollow {job}", *([f"{job} from host"] if settings.transfers else [])]
        try:
            for name in wanted:
                if name in starter.jobs:
                    n = starter.worker.call(_contest.repetitions, name, settings.round_seconds)
                    turns.append(_Turn(starter, name, n))
        except WorkerError as error:
            give_up(starter, error)
    for r in range(settings.rounds):
        say(f"{'training' if job == 'train' else 'inference'}, round {r + 1} of {settings.rounds}")
        first = r % len(turns)
        for turn in turns[first:] + turns[:first]:
            if turn not in turns:
                continue  # its worker failed in this round
            try:
                turn.take()
            except WorkerError as error:
                give_up(turn.starter, error)
    field.absent += lost
    return _result(problem, job, field, turns, ceilings)


def _result(problem: Problem, job: Job, field: _Field, turns: list[_Turn], ceilings: Ceilings) -> CaseResult:
    by_name = {(turn.starter.entrant, turn.job): turn for turn in turns}
    timings = []
    for starter in [field.reference, *field.others]:
        entrant = starter.entrant
        turn, transfer = by_name.get((entrant, job)), by_name.get((entrant, f"{job} from host"))
        if turn is None:
            continue  # it is another variant's
        device = [stretch.device_seconds for stretch in turn.stretches if stretch.device_seconds is not None]
        timings.append(
            Timing(
                entrant.library,
                entrant.variant,
                turn.seconds,
                starter.cold[job],
                None if transfer is None else transfer.seconds,
                device or None,
            )
        )
    best = min(
        (turn for turn in turns if turn.job == job and turn.starter.entrant.key == OURS),
        key=lambda turn: statistics.median(turn.seconds),
    )
    us = best.starter.entrant
    seconds = statistics.median(best.seconds)
    products = statistics.median(by_name[us, f"products of {job}"].seconds)
    hollow = statistics.median(by_name[us, f"hollow {job}"].seconds)
    net, batch = problem.net, problem.batch
    flops = net.flops(batch, job)
    itemsize = np.dtype(problem.dtype).itemsize
    computed_itemsize = itemsize if problem.half is None else 2
    least_bytes = net.bytes(batch, job, itemsize, computed_itemsize)
    bound, because = step_verdict(
        seconds,
        flops,
        least_bytes,
        ceilings,
        products_seconds=products,
        products_bytes=float(computed_itemsize * sum(m * k + k * n + m * n for m, n, k in net.products(batch, job))),
        hollow_seconds=hollow,
        host_seconds=None if problem.gpu is None else statistics.median(s.host_seconds for s in best.stretches),
    )
    return CaseResult(
        net=net.name,
        batch=batch,
        job=job,
        device=field.device,
        dtype=problem.arithmetic,
        n_parameters=net.n_parameters,
        flops=flops,
        bytes=least_bytes,
        timings=timings,
        agreements=list(field.agreements),
        absent=list(field.absent),
        bound=bound,
        bound_because=because,
        products_seconds=products,
        hollow_seconds=hollow,
        threads=problem.threads if problem.gpu is None else None,
    )
