"""Every metric against scikit-learn's: ties, weights, one class alone, and what a run makes of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import UndefinedMetricWarning

import fcnn_gpu as fcnn
from fcnn_gpu import metrics
from fcnn_gpu._types import HostArray
from fcnn_gpu.cli._named import build_metric
from fcnn_gpu.metrics import METRICS

Reference = Callable[..., Any]
"""f(y, predictions (n, n_outputs), sample_weight)."""


def _decided(function: Reference, **options: Any) -> Reference:
    return lambda y, P, w: function(y, P.argmax(axis=1), sample_weight=w, **options)


def _ranked(function: Reference, **options: Any) -> Reference:
    """Of two classes the second alone; of more each against all others."""

    def measured(y: HostArray, P: HostArray, w: HostArray | None) -> Any:
        if P.shape[1] == 2:
            return function(y, P[:, 1], sample_weight=w)
        return function(np.eye(P.shape[1])[y], P, sample_weight=w, **options)

    return measured


def _brier(y: HostArray, P: HostArray, w: HostArray | None) -> float:
    """scikit-learn has that of more than two classes since 1.7."""
    if P.shape[1] == 2:
        return float(reference.brier_score_loss(y, P[:, 1], sample_weight=w, pos_label=1))
    return float(np.average(((P - np.eye(P.shape[1])[y]) ** 2).sum(axis=1), weights=w))


OF_CLASSES: dict[str, tuple[metrics.Metric, Reference]] = {
    "accuracy": (metrics.Accuracy(), _decided(reference.accuracy_score)),
    "balanced": (metrics.BalancedAccuracy(), _decided(reference.balanced_accuracy_score)),
    "mcc": (metrics.MatthewsCorrelation(), _decided(reference.matthews_corrcoef)),
    "log_loss": (
        metrics.LogLoss(),
        lambda y, P, w: reference.log_loss(y, P, sample_weight=w, labels=range(P.shape[1])),
    ),
    "brier": (metrics.BrierScore(), _brier),
    "top_2": (
        metrics.TopKAccuracy(2),
        lambda y, P, w: (
            1.0
            if P.shape[1] == 2
            else reference.top_k_accuracy_score(y, P, k=2, labels=range(P.shape[1]), sample_weight=w)
        ),
    ),
}
for _average in ("macro", "weighted", "micro"):
    for _kind, _function in (
        (metrics.Precision, reference.precision_score),
        (metrics.Recall, reference.recall_score),
        (metrics.F1, reference.f1_score),
    ):
        OF_CLASSES[f"{_kind.name}_{_average}"] = (
            _kind(average=_average),
            _decided(_function, average=_average, zero_division=0),
        )
    OF_CLASSES[f"f_half_{_average}"] = (
        metrics.FBeta(average=_average, beta=0.5),
        _decided(reference.fbeta_score, beta=0.5, average=_average, zero_division=0),
    )
    OF_CLASSES[f"auc_{_average}"] = (
        metrics.RocAUC(average=_average),
        _ranked(reference.roc_auc_score, average=_average),
    )
    OF_CLASSES[f"ap_{_average}"] = (
        metrics.AveragePrecision(average=_average),
        _ranked(reference.average_precision_score, average=_average),
    )

OF_VALUES: dict[str, tuple[metrics.Metric, Reference]] = {
    "r2": (metrics.R2(), reference.r2_score),
    "explained_variance": (metrics.ExplainedVariance(), reference.explained_variance_score),
    "mae": (metrics.MeanAbsoluteError(), reference.mean_absolute_error),
    "mse": (metrics.MeanSquaredError(), reference.mean_squared_error),
    "rmse": (metrics.RootMeanSquaredError(), reference.root_mean_squared_error),
    "median_ae": (metrics.MedianAbsoluteError(), reference.median_absolute_error),
    "mape": (metrics.MeanAbsolutePercentageError(), reference.mean_absolute_percentage_error),
    "pinball": (metrics.Pinball(), reference.mean_pinball_loss),
    "pinball_0.8": (
        metrics.Pinball(0.8),
        lambda y, P, sample_weight: reference.mean_pinball_loss(y, P, sample_weight=sample_weight, alpha=0.8),
    ),
}


def draw(seed: int, n: int, n_classes: int) -> tuple[HostArray, HostArray, HostArray]:
    """Labels, which may leave classes out; probabilities with ties; and weights, some of them 0."""
    rng = np.random.default_rng(seed)
    y = rng.integers(rng.integers(0, n_classes), n_classes, n)
    P = rng.integers(0, 4, (n, n_classes)) + 0.5 * np.eye(n_classes)[rng.integers(0, n_classes, n)] + 0.01
    weights = rng.integers(0, 3, n) / 2
    weights[rng.integers(0, n)] = 1.0
    return y, P / P.sum(axis=1, keepdims=True), weights


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 30), n_classes=st.integers(2, 4), weighted=st.booleans())
def test_metrics_of_classes(seed: int, n: int, n_classes: int, weighted: bool) -> None:
    y, P, weights = draw(seed, n, n_classes)
    w = weights if weighted else None
    for name, (metric, expected) in OF_CLASSES.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of classes that are not there
            warnings.simplefilter("ignore", UndefinedMetricWarning)
            want = expected(y, P, w)
        if name == "mcc" and w is not None and (len({*y[w > 0]}) < 2 or len({*P.argmax(1)[w > 0]}) < 2):
            want = 0.0  # of one class alone: rounding may make it anything there
        assert metric(y, P, w) == pytest.approx(want, abs=1e-12, nan_ok=True), name
        if n_classes == 2 and metric.name != "top_k_accuracy":  # of equal columns the first is taken, of ½ neither
            assert metric(y, P[:, 1:], w) == pytest.approx(metric(y, P, w), abs=1e-12, nan_ok=True), name


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 30), n_outputs=st.integers(1, 3), weighted=st.booleans())
def test_metrics_of_values(seed: int, n: int, n_outputs: int, weighted: bool) -> None:
    rng = np.random.default_rng(seed)
    y = rng.integers(-3, 4, (n, n_outputs)) / 2
    guess = y + rng.integers(-2, 3, (n, n_outputs)) / 2 * rng.integers(0, 2)
    w = draw(seed, n, 2)[2] if weighted else None
    for name, (metric, expected) in OF_VALUES.items():
        assert metric(y, guess, w) == pytest.approx(expected(y, guess, sample_weight=w), rel=1e-9, abs=1e-12), name
    e = np.clip(np.abs(y - guess), 0, 20)
    log_cosh = np.average(np.log(np.cosh(e)), axis=0, weights=w).mean()
    assert metrics.LogCoshError()(y, guess, w) == pytest.approx(log_cosh, abs=1e-12)
    assert metrics.LogCoshError()(np.zeros(2), np.array([1e300, -1e300])) == pytest.approx(1e300)


@pytest.mark.parametrize("average", ["macro", "weighted", "micro"])
@pytest.mark.parametrize("weighted", [False, True])
def test_several_labels(average: Any, weighted: bool) -> None:
    rng = np.random.default_rng(0)
    Y, P = rng.integers(0, 2, (60, 3)), rng.integers(1, 10, (60, 3)) / 10
    w = rng.integers(0, 3, 60) / 2 if weighted else None
    for kind, function in (
        (metrics.RocAUC, reference.roc_auc_score),
        (metrics.AveragePrecision, reference.average_precision_score),
    ):
        measured = kind(average=average).for_task("multilabel")(Y, P, w)
        assert measured == pytest.approx(function(Y, P, average=average, sample_weight=w))
    of_probabilities: list[tuple[metrics.Metric, Any]] = [
        (metrics.LogLoss(multilabel=True), reference.log_loss),
        (metrics.BrierScore(multilabel=True), reference.brier_score_loss),
    ]
    for metric, function in of_probabilities:
        of_each = [function(Y[:, k], P[:, k], sample_weight=w) for k in range(3)]
        assert metric(Y, P, w) == pytest.approx(np.mean(of_each))
    decided = reference.f1_score(Y, P > 0.3, average=average, sample_weight=w)
    assert metrics.F1(average=average, multilabel=True, threshold=0.3)(Y, P, w) == pytest.approx(decided)


def test_thresholds() -> None:
    y, P, w = draw(3, 50, 2)
    y[:25] = 0
    later = (P[:, 1] > 0.3).astype(int)
    for metric, function in (
        (metrics.Accuracy(threshold=0.3), reference.accuracy_score),
        (metrics.BalancedAccuracy(threshold=0.3), reference.balanced_accuracy_score),
        (metrics.MatthewsCorrelation(threshold=0.3), reference.matthews_corrcoef),
        (metrics.F1("binary", threshold=0.3), reference.f1_score),
    ):
        assert metric(y, P, w) == metric(y, P[:, 1], w) == pytest.approx(function(y, later, sample_weight=w))
        assert metric.label.endswith("_at_0.3")
        assert not metric.reads_ranks_alone
    with pytest.raises(ValueError, match=r"accuracy_at_0.3: a threshold is for two classes, or for labels each; got 3"):
        metrics.Accuracy(threshold=0.3)(*draw(0, 9, 3)[:2])
    with pytest.raises(ValueError, match=r"F1\(threshold\) expects a finite number in"):
        metrics.F1(threshold=1.5)
    assert METRICS.config(metrics.Accuracy()) == {"name": "accuracy", "multilabel": None}  # as older releases know it
    assert METRICS.build(METRICS.config(metrics.F1(threshold=0.2))) == metrics.F1(threshold=0.2)


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_calibration_error_bin_by_bin(bins: int) -> None:
    y, P, w = draw(5, 300, 3)
    confidence, right = P.max(axis=1), P.argmax(axis=1) == y
    expected = 0.0
    for m in range(bins):
        within = (confidence > m / bins) & (confidence <= (m + 1) / bins)
        if w[within].any():
            gap = np.average(right[within], weights=w[within]) - np.average(confidence[within], weights=w[within])
            expected += w[within].sum() / w.sum() * abs(gap)
    assert metrics.CalibrationError(bins)(y, P, w) == pytest.approx(expected)
    assert metrics.CalibrationError(bins)(y > 1, P[:, 0], w) == pytest.approx(
        metrics.CalibrationError(bins)(y > 1, np.stack([1 - P[:, 0], P[:, 0]], axis=1), w)
    )


def test_quantiles_side_by_side() -> None:
    rng = np.random.default_rng(0)
    y, P, w = rng.normal(size=(40, 2)), rng.normal(size=(40, 6)), rng.integers(0, 3, 40)
    levels = (0.1, 0.5, 0.8)
    losses = [
        reference.mean_pinball_loss(y[:, t], P[:, 3 * t + k], alpha=q, sample_weight=w)
        for t in range(2)
        for k, q in enumerate(levels)
    ]
    assert metrics.Pinball(levels)(y, P, w) == pytest.approx(np.mean(losses))
    assert metrics.Pinball(levels)(np.repeat(y, 3, axis=1), P, w) == pytest.approx(np.mean(losses))
    loss = fcnn.losses.Quantile(list(levels)).forward(P, y)
    assert metrics.Pinball(levels)(y, P) == pytest.approx(float(loss))
    sorted_ = np.sort(P.reshape(40, 2, 3), axis=2)
    within = (sorted_[..., 0] <= y) & (y <= sorted_[..., 2])
    assert metrics.Coverage(3)(y, P, w) == pytest.approx(np.average(within.mean(axis=1), weights=w))
    model = fcnn.Sequential([fcnn.Dense(2)], n_in=1, seed=0, backend="numpy")
    trainer = fcnn.Trainer(model, fcnn.losses.Quantile([0.1, 0.9]), metrics=["coverage", metrics.Pinball([0.1, 0.9])])
    result = trainer.evaluate(y[:, :1], y[:, 1])
    assert result["pinball"] == pytest.approx(result["loss"], rel=1e-5)
    assert 0 <= result["coverage"] <= 1
    for bad in ([], 0.0, [0.5, 1.0], "0.5"):
        with pytest.raises((ValueError, TypeError), match=r"Pinball\(quantiles\)"):
            metrics.Pinball(bad)  # type: ignore[arg-type]


def test_names_and_labels() -> None:
    for text, expected in (
        ("f2", metrics.FBeta(beta=2)),
        ("f0.5", metrics.FBeta(beta=0.5)),
        ("f1", metrics.F1()),
        ("f1_weighted", metrics.F1("weighted")),
        ("roc_auc_weighted", metrics.RocAUC(average="weighted")),
        ("auc", metrics.RocAUC()),
    ):
        assert METRICS.resolve(text) == build_metric("--metric", text) == expected
    assert build_metric("--metric", "f_beta:beta=3,threshold=0.2").label == "f3_at_0.2"
    assert metrics.FBeta(average="micro", beta=2).label == "f2_micro"
    for metric in (metrics.FBeta(average="weighted", beta=0.5), metrics.RocAUC(average="micro"), metrics.F1("binary")):
        assert METRICS.resolve(metric.label) == metric
    with pytest.raises(ValueError, match=r"Unknown metric 'neg_log_loss'. Here it is called 'log_loss', not negated"):
        METRICS.resolve("neg_log_loss")
    with pytest.raises(ValueError, match="Unknown metric 'mse_weighted'"):
        METRICS.resolve("mse_weighted")


@pytest.mark.parametrize("weights", [np.ones(3), np.array([1, -1, 0, 0]), np.zeros(4), np.full(4, np.nan), ["a"] * 4])
def test_weights_that_do_not_fit_are_refused(weights: Any) -> None:
    for metric in (metrics.Accuracy(), metrics.RocAUC(), metrics.R2(), metrics.Pinball()):
        with pytest.raises(ValueError, match=f"{metric.label} expects (sample_weight as 4|weights that are)"):
            metric(np.array([0, 1, 1, 0]), np.array([0.1, 0.2, 0.7, 0.9]), np.asarray(weights))


# In a run


def halves(y_true: HostArray, y_pred: HostArray) -> float:
    return float(len(y_true) / 2)


def of_weights(y_true: HostArray, y_pred: HostArray, sample_weight: HostArray | None = None) -> float:
    return -1.0 if sample_weight is None else float(sample_weight.sum())


def _trained(metrics_: list[Any], **fit: Any) -> tuple[fcnn.Trainer, fcnn.training.History]:
    model = fcnn.Sequential([fcnn.Dense(3)], n_in=2, seed=0, backend="numpy")
    trainer = fcnn.Trainer(model, optimizer=fcnn.SGD(1e-30), metrics=metrics_)
    return trainer, trainer.fit(X, Y, epochs=1, batch_size=10, progress=False, **fit)


RNG = np.random.default_rng(0)
X, Y, W = RNG.normal(size=(40, 2)).astype("float32"), RNG.integers(0, 3, 40), RNG.integers(0, 3, 40) / 2
MEASURED = ["accuracy", "roc_auc", "f1"]


def test_a_run_counts_samples_by_their_weights() -> None:
    trainer, history = _trained(MEASURED, sample_weight=W, validation_data=(X, Y, W))
    P = trainer.predict(X)
    expected = {name: METRICS.resolve(name)(Y, P, W) for name in MEASURED}
    assert expected["accuracy"] != METRICS.resolve("accuracy")(Y, P)
    evaluated = trainer.evaluate(X, Y, W)
    for name, value in expected.items():
        assert (history[name][0], history[f"val_{name}"][0], evaluated[name]) == pytest.approx((value,) * 3), name


@pytest.mark.parametrize("names", [["accuracy"], MEASURED], ids=["added up", "kept"])
def test_streamed_samples_have_their_weights(names: list[str]) -> None:
    trainer, whole = _trained(names, sample_weight=W, validation_data=(X, Y, W))
    source = fcnn.datasets.open_arrays(X, Y, W)
    model = fcnn.Sequential([fcnn.Dense(3)], n_in=2, seed=0, backend="numpy")
    twin = fcnn.Trainer(model, optimizer=fcnn.SGD(1e-30), metrics=names)
    streamed = twin.fit(source, epochs=1, batch_size=10, progress=False, validation_data=source, shuffle_buffer=20)
    for name in names:
        assert streamed[name][0] == pytest.approx(whole[name][0])
        assert streamed[f"val_{name}"][0] == pytest.approx(whole[f"val_{name}"][0])
        assert twin.evaluate(source)[name] == pytest.approx(trainer.evaluate(X, Y, W)[name])


def test_where_no_held_out_sample_counts_nothing_is_measured() -> None:
    _, history = _trained(["accuracy"], sample_weight=W)
    assert "val_accuracy" not in history.records[0]
    assert np.isnan(metrics.measure(metrics.F1(), Y, np.eye(3)[Y], np.zeros(40)))


def test_functions_are_metrics() -> None:
    trainer, history = _trained([halves, of_weights, "accuracy"], sample_weight=W, validation_data=(X, Y))
    assert history["halves"] == history["val_halves"] == [20.0]
    assert (history["of_weights"][0], history["val_of_weights"][0]) == (pytest.approx(W.sum()), -1.0)
    assert [metric.label for metric in trainer.metrics] == ["halves", "of_weights", "accuracy"]
    assert trainer.metrics[0].greater_is_better
    with pytest.raises(TypeError, match=r"has no name. Use def"):
        fcnn.Trainer(trainer.model, metrics=[lambda y, p: 0.0])
    with pytest.raises(TypeError, match="expects a list"):
        fcnn.Trainer(trainer.model, metrics=halves)  # type: ignore[arg-type]


def test_an_error_in_a_function_says_which_metric_it_was() -> None:
    def broken(y_true: HostArray, y_pred: HostArray) -> float:
        raise KeyError("thing")

    with pytest.raises(KeyError) as raised:
        _trained([broken])
    assert raised.value.__notes__ == ["(It was raised by the metric broken.)"]


def test_what_a_function_gives_is_a_number() -> None:
    def pair(y_true: HostArray, y_pred: HostArray) -> Any:
        return 1, 2

    def array(y_true: HostArray, y_pred: HostArray) -> Any:
        return np.float32(0.5)

    assert METRICS.resolve(array)(Y, X) == 0.5
    with pytest.raises(TypeError, match=r"The metric pair gave \(1, 2\) \(tuple\); expected a number"):
        _trained([pair])


def test_an_estimator_takes_functions_and_new_names() -> None:
    classifier = fcnn.FCNNClassifier(
        (4,), epochs=2, metrics=["log_loss", "mcc", halves], backend="numpy", random_state=0
    )
    history = classifier.fit(X, Y).history_
    assert {"log_loss", "mcc", "halves"} <= set(history.records[0])
    assert history["log_loss"] == pytest.approx(history["loss"], rel=1e-5)
