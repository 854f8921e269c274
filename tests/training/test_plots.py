"""The pictures: what they show, what they refuse, and that matplotlib is only loaded for them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.training._plots import plot_confusion_matrix
from fcnn_gpu.training.history import History, column_names

pytest.importorskip("matplotlib")


def history(penalty: float = 0.0, n_epochs: int = 4, validation: bool = True, metric: str = "accuracy") -> History:
    records = []
    for epoch in range(1, n_epochs + 1):
        record = {"epoch": epoch, "loss": 1 / epoch, "penalty": penalty * epoch, metric: 1 - 0.2 / epoch}
        if validation:
            record |= {"val_loss": 1.2 / epoch, f"val_{metric}": 1 - 0.3 / epoch}
        records.append(record | {"learning_rate": 0.1, "seconds": 1.0, "samples_per_second": 10.0})
    return History(records)


def test_history_shows_training_and_validation_together() -> None:
    figure = history().plot()
    assert [axes.get_title() for axes in figure.axes] == ["data loss", "accuracy"]
    for axes, column in zip(figure.axes, ("loss", "accuracy"), strict=True):
        training, validation = axes.get_lines()
        assert training.get_label() == "training"
        assert validation.get_label() == "validation"
        np.testing.assert_array_equal(training.get_xdata(), [1, 2, 3, 4])
        np.testing.assert_array_equal(training.get_ydata(), history()[column])
        np.testing.assert_array_equal(validation.get_ydata(), history()[f"val_{column}"])
        assert training.get_linestyle() != validation.get_linestyle()


def test_penalty_and_best_epoch_are_marked() -> None:
    run = history(penalty=0.1)
    run.best_epoch = 3
    loss, accuracy = run.plot().axes
    labels = [line.get_label() for line in loss.get_lines()]
    assert labels == ["training", "validation", "L1 + L2 penalty (not in the loss)", "weights taken"]
    np.testing.assert_allclose(np.asarray(loss.get_lines()[2].get_ydata(), float), [0.1, 0.2, 0.3, 0.4])
    assert [line.get_label() for line in accuracy.get_lines()] == ["training", "validation", "weights taken"]
    np.testing.assert_array_equal(accuracy.get_lines()[-1].get_xdata(), [3, 3])


def test_without_validation_or_penalty() -> None:
    loss, error = history(validation=False, metric="mae").plot().axes
    assert len(loss.get_lines()) == len(error.get_lines()) == 1
    assert error.get_title() == "mean absolute error"


def test_only_metrics_have_panels_of_their_own() -> None:
    columns = column_names([fcnn.metrics.METRICS.resolve("mae")], validates=True, scales_loss=True)
    figure = History([dict.fromkeys(columns, 1.0)]).plot()
    assert [axes.get_title() for axes in figure.axes] == ["data loss", "mean absolute error"]


def test_a_history_without_epochs() -> None:
    with pytest.raises(ValueError, match="no epochs"):
        History().plot()


def test_files(tmp_path: Path) -> None:
    history().plot(tmp_path / "curves.png")
    plot_confusion_matrix(np.eye(3, dtype=int), path=tmp_path / "matrix.svg")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "matrix.svg").read_bytes()


def test_confusion_matrix_shows_counts_and_shares() -> None:
    matrix = np.array([[8, 2, 0], [0, 5, 0], [0, 0, 0]])
    figure = plot_confusion_matrix(matrix, ["ash", "birch", "cedar"])
    axes = figure.axes[0]
    assert {text.get_text() for text in axes.texts} == {"8", "2", "5"}
    [image] = axes.get_images()
    np.testing.assert_allclose(
        np.asarray(image.get_array(), float), [[0.8, 0.2, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    )
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ash", "birch", "cedar"]
    assert axes.get_xlabel() == "predicted class"
    assert axes.get_ylabel() == "true class"
    assert axes.get_title() == "13 of 15 right (86.7%)"


def test_a_large_matrix_has_no_counts_and_few_names() -> None:
    axes = plot_confusion_matrix(np.eye(120, dtype=int)).axes[0]
    assert not axes.texts
    assert len(axes.get_xticks()) == 40


@pytest.mark.parametrize("shape", [(2, 3), (4,), (0, 0)])
def test_a_matrix_that_is_not_square(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="square matrix"):
        plot_confusion_matrix(np.zeros(shape, dtype=int))


def test_names_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="expects 2 class names, got 3"):
        plot_confusion_matrix(np.eye(2, dtype=int), ["a", "b", "c"])


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'matplotlib"):
        history().plot()


def test_importing_the_command_line_loads_neither_matplotlib_nor_cupy() -> None:
    shown = "print([m for m in ('matplotlib', 'cupy') if m in sys.modules])"
    code = f"import sys, fcnn_gpu.cli._run, fcnn_gpu.cli._bench, fcnn_gpu.training._plots; {shown}"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("names", [["$^$", "_"], ["&", "\\"], ["a\nb", "\ud800"], ["$", "[red]"], ["$x_1$", "{"]])
def test_names_are_no_formulas(names: list[str], tmp_path: Path) -> None:
    figure = plot_confusion_matrix(np.eye(2), names, tmp_path / "picture.png")
    shown = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert shown == [name.replace("\ud800", r"\ud800") for name in names]
    history(metric=names[0]).plot(tmp_path / "curves.svg")


@pytest.mark.parametrize("name", ["picture.png", "picture.PDF", "picture.svg", "picture"])
def test_a_picture_is_written_beside_and_then_replaced(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error while it is drawn leaves the old one; so does a kind of file that does not exist."""
    target = tmp_path / (name if "." in name else "picture.png")
    target.write_bytes(b"old")
    with monkeypatch.context() as patch:
        patch.setattr("matplotlib.figure.Figure.draw", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            history().plot(tmp_path / name)
    assert target.read_bytes() == b"old"
    history().plot(str(tmp_path / name))
    assert target.read_bytes()[:4] in (b"\x89PNG", b"%PDF", b"<?xm")
    with pytest.raises(ValueError, match=r"not supported"):
        history().plot(tmp_path / "picture.xyz")
    assert list(tmp_path.iterdir()) == [target]


def test_a_picture_goes_into_a_device_or_an_open_file(tmp_path: Path) -> None:
    history().plot(os.devnull)
    assert not Path(os.devnull).is_file()
    with open(tmp_path / "picture", "wb") as file:
        history().plot(file)
    assert (tmp_path / "picture").read_bytes().startswith(b"\x89PNG")
