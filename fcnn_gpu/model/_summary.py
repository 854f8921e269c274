"""The table that model.summary() prints, and a notebook shows of a model."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .._console import every_character
from .._html import paragraph, table

if TYPE_CHECKING:
    from ..layers import Layer, Parameter
    from .sequential import Sequential


_HEADER = ("", "layer", "parameters", "output", "count", "bytes")


def print_summary(model: Sequential, batch_size: int) -> None:
    """Layers with the shapes of their parameters and of their output for one batch; totals below."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    grid = Table(title=_input(model, f"{batch_size}"), title_justify="left", box=SIMPLE_HEAD)
    for name in _HEADER[:4]:
        grid.add_column(name, no_wrap=True)
    for name in _HEADER[4:]:
        grid.add_column(name, justify="right", no_wrap=True)
    for row in _rows(model, f"{batch_size}"):
        grid.add_row(*row)
    console = Console()
    widest = console.measure(grid, options=console.options.update(width=10_000)).maximum
    console.width = max(console.width, widest)  # a narrow terminal wraps whole lines rather than every cell
    with every_character(sys.stdout):
        console.print(grid)
        console.print(_totals(model))


def summary_html(model: Sequential) -> str:
    """The same for a notebook, of batches of any size."""
    return table(_HEADER, _rows(model, "batch"), _input(model, "batch"), left=4) + paragraph(_totals(model))


def _input(model: Sequential, batch: str) -> str:
    computing = f", computing in {model.precision}" if model.precision != model.dtype.name else ""
    numbers = f"{model.dtype.name}{computing}{model.input_map.options()}{model.center_options()}"
    return f"Input A0 {model.n_in}×{batch}  ({numbers}, {model.ops.describe()})"


def _rows(model: Sequential, batch: str) -> Iterator[tuple[str, ...]]:
    for layer in model.walk():
        count = sum(parameter.value.size for parameter in layer.parameters())
        nested = layer.path.count(".") > 0
        yield (
            layer.path,
            ("  " if nested else "") + _title(layer),
            ", ".join(map(_described, layer.parameters())),
            f"{'Z' if layer.name == 'dense' else 'A'} {layer.n_out}×{batch}",
            f"{count:,}",
            f"{count * model.dtype.itemsize:,}",
        )


def _totals(model: Sequential) -> str:
    n = model.n_parameters
    total = f"{n:,} parameters, {n * model.dtype.itemsize:,} bytes; each gradient and optimizer moment as much."
    return f"{total}\n{model.n_trainable:,} learn, {n - model.n_trainable:,} are frozen." if model.frozen else total


def _described(parameter: Parameter) -> str:
    shape = "×".join(map(str, parameter.value.shape))
    return f"{parameter.name} {shape}{' frozen' if parameter.frozen else ''}"


def _title(layer: Layer) -> str:
    if layer.name in ("residual", "branches"):
        return f"{type(layer).__name__} ({layer.n_in} → {layer.n_out})"
    return repr(layer)
