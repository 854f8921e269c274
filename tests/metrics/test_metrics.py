"""Metrics against scikit-learn's definitions, and what they say about input that does not fit."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import given, settings
from hypothesis import strategies as st

import fcnn_gpu as fcnn
from fcnn_gpu import metrics
from fcnn_gpu._types import HostArray
from fcnn_gpu.metrics import METRICS

N, K = 200, 6
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, K, N)
SCORES = RNG.dirichlet(np.ones(K), N)
SCORES[np.arange(0, N, 2), LABELS[::2]] += 1  # every second one right
SCORES /= SCORES.sum(axis=1, keepdims=True)
PREDICTED = SCORES.argmax(axis=1)
BINARY = (LABELS > 2).astype(np.int64)
P1 = np.clip(0.4 * BINARY + 0.6 * RNG.random(N), 0, 1)
MULTI = RNG.integers(0, 2, (N, 4))
MULTI_SCORES = np.clip(0.4 * MULTI + 0.6 * RNG.random((N, 4)), 0, 1)
VALUES = RNG.normal(size=(N, 3))
GUESSES = VALUES + 0.3 * RNG.normal(size=(N, 3))

WEIGHTS = RNG.integers(0, 4, N) / 2

CLASS_METRICS = [name for name in METRICS if METRICS[name].task == "classification"]
VALUE_METRICS = [name for name in METRICS if METRICS[name].task == "regression"]
AVERAGED = {
    "precision": (metrics.Precision, reference.precision_score),
    "recall": (metrics.Recall, reference.recall_score),
    "f1": (metrics.F1, reference.f1_score),
}


def one_hot(labels: HostArray, n_classes: int = K) -> HostArray:
    return np.eye(n_classes)[labels]


def guesses_for(metric: metrics.Metric) -> HostArray:
    """Predictions of VALUES: of each, or the bounds of an interval around it."""
    if isinstance(metric, metrics.Coverage):
        return np.stack([GUESSES - 0.4, GUESSES + 0.4], axis=2).reshape(N, -1)
    return GUESSES


# values


@pytest.mark.parametrize("targets", [LABELS, LABELS[:, np.newaxis], LABELS.astype(float), one_hot(LABELS)])
def test_multiclass_targets_of_every_form(targets: HostArray) -> None:
    accuracy = metrics.Accuracy().for_task("classification")
    assert accuracy(targets, SCORES) == reference.accuracy_score(LABELS, PREDICTED)
    for name, (metric, expected) in AVERAGED.items():
        value = METRICS.resolve(name).for_task("classification")(targets, SCORES)
        assert (
            value
            == metric(multilabel=False)(targets, SCORES)
            == pytest.approx(expected(LABELS, PREDICTED, average="macro"))
        )
        assert type(value) is float


def test_a_trainer_tells_metrics_that_are_set_later() -> None:
    model = fcnn.Sequential([fcnn.Dense(3)], n_in=2, seed=0, backend="numpy")
    trainer = fcnn.Trainer(model, "binary_cross_entropy")
    trainer.metrics = ["f1", metrics.Accuracy()]
    assert [metric.multilabel for metric in trainer.metrics] == [True, True]  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match=r"expects a list, got 'f1'. Write metrics=\['f1'\]"):
        trainer.metrics = "f1"
    with pytest.raises(ValueError, match="is for one class per sample, not several labels"):
        trainer.metrics = [metrics.TopKAccuracy(2)]
    assert len(trainer.metrics) == 2


def test_soft_targets_count_as_their_largest_class() -> None:
    smooth = 0.9 * one_hot(LABELS) + 0.1 / K
    accuracy = metrics.Accuracy(multilabel=False)
    assert accuracy(smooth.astype(np.float32), SCORES) == reference.accuracy_score(LABELS, PREDICTED)


@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
@pytest.mark.parametrize("name", AVERAGED)
def test_averages_multiclass_and_multilabel(name: str, average: metrics.Average) -> None:
    metric, expected = AVERAGED[name]
    assert metric(average=average)(LABELS, SCORES) == pytest.approx(expected(LABELS, PREDICTED, average=average))
    decisions = MULTI_SCORES > 0.5
    value = metric(average=average).for_task("multilabel")(MULTI, MULTI_SCORES)
    assert value == pytest.approx(expected(MULTI, decisions, average=average))


@pytest.mark.parametrize("scores", [P1, P1[:, np.newaxis], np.stack([1 - P1, P1], axis=1)])
def test_binary_predictions_in_one_or_two_columns(scores: HostArray) -> None:
    predicted = P1 > 0.5
    assert 0.5 < reference.accuracy_score(BINARY, predicted) < 1
    assert metrics.Accuracy()(BINARY, scores) == reference.accuracy_score(BINARY, predicted)
    assert metrics.TopKAccuracy(k=1)(BINARY, scores) == reference.accuracy_score(BINARY, predicted)
    assert metrics.TopKAccuracy(k=2)(BINARY, scores) == 1
    for metric, expected in AVERAGED.values():
        assert metric(average="binary")(BINARY, scores) == pytest.approx(expected(BINARY, predicted))


def test_multilabel_accuracy_asks_for_every_label() -> None:
    expected = reference.accuracy_score(MULTI, MULTI_SCORES > 0.5)
    assert 0 < expected < 1
    assert metrics.Accuracy().for_task("multilabel")(MULTI, MULTI_SCORES) == expected


@pytest.mark.parametrize("row", [[], [[1, 1]]], ids=["every row has one label", "one row has two"])
def test_what_a_matrix_means_is_not_read_off_its_values(row: list[list[int]]) -> None:
    targets, scores = np.array([[1, 0], [0, 1], *row]), np.array([[0.9, 0.8], [0.1, 0.7], *row])
    right = (1 + len(row)) / (2 + len(row))  # the first sample also gets label 1
    assert metrics.Accuracy(multilabel=True)(targets, scores) == pytest.approx(right)
    for name in ("accuracy", *AVERAGED):
        with pytest.raises(ValueError, match=f"{name} cannot know what a matrix of targets means"):
            METRICS.resolve(name)(targets, scores)
    if not row:
        assert metrics.Accuracy(multilabel=False)(targets, scores) == 1  # the largest of two


def test_a_metric_that_was_told_keeps_to_it() -> None:
    told = metrics.F1("micro", multilabel=False)
    assert told.for_task("multilabel") is told
    assert metrics.F1("micro").for_task("multilabel") == metrics.F1("micro", multilabel=True)
    assert metrics.R2().for_task("regression") == metrics.R2()


@pytest.mark.parametrize("name", [name for name in METRICS if METRICS[name].task == "regression"])
@pytest.mark.parametrize(
    ("loss", "n_out"), [("cross_entropy", 2), ("binary_cross_entropy", 1), ("binary_cross_entropy", 2)]
)
def test_a_metric_of_values_is_refused_for_classes(name: str, loss: str, n_out: int) -> None:
    model = fcnn.Sequential([fcnn.Dense(n_out)], 2, seed=0, backend="numpy")
    what = "several labels" if loss[0] == "b" and n_out == 2 else "classes"
    with pytest.raises(ValueError, match=f"^{name} measures predicted values, and the loss's targets are {what}"):
        fcnn.Trainer(model, loss, metrics=[name])


def test_a_metric_of_several_quantiles_needs_as_many_outputs_of_a_target() -> None:
    model = fcnn.Sequential([fcnn.Dense(6)], 2, seed=0, backend="numpy")
    quantile = fcnn.Quantile([0.1, 0.5, 0.9])
    with pytest.raises(
        ValueError, match=r"coverage compares each target with 2 predicted quantiles, .* mse has 1 output"
    ):
        fcnn.Trainer(model, "mse", metrics=["coverage"])
    for metric in (metrics.Coverage(2), metrics.Pinball([0.1, 0.9])):
        with pytest.raises(ValueError, match="with 2 predicted quantiles, and the loss quantile has 3 outputs"):
            fcnn.Trainer(model, quantile, metrics=[metric])
    assert fcnn.Trainer(model, quantile, metrics=[metrics.Coverage(3), metrics.Pinball([0.1, 0.5, 0.9])])


@pytest.mark.parametrize("n", [1, 7])
def test_one_label_is_a_column(n: int) -> None:
    """Of a single label every mean over the labels is that label's number, also where there is one sample."""
    targets, scores = BINARY[:n, np.newaxis], P1[:n, np.newaxis]
    predicted = P1[:n] > 0.5
    assert metrics.Accuracy(multilabel=True)(targets, scores) == reference.accuracy_score(BINARY[:n], predicted)
    for metric, expected in AVERAGED.values():
        value = metric(multilabel=True)(targets, scores)
        assert value == expected(BINARY[:n], predicted, average="binary", zero_division=0)


