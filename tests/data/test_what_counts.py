"""Weights of 0: wherever no sample of a part counts, that is said before anything is trained, and truly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from tests.support.small_runs import TooMuch

N, N_CLASSES = 12, 3
X = np.random.default_rng(0).normal(size=(N, 4)).astype(np.float32)
Y = np.arange(N) % N_CLASSES
FIRST = (np.arange(N) == 0).astype(float)
ONLY_0 = (Y == 0).astype(float)


def trainer(loss: Any = "cross_entropy") -> fcnn.Trainer:
    model = fcnn.Sequential([fcnn.Dense(N_CLASSES)], n_in=4, seed=0, backend="numpy")
    return fcnn.Trainer(model, loss, fcnn.SGD(0.1))


def arrays(y: HostArray, weight: HostArray | None = None) -> tuple[Any, ...]:
    return (X, y) if weight is None else (X, y, weight)


def source(y: HostArray, weight: HostArray | None = None) -> tuple[Any, ...]:
    return (fcnn.datasets.open_arrays(*arrays(y, weight)), None)


@pytest.fixture(params=[arrays, source], ids=["arrays", "source"])
def given_as(request: pytest.FixtureRequest) -> Callable[..., tuple[Any, ...]]:
    made: Callable[..., tuple[Any, ...]] = request.param
    return made


def fit(t: fcnn.Trainer, data: tuple[Any, ...], **options: Any) -> None:
    X, y, *weight = data
    t.fit(X, y, sample_weight=weight[0] if weight else None, epochs=1, progress=False, **options)


WITHOUT_0 = fcnn.CrossEntropy(class_weight=[0, 1, 1])
CASES: dict[str, tuple[Any, HostArray, HostArray | None, dict[str, Any]]] = {
    "all weights": ("cross_entropy", Y, 0 * FIRST, {}),
    "one of two parts": ("cross_entropy", Y, FIRST, {"validation_split": 0.5}),
    "classes of fit": ("cross_entropy", Y, None, {"class_weight": {0: 0, 1: 0, 2: 0}}),
    "classes of fit and samples": ("cross_entropy", Y, ONLY_0, {"class_weight": {0: 0}}),
    "the loss's classes": (WITHOUT_0, 0 * Y, None, {}),
    "the loss's classes of one-hot targets": (WITHOUT_0, np.eye(N_CLASSES)[0 * Y], None, {}),
    "the loss's classes and samples": (WITHOUT_0, Y, ONLY_0, {}),
    "the loss's classes and those of fit": (WITHOUT_0, Y, None, {"class_weight": {1: 0, 2: 0}}),
}


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_trained_on_nothing(given_as: Callable[..., tuple[Any, ...]], case: str) -> None:
    loss, y, weight, options = CASES[case]
    t = trainer(loss)
    before = t.model.snapshot()
    with pytest.raises(ValueError, match=r"is 0") as caught:
        fit(t, given_as(y, weight), **options)
    if case == "one of two parts":
        assert "every sample is 0" not in str(caught.value)
        assert "validation_split=0.5" in str(caught.value)
    for name, array in t.model.snapshot().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize(("loss", "y", "weight"), [("cross_entropy", Y, 0 * FIRST), (WITHOUT_0, 0 * Y, None)])
def test_nothing_is_measured_on_nothing(
    given_as: Callable[..., tuple[Any, ...]], loss: Any, y: HostArray, weight: HostArray | None
) -> None:
    t = trainer(loss)
    data = given_as(y, weight)
    with pytest.raises(ValueError, match=r"is 0"):
        t.evaluate(*data)
    with pytest.raises(ValueError, match=r"validation_data.* is 0"):
        fit(t, (X, Y), validation_data=data if data[1] is not None else data[0])


@pytest.mark.parametrize("weights", [{"sample_weight": [0.0] * 8 + [1.0, 1.0]}, {"class_weight": {0: 0.0, 1: 1.0}}])
def test_what_epochs_leave_out_does_not_count(weights: dict[str, Any]) -> None:
    t = fcnn.Trainer(fcnn.Sequential([fcnn.Dense(2)], n_in=1, seed=0, backend="numpy"))
    X, y = np.ones((10, 1), np.float32), [0] * 8 + [1] * 2
    options: dict[str, Any] = {"epochs": 1, "batch_size": 4, "drop_last": True, "progress": False}
    with pytest.raises(ValueError, match="trains on the first 8 samples alone, and the weight of each of them is 0"):
        t.fit(X, y, shuffle=False, **(options | weights))
    assert len(t.history) == 0
    t.fit(X, y, **(options | weights))


def test_what_smoothing_spreads_counts() -> None:
    fit(trainer(fcnn.CrossEntropy(0.1, [0, 1, 1])), (X, 0 * Y))


@settings(max_examples=40)
@given(
    v=st.lists(st.sampled_from([0.0, 0.5, 2.0]), min_size=N_CLASSES, max_size=N_CLASSES).filter(any),
    smoothing=st.sampled_from([0.0, 0.3, 1.0]),
    soft=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_weights_of_a_loss_are_what_its_gradients_are_made_of(
    v: list[float], smoothing: float, soft: bool, seed: int
) -> None:
    """A sample has loss and gradient where its weight is not 0, and only there."""
    rng = np.random.default_rng(seed)
    y = rng.multinomial(2, np.ones(N_CLASSES) / N_CLASSES, 5) / 2 if soft else rng.integers(0, N_CLASSES, 5)
    loss = fcnn.CrossEntropy(smoothing, v)
    weights = loss.weights_of(loss.prepare_targets(y, N_CLASSES, "float64"))
    assert weights is not None
    loss.forward(rng.normal(size=(5, N_CLASSES)), y)
    np.testing.assert_array_equal(weights > 0, np.abs(loss.backward()).sum(axis=1) > 0)


# Estimators


def estimator(**options: Any) -> Any:
    pytest.importorskip("sklearn")
    from fcnn_gpu.estimators import FCNNClassifier

    return FCNNClassifier((3,), epochs=1, backend="numpy", **options)


@pytest.mark.parametrize("seed", range(6))
def test_an_estimator_says_which_part_has_no_weight(seed: int) -> None:
    with pytest.raises(ValueError, match=r"FCNNClassifier\(validation_fraction\)=0.5 leaves 6 samples for") as caught:
        estimator(early_stopping=True, validation_fraction=0.5, random_state=seed).fit(X, Y, sample_weight=FIRST)
    assert "every sample" not in str(caught.value)
    weights = np.full(N, 1e-3)  # and with some weight on each it trains
    estimator(early_stopping=True, validation_fraction=0.5, random_state=seed).fit(X, Y, sample_weight=weights + FIRST)


@pytest.mark.parametrize(
    ("options", "weight", "message"),
    [
        ({"class_weight": {0: 0, 1: 0, 2: 0}}, None, "^class_weight is 0 for every sample"),
        ({"class_weight": {0: 0}}, ONLY_0, "^sample_weight times class_weight is 0 for every sample"),
        (
            {},
            0 * FIRST,
            "^sample_weight is 0 for every sample|^Sample weights must contain",
        ),  # the latter is scikit-learn's
    ],
)
def test_an_estimator_says_which_weights_are_0(options: dict[str, Any], weight: HostArray | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        estimator(**options).fit(X, Y, sample_weight=weight)


def test_an_estimator_s_messages_name_parameters_that_it_has() -> None:
    stopping = [fcnn.EarlyStopping()]
    faults: list[tuple[dict[str, Any], Any]] = [
        ({"early_stopping": True, "validation_fraction": 0.01}, ValueError),
        ({"callbacks": stopping}, ValueError),
        ({"batch_norm": True, "batch_size": 1}, ValueError),
        ({"optimizer": fcnn.SGD(TooMuch())}, fcnn.DivergenceError),
    ]
    foreign = ("validation_split", "validation_data", "drop_last", "fit(", "clip_norm=1.0, ", "Trainer")
    for options, error in faults:
        classifier = estimator(random_state=0, **options)
        with pytest.raises(error) as caught:
            classifier.fit(X, Y)
        assert not any(name in str(caught.value) for name in foreign), caught.value


def test_an_estimator_s_shortage_of_memory_speaks_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from fcnn_gpu.memory import OutOfMemoryError
    from fcnn_gpu.training import _run

    def short(*args: Any) -> None:
        raise MemoryError("Unable to allocate 9 GiB")

    monkeypatch.setattr(_run.Run, "train", short)
    with pytest.raises(OutOfMemoryError, match=r"FCNNClassifier ran out of memory \(Unable to allocate 9 GiB\)") as e:
        estimator().fit(X, Y)
    assert "micro_batch_size" not in str(e.value)
