"""What stays on the device and what streams, by the memory that is allowed or free."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fcnn_gpu as fcnn
from fcnn_gpu._checks import check_bytes
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.data._input_checks import features
from fcnn_gpu.data._supply import ArraySupply
from fcnn_gpu.data._what_streams import DataSet, Need, choose_windows, plan, smallest
from fcnn_gpu.training._feed import Feed

from ..conftest import emulated_ops


def backend_ops(name: str) -> Ops:
    return Ops() if name == "numpy" else emulated_ops()


@pytest.mark.parametrize(
    ("given", "bytes_"),
    [
        (None, None),
        (1, 1),
        (4096, 4096),
        ("17 B", 17),
        ("2KiB", 2048),
        ("2 kB", 2000),
        (" 1.5 GiB ", 3 * 2**29),
        ("3 tb", 3 * 10**12),
        ("0.5MiB", 2**19),
    ],
)
def test_bytes(given: Any, bytes_: int | None) -> None:
    assert check_bytes("fit(memory_limit)", given) == bytes_


@pytest.mark.parametrize("given", ["", "4", "GiB", "-1 GiB", "4 GiBs", "4 XB", "1e3 MB", 0, -5, "0 B"])
def test_bytes_that_are_refused(given: Any) -> None:
    with pytest.raises(ValueError, match=r"fit\(memory_limit\) expects"):
        check_bytes("fit(memory_limit)", given)


@pytest.mark.parametrize("given", [1.5, True, [], b"4 GiB"])
def test_types_that_are_refused(given: Any) -> None:
    with pytest.raises(TypeError, match=r"fit\(memory_limit\) expects a number of bytes or text like '4 GiB', got"):
        check_bytes("fit(memory_limit)", given)


def test_the_bytes_of_a_data_set() -> None:
    X, y, w = np.zeros((100, 7), np.uint8), np.zeros(100, np.int64), np.zeros(100, np.float32)
    taken = features(Ops(), X, 7, np.float32, "fit")
    assert DataSet.of(ArraySupply(taken, y, w), 32, order=8, outputs=2) == DataSet(100, 32, 7 + 8 + 4, 10)
    no_weight = ArraySupply(taken, np.zeros((100, 3)), None)
    assert DataSet.of(no_weight, 512, order=0, outputs=0) == DataSet(100, 100, 7 + 24, 0)
    data = DataSet(100, 32, 19, 10)
    assert data.resident == 2900
    assert data.streamed(32) == 32 * 48
    assert DataSet(100, 32, 19, 10, on_device=7).resident == 2200


DATA = st.builds(
    DataSet,
    n=st.integers(1, 10**6),
    batch=st.integers(1, 2000),
    sample=st.integers(1, 5000),
    kept=st.integers(0, 50),
    on_device=st.sampled_from([0, 0, 1]),
)


@given(st.lists(DATA, min_size=1, max_size=2), st.integers(-10, 10**9))
def test_what_is_chosen_has_room_and_streams_as_little_as_possible(sets: list[DataSet], room: int) -> None:
    windows = choose_windows(sets, room)
    least = smallest(sets, [not data.on_device for data in sets])
    resident = sum(data.resident for data in sets)
    if windows is None:
        assert room < min(least, resident)
        return
    used = sum(d.resident if w is None else d.streamed(w) for d, w in zip(sets, windows, strict=True))
    assert used <= room
    if resident <= room:
        assert windows == [None] * len(sets)
    for data, window in zip(sets, windows, strict=True):
        if window is not None:
            assert not data.on_device
            assert window % data.batch == 0
            assert data.batch <= window < data.n + 2 * data.batch
            assert window == data.batch or window * data.sample <= 128 * 2**20


def test_the_larger_data_set_stays_if_one_can() -> None:
    train, held_out = DataSet(10_000, 100, 100, 8), DataSet(1_000, 100, 100, 0)
    assert choose_windows([train, held_out], train.resident + held_out.streamed(300)) == [None, 300]
    assert choose_windows([train, held_out], held_out.resident + train.streamed(700)) == [700, None]
    both = choose_windows([train, held_out], train.streamed(100) + held_out.streamed(100))
    assert both == [100, 100]


def test_without_a_limit_what_is_free_decides() -> None:
    data = DataSet(1_000_000, 100, 100, 8)

    def unasked() -> Need:
        raise AssertionError("nobody needs to know")

    assert plan([data], None, None, unasked, "fit") == [None]
    assert plan([data], None, 2**40, unasked, "fit") == [None]
    (window,) = plan(
        [data], None, 10**8, lambda: Need({"parameters": 4 * 10**6, "activations": 6 * 10**6}, 4 * 10**6), "fit"
    )
    assert window is not None
    assert data.streamed(window) <= 0.9 * 10**8 - 6 * 10**6 < data.streamed(window + 100)
    assert plan([data], None, 1000, lambda: Need({"parameters": 10**7}, 0), "fit") == [100], (
        "an estimate refuses nobody"
    )


def test_a_limit_that_is_too_small_is_refused_with_the_numbers() -> None:
    data = DataSet(1_000_000, 100, 100, 8)
    need = Need({"parameters": 2_000_000, "optimizer": 0, "activations": 3_000_000}, 2_000_000)
    least = need.total + data.streamed(100)
    assert plan([data], least, None, lambda: need, "fit(memory_limit)") == [100]
    message = (
        r"fit\(memory_limit\) allows 5,020,799 bytes, but the model alone takes 5,000,000 in such batches \(parameters "
        r"2,000,000, activations 3,000,000\), and the data at least 20,800 where it streams batch by batch. Allow "
        r"5,020,800 bytes, or use a smaller batch_size"
    )
    with pytest.raises(ValueError, match=message):
        plan([data], least - 1, None, lambda: need, "fit(memory_limit)")


@pytest.mark.parametrize("backend", ["numpy", "emulated"])
def test_training_and_evaluation_share_all_but_their_own_arrays(backend: str) -> None:
    model = fcnn.Sequential(
        [fcnn.Dense(30, activation="gelu"), fcnn.Dense(2)], n_in=4, seed=0, backend=backend_ops(backend)
    )
    training, inference = model.memory_report(64), model.memory_report(1024, training=False)
    both = Need.of(training, inference)
    assert both.total < training.total + inference.total
    assert both.by_kind["activations"] == training.activations + inference.activations
    assert both.by_kind["workspace"] == training.workspace
    assert both.held == training.parameters + training.gradients + training.optimizer
    assert Need.of(training, None).total == training.total
    assert Need.of(None, inference).total == inference.total


@pytest.mark.parametrize("backend", ["numpy", "emulated"])
@pytest.mark.parametrize("validates", [True, False])
def test_a_run_within_a_limit_is_the_run_without_one(
    backend: str, validates: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(3000, 20)).astype(np.float32), rng.integers(0, 3, 3000)
    X_val, y_val = rng.normal(size=(4000, 20)).astype(np.float32), rng.integers(0, 3, 4000)
    ops = backend_ops(backend)
    windows: list[Any] = []
    choose = Feed.windows

    def noted(*args: Any) -> Any:
        windows.append(choose(*args))
        return windows[-1]

    monkeypatch.setattr(Feed, "windows", noted)

    def run(limit: Any) -> tuple[Any, ...]:
        model = fcnn.Sequential([fcnn.Dense(16, activation="relu"), fcnn.Dense(3)], n_in=20, seed=0, backend=ops)
        trainer = fcnn.Trainer(model, metrics=["accuracy"])
        options: dict[str, Any] = {"validation_data": (X_val, y_val)} if validates else {}
        history = trainer.fit(X, y, epochs=2, batch_size=50, memory_limit=limit, progress=False, **options)
        evaluated = trainer.evaluate(X_val, y_val, memory_limit=limit if validates else None)
        return history["loss"], history["accuracy"], evaluated, ops.to_numpy(model.flat.values).tolist()

    expected = run(None)
    assert windows == [(None, None)] * 2
    with pytest.raises(ValueError, match=r"fit\(memory_limit\) allows 100 bytes, but the model alone takes"):
        run(100)
    match = None
    try:
        run(100)
    except ValueError as error:
        match = re.search(r"Allow ([\d,]+) bytes", str(error))
    assert match is not None
    least = int(match[1].replace(",", ""))
    windows.clear()
    assert run(least) == expected
    assert windows[0] == (50, 1024 if validates else None)
    windows.clear()
    assert run(f"{least + 300_000} B") == expected
    assert windows[0][0] is None or windows[0][0] > 50
    with pytest.raises(ValueError, match="Allow"):
        run(least - 1)


def test_what_is_free_on_the_device_decides_without_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    ops: Any = backend_ops("emulated")
    X, y = np.zeros((30_000, 20), np.float32), np.zeros(30_000, np.int64)
    model = fcnn.Sequential([fcnn.Dense(3)], n_in=20, seed=0, backend=ops)
    trainer = fcnn.Trainer(model)
    samples = trainer._intake.prepare(X, y, None, "fit")
    assert trainer._feed.windows(samples, None, 50, None) == (None, None)
    need = Need.of(model.memory_report(50), None)
    monkeypatch.setattr(ops._runtime, "free", int((need.total - need.held + 100_000) / 0.9))
    window, _ = trainer._feed.windows(samples, None, 50, None)
    assert window is not None
    assert 50 <= window < 30_000
    on_device = trainer._intake.prepare(ops.asarray(X), y, None, "fit")
    assert trainer._feed.windows(on_device, None, 50, None) == (None, None)
