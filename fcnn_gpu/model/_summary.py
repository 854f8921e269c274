"""The table that model.summary() prints."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from .._console import every_character

if TYPE_CHECKING:
    from ..layers import Layer
    from .sequential import Sequential


def print_summary(model: Sequential, batch_size: int) -> None:
    """Layers with the shapes of their parameters and of their output for one batch; totals below."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    computing = f", computing in {model.precision}" if model.precision != model.dtype.name else ""
    numbers = f"{model.dtype.name}{computing}{model.input_map.options()}{model.center_options()}"
    title = f"Input A0 {model.n_in}×{batch_size}  ({numbers}, {model.ops.describe()})"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for name in ("", "layer", "parameters", "output"):
        table.add_column(name, no_wrap=True)
    for name in ("count", "bytes"):
        table.add_column(name, justify="right", no_wrap=True)
    for layer in model.walk():
        count = sum(parameter.value.size for parameter in layer.parameters())
        nested = layer.path.count(".") > 0
        table.add_row(
            layer.path,
            ("  " if nested else "") + _title(layer),
            ", ".join(f"{p.name} {'×'.join(map(str, p.value.shape))}" for p in layer.parameters()),
            f"{'Z' if layer.name == 'dense' else 'A'} {layer.n_out}×{batch_size}",
            f"{count:,}",
            f"{count * model.dtype.itemsize:,}",
        )
    console = Console()
    widest = console.measure(table, options=console.options.update(width=10_000)).maximum
    console.width = max(console.width, widest)  # a narrow terminal wraps whole lines rather than every cell
    n = model.n_parameters
    with every_character(sys.stdout):
        console.print(table)
        console.print(
            f"{n:,} parameters, {n * model.dtype.itemsize:,} bytes; each gradient and optimizer moment as much."
        )


def _title(layer: Layer) -> str:
    if layer.name in ("residual", "branches"):
        return f"{type(layer).__name__} ({layer.n_in} → {layer.n_out})"
    return repr(layer)
