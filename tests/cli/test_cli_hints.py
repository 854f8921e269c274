"""Mistakes in the command line itself: what was meant, in one line."""

from __future__ import annotations

import re

import pytest

from fcnn_gpu.cli import _hints
from fcnn_gpu.cli._commands import COMMANDS, load_command
from tests.support.cli_cases import Command, assert_mistake

LINES = {
    "train rows.csv": "train does not take rows.csv. Data is named by an option: --data rows.csv",
    "train --data rows.csv new.csv": "train does not take new.csv. A file to test on is named by an option",
    "train --data a.csv --test-data b.csv c.csv": "train does not take c.csv. (See: fcnn-gpu train --help)",
    "evaluate run rows.csv": "evaluate does not take rows.csv. Data is named by an option: --data rows.csv",
    "predict run a.csv b.csv": "It takes a model and one file of inputs; where the predictions go is",
    "predict run": "predict needs INPUT: A table, IDX images, .npy or .npz",
    "predict --model run a.csv": "What it works on has no option: fcnn-gpu predict MODEL INPUT",
    "train --learning_rate 0.1": "No such option: --learning_rate. Did you mean --learning-rate? (See",
    "train --file rows.csv": "Did you mean --data?",
    "train -o run": "No such option: -o. Did you mean --out?",
    "train --hidden 64": "Did you mean --layers?",
    "train --batch 64": "Did you mean --batch-size?",
    "train --epcohs 3": "Did you mean --epochs?",
    "train --bla": "No such option: --bla. (See: fcnn-gpu train --help)",
    "train --traceback": "--traceback goes before the command: fcnn-gpu --traceback train ...",
    "train --version": "--version goes before the command: fcnn-gpu --version",
    "--epochs 3 train": "No such option: --epochs. Options of a command go behind it.",
    "train --epochs many": "--epochs expects a whole number, got 'many'.",
    "train --lr=fast": "--lr expects a number, got 'fast'.",
    "fit": "No such command: fit. Did you mean fcnn-gpu train?",
    "evalute run": "Did you mean fcnn-gpu evaluate?",
    "rows.csv": "No such command: rows.csv. To train on a file: fcnn-gpu train --data rows.csv",
    "xyz": "No such command: xyz. Commands: train, evaluate, predict, ",
}


@pytest.mark.parametrize("line", LINES)
def test_what_was_meant(command: Command, line: str) -> None:
    assert_mistake(command(*line.split()), re.escape(LINES[line]))


def test_every_option_that_is_meant_is_one_of_a_command_and_none_is_in_two_lists() -> None:
    parameters = [parameter for name in COMMANDS for parameter in load_command(name).params]
    known = {option for parameter in parameters for option in (*parameter.opts, *parameter.secondary_opts)}
    lists = [words.split() for words in _hints._MEANT.values()]
    assert all(words[0] in known for words in lists)
    everything = [word for words in lists for word in words]
    assert len(set(everything)) == len(everything)
    assert set(_hints._COMMANDS.values()) <= set(COMMANDS)
