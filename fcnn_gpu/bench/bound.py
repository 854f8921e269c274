"""What keeps a step or a primitive from being faster: arithmetic, memory, kernel launches or Python."""

from __future__ import annotations

from .results import Bound, Ceilings

_BUSY = 0.9
"""A host that queues work for this share of the time is what the device waits for."""
_GOOD_RATE = 0.5
"""Products at this share of a large product's rate, or reading at this share of a copy's, are bound by it."""


def verdict(
    seconds: float, flops: float, bytes: float, ceilings: Ceilings, calls: int = 1, host_seconds: float | None = None
) -> tuple[Bound, str]:
    """For one primitive: the largest of three lower bounds on its `seconds`, and the shares of all three in a phrase.

    `flops` at the rate of a large product, `bytes` at the rate of a copy of as many, `calls` of the shortest kind. On a
    GPU calls are launches, unless the host was busy queueing nearly all the time (`host_seconds`): then Python.

    >>> ceilings = Ceilings("CPU (NumPy)", "float32", 1e11, "2048 x 2048 x 2048", 1e10, 2**28, 1e-6)
    >>> verdict(1e-3, 9e7, 1e6, ceilings)
    ('arithmetic', "90 % of a large product's FLOP/s, 10 % of a copy's bytes/s; 1 call explains 0.1 % of the time")
    """
    arithmetic = flops / ceilings.product_flops_per_second
    memory = bytes / ceilings.copy_rate(bytes)
    overhead = calls * ceilings.call_seconds
    of_calls = _kind_of_calls(seconds, ceilings, host_seconds)
    floors: dict[Bound, float] = {"arithmetic": arithmetic, "memory": memory, of_calls: overhead}
    bound = max(floors, key=lambda name: floors[name])
    explain = "calls explain" if calls > 1 else "call explains"
    because = (
        f"{_percent(arithmetic, seconds)} of a large product's FLOP/s, "
        f"{_percent(memory, seconds)} of a copy's bytes/s; {calls} {explain} {_percent(overhead, seconds)} of the time"
    )
    return bound, because


def step_verdict(
    seconds: float,
    flops: float,
    bytes: float,
    ceilings: Ceilings,
    *,
    products_seconds: float,
    products_bytes: float,
    hollow_seconds: float,
    host_seconds: float | None = None,
) -> tuple[Bound, str]:
    """For a step: the largest of three parts of its `seconds`, and all three in a phrase.

    The matrix products, measured alone (`products_seconds`); calls, measured as the same step on layers of one unit
    (`hollow_seconds`); and what is left, the passes around the products, which move data through memory or caches and
    do little else. Products are arithmetic, unless they fall short of half a large product's rate while moving their
    own arguments (`products_bytes`) at more than half the rate of a copy: then they too are bound by memory.
    """
    products, calls = min(products_seconds, seconds), min(hollow_seconds, seconds)
    passes = max(0.0, seconds - products - calls)
    rate = flops / products_seconds / ceilings.product_flops_per_second
    reading = products_bytes / products_seconds / ceilings.copy_rate(products_bytes)
    of_products: Bound = "memory" if rate < _GOOD_RATE < reading else "arithmetic"
    of_calls = _kind_of_calls(seconds, ceilings, host_seconds)
    parts: list[tuple[float, Bound]] = [(products, of_products), (passes, "memory"), (calls, of_calls)]
    _, bound = max(parts)
    because = (
        f"matrix products {_percent(products, seconds)} of the time, at {_percent(rate, 1.0)} of a large product's "
        f"FLOP/s; passes around them {_percent(passes, seconds)}; calls {_percent(calls, seconds)}. "
        f"The least traffic alone would take {_percent(bytes / ceilings.copy_rate(bytes), seconds)}"
    )
    return bound, because


def _kind_of_calls(seconds: float, ceilings: Ceilings, host_seconds: float | None) -> Bound:
    on_cpu = ceilings.device.startswith("CPU")
    host_bound = host_seconds is not None and host_seconds > _BUSY * seconds
    return "Python" if on_cpu or host_bound else "launches"


def _percent(part: float, whole: float) -> str:
    share = 100.0 * part / whole
    return f"{share:.0f} %" if share >= 1.0 else f"{share:.1g} %"
