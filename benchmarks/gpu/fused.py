"""The forward pass of small networks in one kernel against the same layers one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.bench_fused_mlp import BATCHES, FUSED, SEPARATE, WIDTHS, forward_passes
from fcnn_gpu.bench.operations import Unsupported

from .plan import Plan
from .results import FusedTiming
from .timing import time_calls, warm_up

PRECISIONS = ("float32", "bfloat16", "float16")


def measure(
    plan: Plan,
    precisions: Sequence[str] = PRECISIONS,
    widths: Sequence[tuple[int, ...]] = WIDTHS,
    batches: Sequence[int] = BATCHES,
) -> Iterator[FusedTiming | str]:
    """Both by precision, network and batch size, hidden activations kept as in training."""
    ops = plan.ops()
    if plan.small:
        widths, batches = widths[:1], batches[:1]
    warm_up(ops, plan, 0.5)
    rounds, seconds = (3, 2e-3) if plan.quick else (7, 5e-3)
    for precision in precisions:
        for net in widths:
            name = "-".join(map(str, net))
            for batch in batches[:1] if plan.quick else batches:
                try:
                    passes = forward_passes(ops, precision, net, batch, keep=True, seed=plan.seed)
                except Unsupported as reason:
                    yield f"{name} in {precision}: not measured. {reason}"
                    break
                one, many = (time_calls(ops, passes[way], rounds, seconds).seconds for way in (FUSED, SEPARATE))
                yield FusedTiming(name, batch, precision, one, many)
