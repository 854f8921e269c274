"""What a user meant whose arguments the command does not take: the words for mistakes in the command line itself."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any

from ._commands import COMMANDS

_MEANT = {
    "train": "--data --input --inputs --file --csv --dataset --table --train --train-data --x --i",
    "out": "--out --output --o --save --save-to --output-dir --model-dir --folder --dir --directory",
    "size": "--batch-size --batch --bs --batchsize --minibatch --mini-batch-size",
    "layers": "--layers --hidden --hidden-layers --hidden-layer-sizes --units --hidden-units --neurons --widths",
    "target": "--target --label --labels --y --target-column --label-column --response --class --predict",
    "device": "--backend --device --gpu --cuda --cpu --accelerator",
    "held": "--validation-split --val-split --validation-fraction --val-fraction --val --validation",
    "test": "--test-fraction --test-size --test-split --holdout",
    "patience": "--early-stopping --patience --n-iter-no-change",
    "decay": "--weight-decay --wd --decay",
    "over": "--overwrite --force --f --replace --clobber",
    "epochs": "--epochs --epoch --e --n-epochs --num-epochs --max-epochs --iterations --max-iter --steps",
    "rate": "--lr --learning-rate-init --eta --step-size --alpha",
    "seed": "--seed --random-state --random-seed",
    "quiet": "--no-progress --quiet --q --silent --verbose --v --no-verbose",
    "threads": "--threads --jobs --j --n-jobs --num-threads --workers --cores --n-threads",
    "metric": "--metric --metrics --score --scoring",
    "leave": "--ignore --exclude --skip --drop --drop-columns",
    "folds": "--folds --cv --kfold --k-fold --n-splits --splits",
    "time": "--time-limit --timeout --max-time --time",
    "scale": "--standardize --normalize --scale --scaler",
    "clip": "--clip-norm --clip --gradient-clip --grad-clip --max-grad-norm",
    "weights": "--class-weight --class-weights --weights",
    "kind": "--column --columns --categorical --dtype-of --kind",
    "init": "--init --initializer --initialization --weight-init",
    "preset": "--preset --model --network --arch --architecture --recipe",
    "proba": "--proba --probabilities --probability --probs --scores",
    "json": "--json --as-json --format",
}
"""Lists of options that mean the same in one program or another; of each the first that a command has is suggested."""

_COMMANDS = {"fit": "train", "learn": "train", "test": "evaluate", "eval": "evaluate", "score": "evaluate"}
_COMMANDS |= {"infer": "predict", "apply": "predict", "inference": "predict", "benchmark": "bench", "check": "doctor"}
_COMMANDS |= {"info": "doctor", "diagnose": "doctor", "devices": "doctor"}

_NEAR = 0.7
"""How alike a misspelt option and the one that is suggested are at least, by `difflib`."""
_SURPLUS = re.compile(r"unexpected extra argument(?:s|\(s\))? \((.+?)\)?\.?$")
_UNKNOWN_COMMAND = re.compile(r"No such command '(.*?)'")
_EXPECTED = {"valid integer": "a whole number", "valid float": "a number", "valid number": "a number"}


def told(error: Any, arguments: Sequence[str]) -> str:
    """A mistake in the arguments, which typer found, in one line with what was meant, or where to look it up."""
    context = getattr(error, "ctx", None)
    command = None if context is None else context.command
    given = getattr(error, "option_name", None)
    if type(error).__name__ == "NoSuchOption" and given and command is not None:
        return _unknown_option(given, command, arguments)
    parameter = getattr(error, "param", None)
    if type(error).__name__ == "MissingParameter" and parameter is not None and command is not None:
        name = parameter.metavar or parameter.name.upper()
        return f"{command.name} needs {name}: {parameter.help} (See: fcnn-gpu {command.name} --help)"
    message = " ".join(error.format_message().split())
    expected = next((text for sign, text in _EXPECTED.items() if sign in message), None)
    if parameter is not None and expected is not None:
        return f"{parameter.opts[0]} expects {expected}, got {_value_of(parameter, arguments)!r}."
    surplus, unknown = _SURPLUS.search(message), _UNKNOWN_COMMAND.search(message)
    if unknown is not None:
        return _unknown_command(unknown[1])
    if surplus is not None and command is not None:
        return _surplus(surplus[1], command.name, arguments)
    return message


def _unknown_option(given: str, command: Any, arguments: Sequence[str]) -> str:
    name = command.name if command.name in COMMANDS else ""
    program = f"fcnn-gpu {name}".strip()
    known = [option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)]
    if given in ("--traceback", "--version") and name:
        return f"{given} goes before the command: fcnn-gpu {given}{f' {name} ...' if given == '--traceback' else ''}"
    if not name and any(argument in COMMANDS for argument in arguments):
        return f"No such option: {given}. Options of a command go behind it. (See: fcnn-gpu --help)"
    meant = nearest_option(given, [option for option in known if option.startswith("--")])
    hint = f"Did you mean {meant}? " if meant else ""
    files = [
        parameter.metavar or parameter.name.upper()
        for parameter in command.params
        if not parameter.opts[0].startswith("-")
    ]
    if files and not meant:
        hint = f"What it works on has no option: {program} {' '.join(files)} "
    return f"No such option: {given}. {hint}(See: {program} --help)"


def nearest_option(given: str, known: Sequence[str]) -> str | None:
    """The option among `known` that was meant.

    >>> known = ["--data", "--learning-rate", "--lr", "--layers", "--out", "--epochs"]
    >>> [nearest_option(given, known) for given in ("--learning_rate", "--hidden", "--output", "--epcohs", "--bla")]
    ['--learning-rate', '--layers', '--out', '--epochs', None]
    """
    spelt = "--" + given.lstrip("-").replace("_", "-").lower()
    if spelt in known:
        return spelt
    for same in map(str.split, _MEANT.values()):
        if spelt in same:
            for option in same:
                if option in known:
                    return option
    begun = [option for option in known if option.startswith(spelt) and len(spelt) > 3]
    if len(begun) == 1:
        return begun[0]
    nearest = difflib.get_close_matches(spelt, known, n=1, cutoff=_NEAR)
    return nearest[0] if nearest else None


def _unknown_command(given: str) -> str:
    meant = _COMMANDS.get(given.lower())
    if meant is None:
        nearest = difflib.get_close_matches(given.lower(), COMMANDS, n=1, cutoff=0.6)
        meant = nearest[0] if nearest else None
    if meant is not None:
        hint = f"Did you mean fcnn-gpu {meant}?"
    elif "." in given:
        hint = f"To train on a file: fcnn-gpu train --data {given}"
    else:
        hint = f"Commands: {', '.join(COMMANDS)}."
    return f"No such command: {given}. {hint}"


def _surplus(given: str, name: str, arguments: Sequence[str]) -> str:
    """More arguments than the command takes: files, that options name."""
    first = given.split()[0]
    names_data = any(argument.partition("=")[0] == "--data" for argument in arguments)
    if name in ("train", "evaluate") and not names_data:
        hint = f"Data is named by an option: --data {first}"
    elif name == "train" and not any(argument.partition("=")[0] == "--test-data" for argument in arguments):
        hint = f"A file to test on is named by an option: --test-data {first}"
    elif name == "predict":
        hint = f"It takes a model and one file of inputs; where the predictions go is named by an option: --out {first}"
    else:
        hint = f"(See: fcnn-gpu {name} --help)"
    return f"{name} does not take {given}. {hint}"


def _value_of(parameter: Any, arguments: Sequence[str]) -> str:
    """What was given for an option, as far as that can be told."""
    for i, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in parameter.opts:
            return value if equals or i + 1 == len(arguments) else arguments[i + 1]
    return ""
