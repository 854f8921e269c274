"""Training and inference against PyTorch and JAX: the contest of fcnn_gpu.bench, with targets for some of its cases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from fcnn_gpu.bench import ceilings, rounds
from fcnn_gpu.bench._worker import WorkerError
from fcnn_gpu.bench.nets import Net
from fcnn_gpu.bench.results import CaseResult, Ceilings, Job
from fcnn_gpu.bench.settings import Settings

from .plan import Plan
from .results import Fault, Goal


@dataclass(frozen=True)
class Contest:
    """A net, a batch size and a precision, and what is wanted of a training step there."""

    net: Net
    batch: int
    precision: str = "float32"
    best_wanted: float | None = None
    eager_wanted: float | None = None
    product_share_wanted: float | None = None


CONTESTS = (
    Contest(Net((784, 128, 10)), 128, best_wanted=2.0, eager_wanted=6.0),
    Contest(Net((64, 64, 64, 10)), 256, best_wanted=2.0, eager_wanted=6.0),
    Contest(Net((784, 512, 512, 10)), 1024, best_wanted=1.3),
    Contest(Net((784, 4096, 4096, 10)), 8192, "tf32", best_wanted=1.0, product_share_wanted=0.75),
    Contest(Net((784, 4096, 4096, 10)), 8192, "bfloat16", best_wanted=1.0, product_share_wanted=0.75),
    Contest(Net((784, 512, 512, 10)), 1024, "tf32"),
)
SMALL = (Contest(Net((20, 16, 5)), 32, best_wanted=2.0), Contest(Net((20, 16, 5)), 32, "tf32"))
JOBS: tuple[Job, ...] = ("train", "infer")


def settings_for(plan: Plan) -> Settings:
    """Every variant of every library, built side by side: compiling in turn would take minutes."""
    return Settings(
        rounds=3 if plan.quick else 7,
        round_seconds=0.02 if plan.quick else 0.05,
        seed=plan.seed,
        libraries=("torch", "jax") if plan.peers else (),
        compile=not plan.quick,
        start_together=True,
        transfers=False,
        timeout=120.0,
    )


def measure(
    plan: Plan,
    contests: Sequence[Contest] = CONTESTS,
    settings: Settings | None = None,
    ceiling: Ceilings | None = None,
) -> Iterator[Ceilings | Goal | CaseResult | Fault]:
    """The ceilings of each precision before its first case, then each case: training as a Goal, inference by itself.

    `ceiling` takes the place of those that are measured.
    """
    settings = settings_for(plan) if settings is None else settings
    if plan.small:
        contests = SMALL
    known: dict[str, Ceilings] = {}
    for contest in contests:
        chosen = replace(settings, precision=None if contest.precision == "float32" else contest.precision)
        try:
            if contest.precision not in known:
                seconds = 0.1 if plan.quick else 0.4
                known[contest.precision] = ceiling or _ceilings(plan, contest.precision, chosen, seconds)
                yield known[contest.precision]
            found = known[contest.precision]
            for result in rounds.time_case(contest.net, contest.batch, JOBS, plan.backend, chosen, ceilings=found):
                if result.job == "train":
                    yield Goal(
                        result,
                        contest.best_wanted,
                        contest.eager_wanted,
                        contest.product_share_wanted,
                        found.product_flops_per_second,
                    )
                else:
                    yield result
        except (WorkerError, TypeError, ValueError) as error:  # ours failed: the other cases may still be measured
            yield Fault(f"{contest.net}, batch {contest.batch}, {contest.precision}", str(error).splitlines()[0])


def _ceilings(plan: Plan, precision: str, settings: Settings, seconds: float) -> Ceilings:
    if plan.small:
        return ceilings.measure(plan.ops(), precision, seconds, products=(32,), copies=(2**12,))
    return ceilings.measure_apart(settings, plan.backend, seconds)
