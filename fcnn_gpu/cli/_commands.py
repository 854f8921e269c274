"""The subcommands of `fcnn-gpu`: what each is for, which takes no import of it, and the command itself."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

COMMANDS = {
    "train": "Train a network and report how good it is on test data.",
    "evaluate": "Measure a saved model: its loss, and accuracy with a table of the classes, or R², MAE and RMSE.",
    "predict": "Print what a saved model predicts for each sample of INPUT, as CSV: class names, or values.",
    "report": "Write a run as one page: what was trained, how it went, how good it is, and where it fails.",
    "explain": "Show one sample's way through a saved model in numbers: forward, loss, backward and one update.",
    "bench": "Time training and inference on this machine, against the libraries that are installed.",
    "doctor": "Say whether this machine can train, on the CPU and on a CUDA GPU, and what would mend what is not in "
    "order.",
}
"""In the order in which the help names them, the first paragraph of each one's docstring."""


def load_command(name: str) -> Any:
    """The command with its options: the function of the file that has its name."""
    alone = typer.Typer(add_completion=False)
    alone.command(name)(getattr(import_module(f".{name}", __package__), name))
    return typer.main.get_command(alone)


class CommandGroup(TyperGroup):
    """Knows its commands by name and purpose, and imports the one that is called."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, purpose in COMMANDS.items():
            self.add_command(TyperCommand(name, help=purpose))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """(name, command, its arguments) of what is called."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, name and load_command(name), rest
