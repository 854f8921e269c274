"""How fast training was, beside what the machine can do."""

from __future__ import annotations

import numpy as np

from ..layers import Dense
from ..model import Sequential
from ._page import grid, text
from ._reported import ReportedRun


def flops_per_sample(model: Sequential) -> int:
    """Of a training step: 2·n_in·n_out each for W·A, dW and dA of every `Dense`, but for dA of the first layer."""
    dense = [layer for layer in model.walk() if isinstance(layer, Dense)]
    first = dense[0] if dense and dense[0] is model.layers[0] else None
    return sum((4 if layer is first else 6) * layer.n_in * layer.n_out for layer in dense)


def speed(run: ReportedRun, peak: float | None, device: str) -> str:
    """Samples a second over the run, as floating-point operations, and as a share of a large product's rate."""
    rates = [rate for history in run.histories for rate in history.get("samples_per_second", ())]
    if not rates:
        return ""
    median = float(np.median(rates))
    work = flops_per_sample(run.model) * median
    rows = [("samples a second (median of the epochs)", f"{median:,.0f}")]
    if work:
        rows.append(("of products", f"{work / 1e9:,.1f} GFLOP/s"))
    if peak:
        rows.append((f"a large product on this machine now ({device})", f"{peak / 1e9:,.1f} GFLOP/s"))
        if work:
            rows.append(("share", f"{work / peak:.0%}"))
    few = " Small networks are bound by what is around the products." if peak and work and work < 0.3 * peak else ""
    return grid(("training", ""), rows) + (text(few.strip()) if few else "")
