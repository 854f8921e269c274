"""Lines of a log: which epochs, when, and that each is written at once."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import fcnn_gpu as fcnn
from fcnn_gpu.callbacks import EpochLines, ProgressBar
from fcnn_gpu.callbacks import epoch_lines as lines

X = np.random.default_rng(0).normal(size=(20, 2))
Y = X @ [1.0, -2.0]


def trainer() -> fcnn.Trainer:
    model = fcnn.Sequential([fcnn.Dense(1)], n_in=2, seed=0, backend="numpy")
    return fcnn.Trainer(model, "mse", fcnn.SGD(0.01), metrics=["r2"])


def test_a_display_for_notebooks_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython.display", None)
    with pytest.raises(ImportError, match="progress='lines', or run: pip install ipython"):
        trainer().fit(X, Y, progress="notebook")


def logged(epochs: int, **options: Any) -> list[str]:
    stream = io.StringIO()
    options.setdefault("callbacks", [])
    trainer().fit(
        X, Y, epochs=epochs, progress=False, **options | {"callbacks": [EpochLines(stream), *options["callbacks"]]}
    )
    return stream.getvalue().splitlines()


def epochs_of(written: list[str]) -> list[int]:
    return [int(line.split("/")[0].removeprefix("epoch")) for line in written]


def test_a_short_run_has_a_line_for_each_epoch() -> None:
    written = logged(3, validation_split=0.25)
    assert epochs_of(written) == [1, 2, 3]
    assert written[0].startswith("epoch 1/3  loss ")
    for column in ("r2", "val_loss", "val_r2", "learning_rate 0.01", "samples/s"):
        assert column in written[-1]
    assert "penalty" not in written[-1]


def test_a_long_run_has_some_25_and_the_last() -> None:
    assert epochs_of(logged(102)) == [1, *range(5, 101, 5), 102]


def test_a_run_that_ends_early_has_its_last_epoch() -> None:
    stopping = fcnn.callbacks.EarlyStopping("loss", patience=3, min_delta=1e9)
    assert epochs_of(logged(200, callbacks=[stopping])) == [1, 4]


def test_long_epochs_are_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_LONGEST_SILENCE", 0.0)
    assert epochs_of(logged(102)) == list(range(1, 103))


def test_a_stream_that_lacks_a_character_gets_another() -> None:
    bytes_ = io.BytesIO()
    stream = io.TextIOWrapper(bytes_, encoding="ascii")

    class Marks(fcnn.callbacks.Callback):
        def on_epoch_end(self, trainer: Any, record: dict[str, float]) -> None:
            record["R²"] = 1.0

    trainer().fit(X, Y, epochs=1, progress=False, callbacks=[Marks(), EpochLines(stream)])
    assert b"R^2 1.0000" in bytes_.getvalue()


PROGRAM = """
import numpy as np, fcnn_gpu as fcnn
model = fcnn.Sequential([fcnn.Dense(1)], n_in=2, seed=0, backend="numpy")
fcnn.Trainer(model, "mse").fit(np.ones((8, 2)), np.ones(8), epochs=2)
fcnn.Trainer(model, "mse").fit(np.ones((8, 2)), np.ones(8), epochs=2, progress=False)
fcnn.Trainer(model, "mse").fit(np.ones((8, 2)), np.ones(8), epochs=2, progress="bar")
"""


def test_a_program_whose_output_goes_to_a_file_writes_lines_on_standard_error() -> None:
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert result.stdout == ""
    assert epochs_of(result.stderr.splitlines()) == [1, 2, 1, 2]  # those of the bar, too, which a file cannot show


def test_other_choices_are_refused_before_anything_changes() -> None:
    t = trainer()
    with pytest.raises(ValueError, match=r"fit\(progress\).*'dots'.*bar, lines, notebook"):
        t.fit(X, Y, progress="dots")
    for choice in (1, None):
        with pytest.raises(TypeError, match=r"fit\(progress\) expects True, False or one of bar, notebook, lines"):
            t.fit(X, Y, progress=choice)  # type: ignore[arg-type]
    assert t.epochs_trained == 0


@pytest.mark.parametrize(
    ("width", "shown"), [(80, ("epoch 3/3", "━", "0:00:00", "loss ")), (160, ("100%", "samples/s"))]
)
def test_a_bar_has_what_there_is_room_for(width: int, shown: tuple[str, ...]) -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=width, color_system=None)
    t = trainer()
    t.fit(X, Y, epochs=3, validation_split=0.25, progress=False, callbacks=[ProgressBar(console)])
    last = text.getvalue().split("\r")[-1].splitlines()[0] if "\r" in text.getvalue() else text.getvalue()
    for part in shown:
        assert part in last
    assert len(last.rstrip()) <= width + 20  # with codes that move the cursor
