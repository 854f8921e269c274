"""The table that model.summary() prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .layers import Layer
    from .model import Sequential


def print_summary(model: Sequential, batch_size: int) -> None:
    """Layers with the shapes of their parameters and of their output for one batch; totals below."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"Input A0 {model.n_in}×{batch_size}  ({model.dtype.name}, {model.ops.describe()})")
    for name, justify in (("", "right"), ("layer", "left"), ("parameters", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    table.add_column("output", justify="left")
    table.add_column("count", justify="right")
    table.add_column("bytes", justify="right")
    for layer in model.walk():
        count = sum(parameter.value.size for parameter in layer.parameters())
        nested = layer.path.count(".") > 0
        table.add_row(
            layer.path,
            ("  " if nested else "") + _title(layer),
            ", ".join(f"{p.name} {'×'.join(map(str, p.value.shape))}" for p in layer.parameters()),
            f"{'Z' if layer.parameters() else 'A'} {layer.n_out}×{batch_size}",
            f"{count:,}",
            f"{count * model.dtype.itemsize:,}",
        )
    console = Console()
    console.print(table)
    n = model.n_parameters
    console.print(f"{n:,} parameters, {n * model.dtype.itemsize:,} bytes; each gradient and optimizer moment as much.")


def _title(layer: Layer) -> str:
    return f"Residual ({layer.n_in} → {layer.n_out})" if layer.name == "residual" else repr(layer)
