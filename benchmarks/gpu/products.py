"""Matrix products in every precision: large ones for the ceiling, then those of the nets, each against it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fcnn_gpu._types import Array
from fcnn_gpu.backend import autotune_report
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.bench import ceilings
from fcnn_gpu.bench.libraries import Problem
from fcnn_gpu.bench.libraries.ours import OurNet
from fcnn_gpu.bench.nets import Net
from fcnn_gpu.bench.operations import numpy_dtype
from fcnn_gpu.bench.results import Ceilings

from .clocks import Load, NoClocks, Nvml
from .plan import Plan
from .results import Choice, Fact, Fault, ProductTiming
from .timing import time_calls, warm_up

PRECISIONS = ("float32", "tf32", "bfloat16", "float16", "float64")
CASES = (
    (Net((64, 64, 64, 10)), 256),
    (Net((784, 128, 10)), 128),
    (Net((784, 512, 512, 10)), 1024),
    (Net((784, 4096, 4096, 10)), 8192),
)
"""The nets of the contest; each layer has three products, and layers of the same shape are measured once."""
TUNED = ("float32", "tf32", "bfloat16")
"""The precisions of the contest, for which the autotuner's choices are shown."""
SMALL_CASES = ((Net((20, 16, 5)), 32),)
LOADED = ("float32", "bfloat16")
"""The precisions whose products are queued while the clock is read: they draw different power."""
_QUEUED_SECONDS = 1.0
_READINGS_APART = 0.05


@dataclass(frozen=True)
class Product:
    """C = op(A)·op(B) as a Dense layer (n_out, n_in) at a batch size makes it."""

    what: str
    n_out: int
    n_in: int
    batch: int

    @property
    def mnk(self) -> tuple[int, int, int]:
        if self.what == "forward":
            return self.n_out, self.batch, self.n_in
        if self.what == "weight gradient":
            return self.n_out, self.n_in, self.batch
        return self.n_in, self.batch, self.n_out

    def call(self, ops: Ops, precision: str) -> Callable[[], None]:
        """The product on arrays of its own, in the orders and types of Dense's."""
        stored = numpy_dtype(precision)
        gradient = np.dtype(np.float32) if stored.itemsize == 2 else stored  # as the flat buffer holds it
        A0 = _filled(ops, ops.matrix(self.n_in, self.batch, stored))
        if self.what == "weight gradient":
            dZ, dW = (
                _filled(ops, ops.matrix(self.n_out, self.batch, stored)),
                ops.matrix(self.n_out, self.n_in, gradient),
            )
            return lambda: ops.gemm(dZ, A0.T, dW)
        W, Z = _filled(ops, ops.matrix(self.n_out, self.n_in, stored)), ops.matrix(self.n_out, self.batch, stored)
        if self.what == "forward":
            return lambda: ops.gemm(W, A0, Z)
        dZ = _filled(ops, Z)
        return lambda: ops.gemm(W.T, dZ, A0)


def measure(
    plan: Plan, precisions: Sequence[str] = PRECISIONS, cases: Sequence[tuple[Net, int]] = CASES, **large: Any
) -> Iterator[Ceilings | ProductTiming | Fact | Choice | Fault | str]:
    """By precision: the ceiling, then every product of every case; then what the autotuner takes for their layers."""
    device = plan.ops()
    if plan.small:
        cases, large = SMALL_CASES, {"products": (32,), "copies": (2**12,)}
    warm_up(device, plan, 1.0)
    for precision in precisions:
        try:
            ops = device.with_precision(precision)
            ceiling = ceilings.measure(
                ops,
                precision,
                seconds=0.2 if plan.quick else 0.6,
                copies=large.get("copies", (2**26,)),
                **_sizes(large),
            )
        except (TypeError, ValueError, NotImplementedError) as error:
            yield f"Products in {precision}: not measured. {type(error).__name__}: {error}"
            continue
        yield ceiling
        if precision in LOADED:
            yield from clocks_under_load(ops, plan, precision)
        for product in products_of(cases):
            timed = time_calls(ops, product.call(ops, precision), *((3, 0.003) if plan.quick else (5, 0.01)))
            m, n, k = product.mnk
            rate = ceiling.product_flops_per_second
            yield ProductTiming(precision, product.what, m, n, k, timed.seconds, timed.timed_as, rate)
    yield from choices(plan, cases, TUNED)


def _sizes(large: dict[str, Any]) -> dict[str, Any]:
    return {"products": large["products"]} if "products" in large else {}


def products_of(cases: Sequence[tuple[Net, int]]) -> list[Product]:
    """Every product of a training step of these nets, each shape once; none for the gradient of the first input."""
    found: dict[Product, None] = {}
    for net, batch in cases:
        for i, (n_in, n_out) in enumerate(itertools.pairwise(net.widths)):
            for what in ("forward", "weight gradient", "input gradient")[: 3 if i else 2]:
                found[Product(what, n_out, n_in, batch)] = None
    return list(found)


def _filled(ops: Ops, array: Array) -> Array:
    """Random numbers: a device draws more power for them than for zeros, and its clocks follow."""
    few = np.random.default_rng(0).standard_normal(2**16, np.float32)
    ops.assign(array, np.resize(few, array.shape))
    return array


def clocks_under_load(ops: Ops, plan: Plan, precision: str) -> Iterator[Fact]:
    """What the driver says while the device works through a queue of products that is not empty after the reading."""
    xp: Any = ops.xp
    if not hasattr(xp, "cuda"):
        return
    name = f"device under {precision} products"
    try:
        nvml = Nvml(plan.pci_bus_id)
    except NoClocks as error:
        yield Fact(name, f"its clock is not known: {error}")
        return
    n = 64 if plan.small else 8192
    call = Product("forward", n, n, n).call(ops, precision)
    call()  # which the tuner makes longer
    ops.synchronize()
    read = ops.stopwatch()
    call()
    for _ in range(max(1, round(_QUEUED_SECONDS / read()))):
        call()
    end = xp.cuda.Event()
    end.record()
    readings = []
    over = time.monotonic() + 2 * _QUEUED_SECONDS  # a device may begin only when somebody waits for it
    while not end.done and time.monotonic() < over:
        reading = nvml.read()
        if not end.done:
            readings.append(replace(reading, busy_percent=100))  # whatever the driver's average over the past says
        time.sleep(_READINGS_APART)
    ops.synchronize()
    yield Fact(name, Load.of(readings).sentence())


def choices(plan: Plan, cases: Sequence[tuple[Net, int]], precisions: Sequence[str]) -> Iterator[Choice | Fault]:
    """What the autotuner takes for the layers of these nets, from two training steps and one of inference of each."""
    seen: set[tuple[Any, ...]] = set()
    for net, batch in cases:
        for precision in precisions:
            problem = Problem(
                net, batch, plan.backend, seed=plan.seed, precision=None if precision == "float32" else precision
            )
            try:
                ours = OurNet(problem)
                ours.train(2)
                ours.infer(1)
                ours.wait()
            except (TypeError, ValueError, ImportError) as error:
                yield Fault(
                    f"{net}, batch {batch}, {precision}", f"{type(error).__name__}: {str(error).splitlines()[0]}"
                )
                continue
            for tuned in autotune_report():
                if tuned.problem not in seen:
                    seen.add(tuned.problem)
                    layer, _, rest = str(tuned).partition(f" on {tuned.device}: {tuned.choice} (")
                    yield Choice(layer, tuned.choice, rest.removesuffix(")"))
