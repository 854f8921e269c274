"""`verify_reproducible` finds every number that is not the same in each run, and what differs between backends."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.reproducibility import Difference, _max_ulp
from tests.conftest import emulated_ops

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(90, 6)), RNG.integers(0, 3, 90)

MakeTrainer = Callable[[], fcnn.Trainer]


def maker(ops: Ops | str = "numpy", seed: int | None = 5, dtype: str = "float32", **options: Any) -> MakeTrainer:
    """Trainers of one network with every kind of layer that has state of its own."""

    def make() -> fcnn.Trainer:
        layers = [
            fcnn.Dense(12, activation="gelu", l2=1e-3),
            fcnn.BatchNorm(),
            fcnn.Dropout(0.2),
            fcnn.Residual([fcnn.LayerNorm(), fcnn.Dense(12, activation="tanh"), fcnn.Dropout(0.1)]),
            fcnn.Dense(3),
        ]
        model = fcnn.Sequential(layers, n_in=6, seed=seed, dtype=dtype, backend=ops)
        return fcnn.Trainer(model, **{"optimizer": fcnn.Adam(1e-2), "metrics": ["accuracy"], **options})

    return make


def verify(make: MakeTrainer, **options: Any) -> fcnn.ReproducibilityReport:
    return fcnn.verify_reproducible(make, X, Y, **{"epochs": 2, "batch_size": 32, **options})


def test_a_run_is_the_same_every_time(ops: Ops) -> None:
    report = verify(maker(ops), runs=3)
    assert report
    assert report.identical
    assert report.first_difference is None
    assert report.runs == ("run 1", "run 2", "run 3", "run without capture")
    assert str(report).startswith("reproducible on ")
    assert f"{report.n_arrays} arrays are equal bit for bit" in str(report)


def test_a_schedule_clipping_weights_and_validation(ops: Ops) -> None:
    def make() -> fcnn.Trainer:
        schedule = fcnn.schedules.Warmup(fcnn.schedules.Cosine(0.05), epochs=0.5)
        return fcnn.Trainer(maker(ops)().model, optimizer=fcnn.SGD(schedule, momentum=0.9, clip_norm=0.5))

    options: dict[str, Any] = {"validation_split": 0.2, "class_weight": "balanced", "shuffle": False}
    assert verify(make, **options)


def test_going_on_is_as_if_it_had_never_stopped(ops: Ops) -> None:
    whole, parts = maker(ops)(), maker(ops)()
    whole.fit(X, Y, epochs=4, batch_size=32, progress=False)
    parts.fit(X, Y, epochs=1, batch_size=32, progress=False)
    parts.fit(X, Y, epochs=3, batch_size=32, progress=False)
    for name, array in whole.model.named_arrays().items():
        np.testing.assert_array_equal(ops.to_numpy(parts.model.named_arrays()[name]), ops.to_numpy(array), name)


def test_everything_that_training_changes_is_compared() -> None:
    trainer = maker()()
    names = set(trainer.model.named_arrays())
    report = verify(maker())
    history = {"epoch", "loss", "penalty", "accuracy", "learning_rate"}
    optimizer = {"m", "v", "step", "learning_rate", "clip_scale", "failed_step"}
    assert report.n_arrays == 2 * len(names) + len(history) + len(optimizer) + 1  # and the count of random draws


class Perturb(fcnn.Callback):
    """Changes something in one run: at the end of its last epoch unless `at_once`."""

    def __init__(self, run: int, change: Callable[[fcnn.Trainer], None]) -> None:
        self.runs, self.run, self.change = itertools.count(1), run, change

    def on_train_begin(self, trainer: fcnn.Trainer) -> None:
        self.now = next(self.runs)

    def on_epoch_end(self, trainer: fcnn.Trainer, record: dict[str, float]) -> None:
        if self.now == self.run and trainer.epochs_trained == trainer.n_epochs:
            self.change(trainer)


def difference(run: int, change: Callable[[fcnn.Trainer], None], make: MakeTrainer | None = None) -> Difference:
    report = verify(make or maker(), callbacks=[Perturb(run, change)])
    assert not report
    assert not report.ok
    assert str(report).startswith("NOT REPRODUCIBLE on ")
    assert len(report.differences) == 1
    assert str(report.first_difference) in str(report)
    found = report.first_difference
    assert found is not None
    return found


def test_one_bit_of_one_weight() -> None:
    def change(trainer: fcnn.Trainer) -> None:
        W = trainer.model.layers[0].W  # type: ignore[attr-defined]
        W[3, 2] = np.nextafter(W[3, 2], np.float32(np.inf))

    found = difference(2, change)
    assert (found.run, found.array, found.index, found.n_different, found.max_ulp) == ("run 2", "0.W", (3, 2), 1, 1)
    assert found.found is not None
    assert found.expected is not None
    assert found.found == float(np.nextafter(np.float32(found.expected), np.float32(np.inf)))
    assert str(found).startswith(
        f"run 2: 0.W[3, 2] is {found.found!r}, in the first run {found.expected!r}; 1 elements"
    )


def test_the_sign_of_a_zero() -> None:
    def zero(value: float) -> Callable[[fcnn.Trainer], None]:
        def change(trainer: fcnn.Trainer) -> None:
            trainer.model.layers[4].b[:] = value  # type: ignore[attr-defined]

        return change

    report = verify(maker(), callbacks=[Perturb(1, zero(0.0)), Perturb(2, zero(-0.0)), Perturb(3, zero(0.0))])
    found = report.first_difference
    assert found is not None
    assert (found.run, found.array, found.n_different, found.max_ulp) == ("run 2", "4.b", 3, 0)


@pytest.mark.parametrize(
    ("change", "array"),
    [
        (lambda trainer: trainer.model.layers[1].running_var.__iadd__(1), "1.running_var"),
        (lambda trainer: trainer.optimizer.state["v"].__iadd__(1), "optimizer v"),
        (lambda trainer: trainer.optimizer.control.step.__iadd__(1), "optimizer step"),
        (lambda trainer: trainer.model.random_step.__iadd__(1), "random_step"),
        (lambda trainer: trainer.history.records[0].update(loss=0.5), "history loss"),
    ],
    ids=["statistics", "moments", "steps", "draws", "history"],
)
def test_every_kind_of_state(change: Callable[[fcnn.Trainer], None], array: str) -> None:
    found = difference(3, change)
    assert found.run == "run without capture"
    assert found.array == array


def test_a_callback_that_draws_at_random() -> None:
    rng = np.random.default_rng(1)

    class Noise(fcnn.Callback):
        def on_epoch_end(self, trainer: fcnn.Trainer, record: dict[str, float]) -> None:
            W = trainer.model.layers[0].W  # type: ignore[attr-defined]
            W += 1e-6 * rng.normal(size=W.shape).astype(W.dtype)

    report = verify(maker(), callbacks=[Noise()])
    assert [found.run for found in report.differences] == ["run 2", "run without capture"]
    assert all(found.array == "0.W" for found in report.differences)
    assert str(report).count("\n") == 2


def test_a_network_without_a_seed() -> None:
    report = verify(maker(seed=None))
    found = report.first_difference
    assert found is not None
    assert found.array == "initial 0.W"
    assert "give Sequential a seed" in str(report)


def test_a_number_that_is_none_and_an_array_that_is_gone() -> None:
    def spoil(trainer: fcnn.Trainer) -> None:
        trainer.model.layers[4].b[1] = np.nan  # type: ignore[attr-defined]

    found = difference(2, spoil)
    assert (found.array, found.max_ulp) == ("4.b", None)
    assert "not comparable (NaN)" in str(found)

    def forget(trainer: fcnn.Trainer) -> None:
        for record in trainer.history.records:
            del record["accuracy"]

    found = difference(2, forget)
    assert (found.array, found.expected, found.found) == ("history accuracy", None, None)
    assert str(found).endswith("history accuracy is not in both runs, or not of one shape and dtype")


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
def test_distances_in_units_in_the_last_place(dtype: str) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    kind: Any = np.dtype(dtype)
    whole = np.dtype(f"u{kind.itemsize}")
    sign = 2 ** (8 * kind.itemsize - 1)

    def ulp(a: int, b: int) -> int | None:
        return _max_ulp(np.array([0, a], whole).view(kind), np.array([0, b], whole).view(kind))

    assert ulp(5, 5) == 0
    assert ulp(5, 9) == ulp(9, 5) == 4
    assert ulp(sign + 3, 4) == 7  # from −3 steps below 0 to 4 above
    assert ulp(sign, 0) == 0
    largest = int(np.array(np.finfo(np.float64).max if dtype == "float64" else 1.0).astype(kind).view(whole))
    assert ulp(sign + largest, largest) == 2 * largest
    assert ulp(0, 2 ** (8 * kind.itemsize - 1) - 1) is None  # a NaN
    assert _max_ulp(np.array([3, -4]), np.array([3, 9])) == 13


def guarantees(make: MakeTrainer, reference: MakeTrainer, **options: Any) -> tuple[dict[str, bool], str]:
    report = verify(make, reference=reference, **options)
    assert report.identical
    assert report.ok == all(guarantee.holds for guarantee in report.guarantees)
    assert f"against {report.reference}:" in str(report)
    for guarantee in report.guarantees:
        assert str(guarantee) in str(report)
    return {guarantee.name: guarantee.holds for guarantee in report.guarantees}, str(report)


WEIGHTS, ORDER, MASKS = (
    "initial weights are the same bits",
    "samples are visited in the same order",
    "dropout masks are the same bits",
)
BEFORE, AFTER = "outputs before training are equal up to rounding", "outputs after training are within tolerance"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_device_against_numpy(device_ops: Ops, dtype: str) -> None:
    holds, text = guarantees(maker(device_ops, dtype=dtype), maker("numpy", dtype=dtype))
    assert holds == {WEIGHTS: True, ORDER: True, MASKS: True, BEFORE: True, AFTER: True}, text


def test_float32_against_float64() -> None:
    holds, text = guarantees(maker(dtype="float32"), maker(dtype="float64"), epochs=1)
    assert holds == {WEIGHTS: True, ORDER: True, MASKS: True, BEFORE: True, AFTER: True}, text
    holds, text = guarantees(maker(dtype="float32"), maker(dtype="float64"), tolerance=1e-12)
    assert holds == {WEIGHTS: True, ORDER: True, MASKS: True, BEFORE: True, AFTER: False}, text
    assert f"BROKEN  {AFTER}: " in text
    assert "allowed 1.0e-12" in text


def test_another_seed() -> None:
    holds, _ = guarantees(maker(seed=1), maker(seed=2))
    assert holds == {WEIGHTS: False, ORDER: False, MASKS: False, BEFORE: False, AFTER: False}


class OtherMasks(Ops):
    def _draw_mask(self, p: Any, key: tuple[int, int], step: HostArray, keep: HostArray, first_draw: int) -> None:
        super()._draw_mask(p, (key[0] + 1, key[1]), step, keep, first_draw)


class OtherOrder(Ops):
    def gather_rows(self, X: Any, order: Any, cursor: Any, out: Any, scale: float = 1.0, shift: float = 0.0) -> None:
        super().gather_rows(X, order[::-1].copy(), cursor, out, scale, shift)


def test_a_backend_that_draws_or_gathers_otherwise() -> None:
    holds, _ = guarantees(maker(OtherMasks()), maker())
    assert (holds[WEIGHTS], holds[ORDER], holds[MASKS], holds[BEFORE]) == (True, True, False, True)
    holds, _ = guarantees(maker(OtherOrder()), maker())
    assert (holds[WEIGHTS], holds[ORDER], holds[MASKS], holds[BEFORE]) == (True, False, True, True)
    holds, _ = guarantees(maker(OtherOrder()), maker(), shuffle=False)
    assert not holds[ORDER]


def test_a_network_without_dropout() -> None:
    def make() -> fcnn.Trainer:
        return fcnn.Trainer(fcnn.Sequential([fcnn.Dense(3)], n_in=6, seed=0, backend="numpy"))

    holds, text = guarantees(make, make)
    assert all(holds.values())
    assert "the network has no dropout" in text


def test_the_emulated_device_alone() -> None:
    assert verify(maker(emulated_ops()), epochs=1)


def test_wrong_arguments() -> None:
    used = maker()()
    with pytest.raises(ValueError, match="a new Trainer with a new Sequential each time"):
        verify(lambda: used)
    used.fit(X, Y, epochs=1, progress=False)
    with pytest.raises(ValueError, match="has been trained already"):
        verify(lambda: used)
    with pytest.raises(TypeError, match=r"a function that builds a Trainer; it gave Sequential"):
        verify(lambda: used.model)  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match=r"verify_reproducible\(runs\)"):
        verify(maker(), runs=1)
    with pytest.raises(ValueError, match=r"verify_reproducible\(tolerance\)"):
        verify(maker(), tolerance=-1.0)
    with pytest.raises(TypeError, match=r"decides about fit\(capture\)"):
        verify(maker(), capture=False)

    def narrow() -> fcnn.Trainer:
        return fcnn.Trainer(fcnn.Sequential([fcnn.Dense(3)], n_in=6, seed=0, backend="numpy"))

    with pytest.raises(ValueError, match="must build the same network"):
        verify(maker(), reference=narrow)


def test_the_example_of_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[1] / "docs" / "reproducibility.md").read_text(encoding="utf-8")
    example = page.partition("```python\n")[2].partition("```")[0]
    exec(compile(example, "docs/reproducibility.md", "exec"), {})
    assert capsys.readouterr().out.startswith("reproducible on CPU (NumPy ")
