"""From which batch size and width on the GPU trains faster than this machine's CPU."""

from __future__ import annotations

from collections.abc import Iterator

from fcnn_gpu.bench import crossover
from fcnn_gpu.bench.results import Crossover

from .plan import Plan

BATCHES = (1, 8, 64, 256, 1024)
WIDTHS = (16, 64, 256, 1024)


def measure(plan: Plan) -> Iterator[Crossover | str]:
    """784-512-512-10 by batch size, and by the width of its hidden layers in batches of 128."""
    yield from crossover.run(
        net="20-16-5" if plan.small else "784-512-512-10",
        batches=BATCHES[:2] if plan.small else BATCHES[:3] if plan.quick else BATCHES,
        widths=WIDTHS[:1] if plan.small else WIDTHS[:3] if plan.quick else WIDTHS,
        gpu_backend=plan.backend,
        rounds=2 if plan.quick else 3,
        seed=plan.seed,
    )
