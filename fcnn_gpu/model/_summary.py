"""The table that model.summary() prints, and a notebook shows of a model."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .._console import counted, every_character
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

    rows = list(_rows(model, f"{batch_size}"))

    def grid_of(fits: bool) -> Table:
        """All columns, each as wide as it is; or one that fits a narrow terminal: layers wrap, bytes are left out."""
        grid = Table(title=_input(model, f"{batch_size}"), title_justify="left", box=SIMPLE_HEAD)
        for name in _HEADER[:4]:
            grid.add_column(name, no_wrap=not fits or name not in ("layer", "parameters"))
        for name in _HEADER[4:5] if fits else _HEADER[4:]:
            grid.add_column(name, justify="right", no_wrap=True)
        for row in rows:
            grid.add_row(*row[: len(grid.columns)])
        return grid

    console, grid = Console(), grid_of(fits=False)
    widest = console.measure(grid, options=console.options.update(width=10_000)).maximum
    if widest > console.width and console.is_terminal:
        grid = grid_of(fits=True)
    elif widest > console.width:
        console.width = widest  # a file has room
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
    size = f"{n * model.dtype.itemsize:,} bytes"
    total = f"{counted(n, 'parameter')}, {size}; each gradient and optimizer moment as much."
    return f"{total}\n{model.n_trainable:,} learn, {n - model.n_trainable:,} are frozen." if model.frozen else total


def _described(parameter: Parameter) -> str:
    shape = "×".join(map(str, parameter.value.shape))
    return f"{parameter.name} {shape}{' frozen' if parameter.frozen else ''}"


def _title(layer: Layer) -> str:
    if layer.name in ("residual", "branches"):
        return f"{type(layer).__name__} ({layer.n_in} → {layer.n_out})"
    return repr(layer)
