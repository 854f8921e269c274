"""Notebooks that a real Jupyter kernel executes: what is under their cells."""

from __future__ import annotations

import base64
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

CELLS = [
    """
import numpy as np, fcnn_gpu as fcnn
X = np.random.default_rng(0).normal(size=(200, 3)).astype("float32")
y = (X[:, 0] > 0).astype(int)
model = fcnn.Sequential([fcnn.Dense(4, activation="relu"), fcnn.Dense(2)], n_in=3, seed=0, backend="numpy")
trainer = fcnn.Trainer(model, metrics=["accuracy"])
history = trainer.fit(X, y, epochs=30, validation_split=0.2, callbacks=[fcnn.callbacks.KeepBest("loss")])
""",
    "history",
    "model",
    "trainer",
    "model.memory_report(32)",
    "history.plot()",
    "fcnn.FCNNClassifier((4,), epochs=2, backend='numpy', verbose=True).fit(X, y);",
    "trainer.fit(X, y, epochs=10_000, callbacks=[type('Fails', (fcnn.callbacks.Callback,), "
    "{'on_epoch_end': lambda *_: 1 / 0})()])",
]


@pytest.fixture(scope="module")
def outputs() -> list[list[Any]]:
    """Of each cell."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3", allow_errors=True).execute()
    return [cell.outputs for cell in notebook.cells]


def html(output: Any) -> str:
    return str(output.data["text/html"])


def test_fit_shows_one_display_that_ends_as_a_table(outputs: list[list[Any]]) -> None:
    (shown,) = outputs[0]
    assert shown.output_type == "display_data"
    assert "<progress" not in html(shown)
    assert "30 epochs" in html(shown)
    assert "val accuracy" in html(shown)
    assert "…" in html(shown)


def test_objects_are_shown_as_html(outputs: list[list[Any]]) -> None:
    history, model, trainer, memory = (html(cell[0]) for cell in outputs[1:5])
    assert "weights of epoch 30" in history
    assert history.count("font-weight:bold") > 3
    assert "Dense(3 → 4, relu)" in model
    assert "26 parameters" in model
    assert "Adam(learning_rate=0.001" in trainer
    assert "30 epochs" in trainer
    assert "parameters" in memory


def test_a_plot_is_shown_as_a_picture(outputs: list[list[Any]]) -> None:
    (picture,) = outputs[5]
    assert base64.b64decode(picture.data["image/png"]).startswith(b"\x89PNG")


def test_estimators_show_it_when_they_are_verbose(outputs: list[list[Any]]) -> None:
    assert "2 epochs" in html(outputs[6][0])


def test_a_run_that_fails_says_how_far_it_came(outputs: list[list[Any]]) -> None:
    shown, error = outputs[7]
    assert "ended by: error" in html(shown)
    assert error.ename == "ZeroDivisionError"
