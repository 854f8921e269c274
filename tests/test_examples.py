"""The example on regularization says what it measures; the claims it makes are measured again."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from examples import regularization
from examples.regularization import VARIANTS, Result, make_model, measure, plot, table_of

CHECKOUT = Path(__file__).resolve().parents[1]


def made_up_results() -> dict[str, Result]:
    rng = np.random.default_rng(0)
    results = {}
    for i, name in enumerate(VARIANTS):
        validation = np.array([0.88, 0.90]) + 0.01 * i
        results[name] = Result(np.ones(2), validation, validation - 0.03, np.sort(rng.random((2, 10)), axis=1))
    return results


def test_gap_and_table() -> None:
    results = made_up_results()
    assert results["none"].gap == pytest.approx(0.11)
    stream = io.StringIO()
    Console(width=120, file=stream).print(table_of(results))
    text = stream.getvalue()
    assert all(name in text for name in VARIANTS)
    assert "89.0 ± 1.0" in text
    assert "+3.0" in text


def test_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot(made_up_results(), str(tmp_path / "picture.png"))
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_the_network_has_as_many_parameters_as_the_page_says() -> None:
    page = (CHECKOUT / "docs" / "regularization.md").read_text(encoding="utf-8")
    assert f"{make_model(VARIANTS['none'], 0).n_parameters:,} parameters" in page
    layers = [layer.name for layer in make_model(VARIANTS["L2 + dropout + batch norm"], 0).layers]
    assert layers == ["dropout", *["dense", "batch_norm", "activation", "dropout"] * 4, "dense"]


def test_the_page_has_a_row_for_each_variant() -> None:
    page = (CHECKOUT / "docs" / "regularization.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("|")][2:]
    assert rows == list(VARIANTS)


def test_main_prints_the_table_and_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole program on one epoch with one seed and the smallest network."""
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(regularization, "WIDTHS", (4,))
    monkeypatch.setattr(regularization, "EPOCHS", 8)
    monkeypatch.setattr(regularization.measure, "__defaults__", ((0,),))
    regularization.main(["--out", str(tmp_path / "p.png")])
    out = capsys.readouterr().out
    assert "Training: L2 + dropout + batch norm" in out
    assert "validation" in out
    assert (tmp_path / "p.png").is_file()


@pytest.mark.slow
def test_regularization_shrinks_the_gap_and_raises_validation_by_two_points() -> None:
    """Of one seed: 5.2 points, and the gap shrinks from 14 to 9."""
    none, regularized = (measure(VARIANTS[name], (1,)) for name in ("none", "L2 + dropout + batch norm"))
    print(f"validation {none.validation} → {regularized.validation}, gap {none.gap:.4f} → {regularized.gap:.4f}")
    np.testing.assert_array_equal(none.training, 1.0)
    assert none.gap > 0.08
    assert regularized.gap < none.gap - 0.015
    assert np.mean(regularized.validation - none.validation) >= 0.02
