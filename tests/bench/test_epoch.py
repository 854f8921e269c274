"""`Trainer.fit` against bare steps, on a few hundred digits."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.bench import epoch
from fcnn_gpu.bench.nets import Case, Net
from fcnn_gpu.bench.results import EpochResult
from fcnn_gpu.callbacks import ProgressBar
from fcnn_gpu.datasets import Dataset, load
from fcnn_gpu.training.trainer import Trainer


@pytest.fixture(scope="module")
def digits() -> Dataset:
    whole = load("mnist-mini")
    return dataclasses.replace(
        whole,
        X_train=whole.X_train[:300],
        y_train=whole.y_train[:300],
        X_test=whole.X_test[:50],
        y_test=whole.y_test[:50],
    )


def test_every_case_of_the_issue(digits: Dataset) -> None:
    small = [dataclasses.replace(case, batch=64) for case in epoch.CASES]
    results = list(epoch.run(backend="numpy", cases=small, rounds=2, data=digits))
    assert [r.net for r in results if isinstance(r, EpochResult)] == ["784-128-10", "64-64-64-10"]
    for result in results:
        assert isinstance(result, EpochResult)
        assert (result.batch, result.n_samples) == (64, 300)
        lists = (result.fit_seconds, result.bare_seconds, result.validation_seconds, result.preparation_seconds)
        assert [len(seconds) for seconds in lists] == [2, 2, 2, 2]
        assert all(seconds > 0.0 for part in lists for seconds in part)
        assert all(v < f for v, f in zip(result.validation_seconds, result.fit_seconds, strict=True))
        assert result.device.startswith("CPU")


def test_on_a_device(ops: Ops, digits: Dataset) -> None:
    tiny = dataclasses.replace(digits, X_train=digits.X_train[:40], y_train=digits.y_train[:40])
    result = epoch.time_epochs(Case(Net((64, 4, 10)), 16), tiny, ops, rounds=1)
    assert result.device == ops.describe()


def test_overheads() -> None:
    result = EpochResult("8-2", 1, "CPU", 10, [1.5, 1.2], [1.0, 1.0], [0.25, 0.1], [0.0, 0.0])
    assert result.overhead.median == pytest.approx((0.25 + 0.1) / 2)
    assert result.overhead_with_validation.median == pytest.approx((0.5 + 0.2) / 2)


def test_the_bare_epoch_visits_every_sample_once(ops: Ops, digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epoch, "_SETTLE_SECONDS", 0.0)
    bare = epoch._Bare(Case(Net((64, 2, 10)), 16), ops, 0, epoch._images(digits.X_train[:40], 64), digits.y_train[:40])
    bare.epoch()
    assert ops.to_numpy(bare._data.cursor).tolist() == [40]
    first = ops.to_numpy(bare._data.order).copy()
    bare.epoch()
    assert sorted(first.tolist()) == list(range(40))
    assert ops.to_numpy(bare._data.order).tolist() != first.tolist()


def test_fit_and_bare_steps_learn_the_same(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both run the same steps: from the same seed, one epoch leaves the same weights."""
    monkeypatch.setattr(epoch, "_SETTLE_SECONDS", -1.0)
    case, ops = Case(Net((784, 8, 10)), 32), Ops()
    fitted = epoch._Fit(case, ops, 3, digits.X_train, digits.y_train, (digits.X_test, digits.y_test))
    bare = epoch._Bare(case, ops, 3, digits.X_train, digits.y_train)
    fitted.epoch()
    bare.epoch()
    np.testing.assert_array_equal(fitted._trainer.model.flat.values, bare.model.flat.values)


def test_the_progress_bar_is_drawn(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    whole = ProgressBar.on_train_begin

    def begin(self: ProgressBar, trainer: Trainer) -> None:
        whole(self, trainer)
        drawn.append(self._progress)

    monkeypatch.setattr(ProgressBar, "on_train_begin", begin)
    epoch.time_epochs(Case(Net((64, 2, 10)), 64), digits, Ops(), rounds=1)
    assert len(drawn) == 2  # the rehearsal and the one that counts
    assert all(progress is not None and progress.finished for progress in drawn)


def test_an_interrupted_fit_ends_the_benchmark(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = Trainer.fit

    def interrupted(self: Trainer, *arguments: Any, **options: Any) -> Any:
        history = fit(self, *arguments, **options)
        history.stopped_by = "interrupt"
        return history

    monkeypatch.setattr(Trainer, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        epoch.time_epochs(Case(Net((64, 2, 10)), 64), digits, Ops(), rounds=1)


def test_without_the_data_set_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("FCNN_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (note,) = epoch.run()
    assert isinstance(note, str)
    assert note.startswith("Trainer.fit was not measured: ")
    assert "FCNN_DATA_DIR" in note


def test_eight_by_eight_pixels() -> None:
    pixels = np.zeros((1, 28, 28), np.float32)
    pixels[0, 2:5, 2:5] = 1.0  # the first block of the middle 24×24
    pixels[0, 25, 25] = 9.0  # in the last one
    pixels[0, 0, 0] = 5.0  # in the margin, which is cut off
    small = epoch._images(pixels.reshape(1, 784), 64)
    expected = np.zeros(64, np.float32)
    expected[0], expected[63] = 1.0, 1.0
    np.testing.assert_array_equal(small, expected[None])
    assert small.flags.c_contiguous
    assert epoch._images(small.repeat(13, axis=1)[:, :784], 784).shape == (1, 784)


def test_other_inputs_are_refused() -> None:
    with pytest.raises(ValueError, match="got 784 pixels and 100 inputs"):
        epoch._images(np.zeros((1, 784), np.float32), 100)
