"""The program `fcnn-gpu`: its subcommands, and the boundary where an error becomes one line and an exit code."""

from __future__ import annotations

import errno
import re
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from .. import __version__
from ._commands import CommandGroup
from ._stdout import Output, OutputLost, print_error, standard_output

OK, FAILURE, MISTAKE, INTERRUPTED = 0, 1, 2, 130
PROGRAM = "fcnn-gpu"

_UsageError: type[Exception] = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")
"""What typer raises for unknown options and the like: click's class, or that of the click inside newer typers."""

app = typer.Typer(
    name=PROGRAM,
    cls=CommandGroup,
    help="Train, evaluate and use fully-connected neural networks, on a CUDA GPU or on the CPU.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"{PROGRAM} {__version__}")
        raise typer.Exit()


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Show where an error came from, not only its message.")
    ] = False,
) -> None:
    """What goes before the subcommand; alone it prints the help."""
    if context.invoked_subcommand is None:
        print(context.get_help())


def main() -> None:
    """Run the program with the arguments of this process, and exit."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run `fcnn-gpu` with these arguments; returns its exit code.

    0: done. 1: it failed while running (training diverged, a backend or a download is not to be had, no memory). 2: a
    mistake in what it was given. 130: ended by Ctrl-C. Both kinds of error print one line on standard error; an error
    of any other kind is a bug and leaves as an exception. Standard output that takes no more is a failure, without a
    word where its reader has seen enough.
    """
    with standard_output() as output:
        try:
            code = _command(arguments)
            sys.stdout.flush()
        except OutputLost:
            code = FAILURE
        if output.fault is not None and code in (OK, FAILURE):
            return _say_lost(output)
    return code


def _command(arguments: Sequence[str]) -> int:
    try:
        code = app(list(arguments), prog_name=PROGRAM, standalone_mode=False)
    except _UsageError as error:
        from ._hints import told  # when there is a mistake

        return _say(told(error, arguments), MISTAKE)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except MemoryError as error:  # which is told without importing anything
        return _tell(error, arguments, FAILURE)
    except (*_failures(), *_mistakes()) as error:
        return _tell(error, arguments, FAILURE if isinstance(error, _failures()) else MISTAKE)
    if code == INTERRUPTED:
        print_error(f"{PROGRAM}: interrupted")
    return code or OK


def _failures() -> tuple[type[Exception], ...]:
    """Errors of the other rooms, which are imported when there is an error."""
    from ..backend import BackendError
    from ..bench._worker import WorkerError
    from ..datasets import DownloadError
    from ..model import NonFiniteOutputError
    from ..training import DivergenceError, PictureError

    return DivergenceError, NonFiniteOutputError, BackendError, DownloadError, WorkerError, PictureError


def _mistakes() -> tuple[type[Exception], ...]:
    from ..tables import MissingReaderError

    return ValueError, TypeError, OSError, MissingReaderError


def _tell(error: BaseException, arguments: Sequence[str], code: int) -> int:
    if "--traceback" in arguments:
        traceback.print_exc()
    return _say(" ".join([_message(error), *getattr(error, "__notes__", [])]), code)


def _say(message: str, code: int) -> int:
    print_error(f"{PROGRAM}: error: {message}")
    return code


def _say_lost(output: Output) -> int:
    """Nothing where a reader has seen enough, unless there is more than what it has not seen."""
    fault = output.fault
    assert fault is not None
    if fault.errno != errno.EPIPE:
        return _say(f"standard output cannot be written: {fault.strerror}. {output.kept}".strip(), FAILURE)
    if output.kept:
        return _say(f"the reader of standard output has gone. {output.kept}", FAILURE)
    return FAILURE


def _message(error: BaseException) -> str:
    """The error in one line, in the words of the command line. A failed download keeps its list of files."""
    if isinstance(error, MemoryError):
        return f"Not enough memory. {error}".strip()
    from ..bench._worker import WorkerError
    from ..datasets import DownloadError

    if isinstance(error, DownloadError):
        return str(error)
    if isinstance(error, WorkerError):
        return str(error).partition("\n")[0]  # what follows is the traceback in the worker
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}."
    return in_options(" ".join(str(error).split()))


_FLAGS = {"header=True": "--header", "header=False": "--no-header", "ignore_extra=True": "--ignore-extra"}
_FLAGS |= {"tables.read(sheet)": "--sheet", "tables.read(header)": "--header"}
_FLAGS |= dict.fromkeys(("Sequential(memory_limit)", "Sequential(memory_limit=...)"), "--memory-limit")
_FLAGS |= {"train(cv)=": "--folds ", "train(cv)": "--folds", "train(epochs)=": "--epochs "}
_FLAGS |= {"a smaller batch_size": "a smaller --batch-size"}
_IN_PYTHON = re.compile(
    r" \(Where that is meant: model\.signature = [^)]*\(\)\.\)|, or give more layers placement='auto'"
)
"""Remedies that the command line does not have."""
_ON_DEVICE = ", or placement='device'"
_COLUMN = re.compile(r"columns=\{'([^']*)': '(\w+)'\}")
_KEYWORDS = "target|task|header|drop|test_fraction|validation_split|clip_norm|momentum"


def in_options(message: str) -> str:
    """A message of the library with its keyword arguments written as the command's options.

    >>> in_options("If this line is the header, say header=True. Leave it out with drop=.")
    'If this line is the header, say --header. Leave it out with --drop.'
    >>> in_options("Try clip_norm=1.0")
    'Try --clip-norm 1.0'
    >>> in_options("Say task='regression'.")
    'Say --task regression.'
    >>> in_options("Say what a column is: columns={'id': 'category'}.")
    'Say what a column is: --column id=category.'
    """

    def option(match: re.Match[str]) -> str:
        return f"--{match[1].replace('_', '-')}" + (f" {match[2] or ''}" if match[2] or match[3] else "")

    message = _COLUMN.sub(r"--column \1=\2", _IN_PYTHON.sub("", message))
    message = message.replace(_ON_DEVICE, ", or a larger --memory-limit")
    for keyword, option_name in _FLAGS.items():
        message = message.replace(keyword, option_name)
    return re.sub(rf"\b({_KEYWORDS})=(?:'(\w+)'|(?=([\w'\"])?))", option, message)