def test_metrics_of_one_class_refuse_several_labels() -> None:
    model = fcnn.Sequential([fcnn.Dense(3)], n_in=2, seed=0, backend="numpy")
    for measure, message in (("top_2_accuracy", "one class per sample"), (metrics.F1("binary"), "two classes")):
        with pytest.raises(ValueError, match=message):
            fcnn.Trainer(model, "binary_cross_entropy", metrics=[measure])


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 30), n_labels=st.integers(2, 4), single=st.booleans())
def test_a_trainer_tells_its_metrics_what_targets_mean(seed: int, n: int, n_labels: int, single: bool) -> None:
    """Whatever the labels happen to be, in memory and in chunks: subset accuracy for independent labels."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3)).astype(np.float32)
    y = np.eye(n_labels)[rng.integers(0, n_labels, n)] if single else rng.integers(0, 2, (n, n_labels))
    model = fcnn.Sequential([fcnn.Dense(n_labels)], n_in=3, seed=0, backend="numpy")
    trainer = fcnn.Trainer(model, "binary_cross_entropy", fcnn.SGD(0.0), metrics=["accuracy", "f1"])
    history = trainer.fit(X, y, epochs=1, batch_size=8, validation_data=(X, y), progress=False)
    expected = reference.accuracy_score(y, model.predict(X) > 0.5)
    f1 = reference.f1_score(y, model.predict(X) > 0.5, average="macro", zero_division=0)
    found = trainer.evaluate(X, y)
    streamed = trainer.evaluate(fcnn.datasets.open_arrays(X, y))
    for name, value in (("accuracy", expected), ("f1", f1)):
        measured = history[name][0], history[f"val_{name}"][0], found[name], streamed[name]
        assert measured == pytest.approx([value] * 4, abs=1e-12), name


@pytest.mark.parametrize("k", [1, 2, 5, 6])
def test_top_k(k: int) -> None:
    in_top = np.argsort(SCORES, axis=1)[:, -k:] == LABELS[:, np.newaxis]
    assert metrics.TopKAccuracy(k=k)(LABELS, SCORES) == pytest.approx(in_top.any(axis=1).mean())
    assert METRICS.resolve(f"top_{k}_accuracy")(one_hot(LABELS), SCORES) == pytest.approx(in_top.any(axis=1).mean())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("r2", reference.r2_score),
        ("mae", reference.mean_absolute_error),
        ("mse", reference.mean_squared_error),
        ("rmse", reference.root_mean_squared_error),
    ],
)
def test_regression_metrics(name: str, expected: Any) -> None:
    metric = METRICS.resolve(name)
    assert metric(VALUES, GUESSES) == pytest.approx(expected(VALUES, GUESSES))
    assert metric(VALUES[:, 0], GUESSES[:, :1]) == pytest.approx(expected(VALUES[:, 0], GUESSES[:, 0]))
    single = metric(VALUES.astype(np.float32), GUESSES.astype(np.float32))
    assert single == pytest.approx(expected(VALUES, GUESSES), rel=1e-5)


def test_regression_metrics_by_hand() -> None:
    y, guess = np.array([1.0, 2.0, 3.0]), np.array([[1.0], [2.0], [6.0]])
    assert metrics.MeanAbsoluteError()(y, guess) == 1
    assert metrics.MeanSquaredError()(y, guess) == 3
    assert metrics.RootMeanSquaredError()(y, guess) == pytest.approx(3**0.5)
    assert metrics.R2()(y, guess) == pytest.approx(1 - 9 / 2)
    assert metrics.R2()(np.ones(3), guess) == 0
    assert metrics.R2()(np.ones(3), np.ones(3)) == 1
    columns = np.column_stack([y, np.ones(3), np.ones(3)])  # one that varies, constant ones met and missed
    guesses = np.column_stack([guess[:, 0], np.ones(3), y])
    assert metrics.R2()(columns, guesses) == pytest.approx((1 - 9 / 2 + 1 + 0) / 3)


def test_classes_that_never_occur_give_no_warning() -> None:
    scores = one_hot(np.zeros(4, dtype=int), 3)
    assert metrics.Precision()(np.array([0, 1, 0, 1]), scores) == 0.25  # class 0: ½, class 1 is never predicted: 0


# the registry


@pytest.mark.parametrize("name", list(METRICS))
def test_every_metric_resolves_from_name_class_instance_and_config(name: str) -> None:
    metric = METRICS.resolve(name)
    assert metric == METRICS.resolve(METRICS[name]) == METRICS.resolve(METRICS.config(metric))
    assert METRICS.resolve(metric) is metric
    assert metric.name == name
    assert isinstance(metric.greater_is_better, bool)
    json.dumps(METRICS.config(metric))


@pytest.mark.parametrize("name", list(METRICS))
def test_greater_is_better_says_the_direction(name: str) -> None:
    metric = METRICS.resolve(name)
    if metric.task == "regression":
        better, worse = metric(VALUES, guesses_for(metric)), metric(VALUES, guesses_for(metric) * 3 + 5)
    else:
        better, worse = metric(LABELS, one_hot(LABELS)), metric(LABELS, one_hot((LABELS + 1) % K))
        worse = metric(LABELS, SCORES[::-1]) if metric.name == "top_k_accuracy" else worse
    assert (better > worse) == metric.greater_is_better


def test_labels_tell_configurations_apart() -> None:
    assert METRICS.resolve("top_3_accuracy").label == "top_3_accuracy"
    assert METRICS.resolve("top_3_accuracy") == metrics.TopKAccuracy(k=3)
    assert METRICS.resolve("top_k_accuracy").label == "top_5_accuracy"
    assert metrics.Precision().label == "precision"
    assert metrics.Precision(average="micro").label == "precision_micro"
    assert metrics.Accuracy().label == "accuracy"


def test_bad_arguments_are_refused_when_the_metric_is_made() -> None:
    with pytest.raises(ValueError, match=r"Unknown metric 'acuracy'. Did you mean 'accuracy'\?"):
        METRICS.resolve("acuracy")
    with pytest.raises(ValueError, match=r"TopKAccuracy\(k\) expects an integer of at least 1, got 0"):
        METRICS.resolve("top_0_accuracy")
    with pytest.raises(TypeError, match=r"TopKAccuracy\(k\)"):
        metrics.TopKAccuracy(k=2.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"F1\(average\) does not know 'marco'. Did you mean 'macro'"):
        metrics.F1(average="marco")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="multilabel"):
        metrics.Accuracy(multilabel="yes")  # type: ignore[arg-type]
    with pytest.raises(NotImplementedError):
        metrics.Metric()(LABELS, SCORES)


@pytest.mark.parametrize("name", list(METRICS))
def test_a_score_is_a_number_of_python(name: str) -> None:
    """It is written to JSON, and compared: NumPy's True is not True."""
    metric: Any = METRICS.resolve(name)
    given = (LABELS, SCORES) if name in CLASS_METRICS else (VALUES, guesses_for(metric))
    assert type(metric(*given)) is float
    assert type(metric(*given, WEIGHTS)) is float


def test_scikit_learn_is_imported_only_when_a_metric_needs_it() -> None:
    """Its import takes a second: longer than many a fit."""
    code = """
import sys, numpy as np, fcnn_gpu as fcnn, fcnn_gpu.metrics, fcnn_gpu.datasets
X, y = np.ones((8, 3)), np.arange(8) % 2
for loss, n_out, metrics in (("mse", 1, ["r2", "mae", "mse", "rmse"]), ("cross_entropy", 2, ["accuracy"])):
    model = fcnn.Sequential([fcnn.Dense(n_out)], n_in=3, seed=0, backend="numpy")
    trainer = fcnn.Trainer(model, loss=loss, metrics=metrics)
    trainer.fit(X, y, epochs=1, validation_data=(X, y), progress=False)
    assert set(metrics) < set(trainer.evaluate(X, y))
    assert "sklearn" not in sys.modules, loss
fcnn_gpu.metrics.F1()(y, np.ones((8, 1)))
assert "sklearn" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# bad input

NAN = np.where(np.arange(N)[:, np.newaxis] == 3, np.nan, SCORES)


@pytest.mark.parametrize("name", CLASS_METRICS)
@pytest.mark.parametrize(
    ("y_true", "y_pred", "fault"),
    [
        (LABELS[:-1], SCORES, "got 199 targets for 200 predictions"),
        (LABELS[:0], SCORES[:0], r"expects predictions of shape \(n_samples, n_outputs\), got \(0, 6\)"),
        (LABELS, SCORES[..., np.newaxis], r"expects predictions .* got \(200, 6, 1\)"),
        (LABELS.reshape(N, 1, 1), SCORES, r"expects targets .* got \(200, 1, 1\)"),
        (one_hot(LABELS)[:, :5], SCORES, "targets of width 5 for predictions of 6 columns"),
        (LABELS + 1, SCORES, "expects class indices 0 to 5, got 6"),
        (LABELS - 1, SCORES, "expects class indices 0 to 5, got -1"),
        (LABELS, P1, "expects class indices 0 to 1, got"),
        (LABELS + 0.5, SCORES, r"expects whole class indices 0 to 5, got \d.5. Is this a regression\?"),
        (one_hot(LABELS) * 2, SCORES, "rows sum to 1"),
        (LABELS * np.nan, SCORES, "a target that is not finite"),
        (LABELS, NAN, "not finite, first in sample 3. Did training diverge"),
    ],
)
def test_classification_metrics_refuse_what_does_not_fit(
    name: str, y_true: HostArray, y_pred: HostArray, fault: str
) -> None:
    with pytest.raises(ValueError, match=fault):
        METRICS.resolve(name).for_task("classification")(y_true, y_pred)


@pytest.mark.parametrize("name", VALUE_METRICS)
def test_regression_metrics_refuse_what_does_not_fit(name: str) -> None:
    metric = METRICS.resolve(name)
    with pytest.raises(ValueError, match=f"{name} got targets of width 2 for predictions of 3"):
        metric(VALUES[:, :2], GUESSES)
    with pytest.raises(ValueError, match=f"{name} got 5 targets for 200"):
        metric(VALUES[:5], GUESSES)
    with pytest.raises(ValueError, match="Did training diverge"):
        metric(VALUES, GUESSES * np.inf)
    with pytest.raises(TypeError, match=f"{name} expects predictions of real numbers, got complex128"):
        metric(VALUES, GUESSES + 1j)
    with pytest.raises(TypeError, match=f"{name} expects targets of real numbers, got <U"):
        metric(VALUES.astype(str), GUESSES)


def test_metrics_refuse_what_has_no_meaning() -> None:
    with pytest.raises(ValueError, match="r2 needs at least 2 samples"):
        metrics.R2()(VALUES[:1], GUESSES[:1])
    with pytest.raises(ValueError, match="top_7_accuracy needs at least 7 classes, the predictions have 6"):
        metrics.TopKAccuracy(k=7)(LABELS, SCORES)
    with pytest.raises(ValueError, match="f1_binary is for two classes, got 6 classes"):
        metrics.F1(average="binary")(LABELS, SCORES)
    with pytest.raises(ValueError, match="f1_binary is for two classes, got several labels"):
        metrics.F1(average="binary", multilabel=True)(MULTI[:, :2], MULTI_SCORES[:, :2])
    with pytest.raises(ValueError, match="multilabel=True expects targets"):
        metrics.Accuracy(multilabel=True)(LABELS, SCORES)
    with pytest.raises(ValueError, match="multilabel=True expects targets of zeros and ones"):
        metrics.Accuracy(multilabel=True)(SCORES, SCORES)
    with pytest.raises(ValueError, match="rows sum to 1"):
        metrics.TopKAccuracy(k=2)(MULTI, MULTI_SCORES)


# reports


def test_confusion_matrix_has_a_row_per_true_class() -> None:
    matrix = metrics.confusion_matrix(LABELS, PREDICTED, K)
    expected = np.zeros((K, K), dtype=np.int64)
    np.add.at(expected, (LABELS, PREDICTED), 1)
    np.testing.assert_array_equal(matrix, expected)
    assert not np.array_equal(matrix, matrix.T)  # so that swapped axes would show
    larger = metrics.confusion_matrix(LABELS, PREDICTED, K + 2)
    assert larger.shape == (K + 2, K + 2)
    assert larger[K:].sum() == larger[:, K:].sum() == 0


def test_classification_report_is_scikit_learns_as_plain_data() -> None:
    names = [f"class {i}" for i in range(K + 1)]  # the last has no samples
    report = metrics.classification_report(LABELS, PREDICTED, K + 1, names)
    expected = reference.classification_report(
        LABELS, PREDICTED, labels=np.arange(K + 1), target_names=names, output_dict=True, zero_division=0
    )
    assert report["accuracy"] == np.mean(LABELS == PREDICTED)
    assert [row["name"] for row in report["classes"]] == names
    rows = [*report["classes"], report["macro"], report["weighted"]]
    for row, name in zip(rows, [*names, "macro avg", "weighted avg"], strict=True):
        want = expected[name]
        assert (row["precision"], row["recall"], row["f1"], row["support"]) == pytest.approx(
            (want["precision"], want["recall"], want["f1-score"], want["support"])
        )
    assert json.loads(json.dumps(report)) == report


def test_reports_refuse_what_does_not_fit() -> None:
    for function in (metrics.confusion_matrix, metrics.classification_report):
        name = function.__name__
        with pytest.raises(ValueError, match=f"{name} got 200 targets for 199 predictions"):
            function(LABELS, PREDICTED[:-1], K)
        with pytest.raises(ValueError, match=f"{name} expects y_pred as class indices .* got float64"):
            function(LABELS, SCORES, K)
        with pytest.raises(ValueError, match=f"{name} expects y_true as class indices"):
            function(LABELS[:0], PREDICTED[:0], K)
        with pytest.raises(ValueError, match="expects class indices 0 to 4, got 5"):
            function(LABELS, PREDICTED, K - 1)
        with pytest.raises(ValueError, match="y_pred that is not finite"):
            function(LABELS, PREDICTED * np.nan, K)
        with pytest.raises(ValueError, match="n_classes"):
            function(LABELS, PREDICTED, 1)
    with pytest.raises(ValueError, match="expects 6 class_names, got 2"):
        metrics.classification_report(LABELS, PREDICTED, K, ["a", "b"])


def test_predicted_classes() -> None:
    np.testing.assert_array_equal(metrics.predicted_classes(SCORES), PREDICTED)
    np.testing.assert_array_equal(metrics.predicted_classes(P1), P1 > 0.5)
    with pytest.raises(ValueError, match="predicted_classes expects predictions"):
        metrics.predicted_classes(SCORES[:0])


@pytest.mark.parametrize(
    ("measures", "loss", "message"),
    [
        (["top_5_accuracy"], "cross_entropy", "needs at least 5 classes, the predictions have 3"),
        ([metrics.F1("binary")], "cross_entropy", "f1_binary is for two classes, got 3 classes"),
        (["accuracy"], "mse", "expects class targets whose rows sum to 1"),
        (["accuracy", "accuracy"], "cross_entropy", "Two metrics are called 'accuracy'"),
    ],
)
def test_a_metric_that_cannot_be_computed_is_refused_before_anything_is_trained(
    measures: list[Any], loss: str, message: str
) -> None:
    model = fcnn.Sequential([fcnn.Dense(3)], n_in=2, seed=0, backend="numpy")
    weights = model.flat.values.copy()
    X = np.random.default_rng(0).normal(size=(9, 2))
    y = np.arange(9) % 3 if loss == "cross_entropy" else np.hstack([X, X[:, :1]])
    with pytest.raises(ValueError, match=message):
        fcnn.Trainer(model, loss, metrics=measures).fit(X, y, epochs=1, progress=False)
    np.testing.assert_array_equal(model.flat.values, weights)


@pytest.mark.parametrize("metric", [METRICS.resolve(name) for name in METRICS], ids=lambda metric: metric.label)
@pytest.mark.parametrize("one_hot", [False, True])
def test_only_what_reads_ranks_alone_is_the_same_for_logits(metric: Any, one_hot: bool) -> None:
    """Trainer spares such metrics the softmax; `reads_ranks_alone` must not be claimed by any other."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(200, 7)) * 3
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = rng.integers(0, 7, 200)
    truth = np.eye(7)[labels] if one_hot else labels
    if metric.task == "regression":
        assert not metric.reads_ranks_alone
    else:
        metric = metric.for_task("classification")
        assert metric(truth, probabilities) == metric(truth, logits) or not metric.reads_ranks_alone


def test_accuracy_of_several_labels_reads_probabilities() -> None:
    assert METRICS.resolve("accuracy").reads_ranks_alone
    assert not metrics.Accuracy(multilabel=True).reads_ranks_alone


@pytest.mark.parametrize("base", [metrics.Accuracy, metrics.TopKAccuracy])
def test_a_metric_of_ones_own_gets_probabilities_whatever_it_derives_from(base: type[Any]) -> None:
    class Confidence(base):
        """The mean of the largest probability."""

        def __call__(self, y_true: HostArray, y_pred: HostArray) -> float:
            return float(y_pred.max(axis=1).mean())

    X, y = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32), np.arange(40) % 6
    trainer = fcnn.Trainer(fcnn.Sequential([fcnn.Dense(6)], n_in=3, seed=0), metrics=[Confidence()])
    confidence = trainer.evaluate(X, y)[trainer.metrics[0].label]
    assert confidence == pytest.approx(trainer.predict(X).max(axis=1).mean(), rel=1e-6)
