"""When two libraries compute the same, and what must not pass for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.bench.agreement import STEPS, deviation
from fcnn_gpu.bench.libraries import Problem
from fcnn_gpu.bench.libraries import ours as ours_module
from fcnn_gpu.bench.libraries._base import weights_of
from fcnn_gpu.bench.libraries.ours import OurNet
from fcnn_gpu.bench.nets import Net

Arrays = dict[str, HostArray]
PLAIN = Problem(Net((20, 16, 12, 5)), 32)
NORMALIZED = Problem(Net((20, 16, 12, 5), batch_norm=True), 32)


def train(problem: Problem) -> Arrays:
    net = OurNet(problem)
    net.train(STEPS)
    return weights_of(net.model) | {"outputs": net.outputs()}


def agrees(theirs: Arrays, problem: Problem) -> bool:
    return deviation(theirs, train(problem), problem.initial_weights(), problem.net).agrees


@pytest.mark.parametrize("problem", [PLAIN, NORMALIZED], ids=["plain", "batch norm"])
def test_the_same_numbers_do_not_deviate(problem: Problem) -> None:
    found = deviation(train(problem), train(problem), problem.initial_weights(), problem.net)
    assert found.value == 0.0
    assert found.agrees


@pytest.mark.parametrize("problem", [PLAIN, NORMALIZED], ids=["plain", "batch norm"])
def test_rounding_is_within_the_limits(problem: Problem) -> None:
    found = deviation(train(replace(problem, dtype="float64")), train(problem), problem.initial_weights(), problem.net)
    assert found.agrees
    assert found.value > 0.0


@pytest.mark.parametrize(
    ("name", "value"), [("LEARNING_RATE", 1.1e-3), ("BETA1", 0.8), ("EPS", 1e-3)], ids=["rate", "beta1", "eps"]
)
def test_another_optimizer_does_not_agree(name: str, value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours_module, name, value)
    theirs = train(PLAIN)
    monkeypatch.undo()
    assert not agrees(theirs, PLAIN)


def test_fewer_bits_may_lie_farther_apart() -> None:
    ours, initial = train(PLAIN), PLAIN.initial_weights()
    theirs = {name: array + 0.08 * (array - initial.get(name, array)) for name, array in ours.items()}
    found = {a: deviation(theirs, ours, initial, PLAIN.net, a) for a in ("float32", "tf32", "bfloat16")}
    assert [found[a].agrees for a in found] == [False, True, True]
    assert found["bfloat16"].limit == 2 * found["tf32"].limit == 4 * found["float32"].limit


def test_other_batches_do_not_agree() -> None:
    assert not agrees(train(replace(PLAIN, seed=1)), PLAIN)


def _shift(arrays: Arrays) -> None:
    arrays["outputs"] = arrays["outputs"] * 1.02


def _biased_variance(arrays: Arrays) -> None:
    arrays["running_var0"] = 0.9**STEPS + (arrays["running_var0"] - 0.9**STEPS) * (31 / 32)


def _untrained(arrays: Arrays) -> None:
    arrays["b2"] = np.zeros_like(arrays["b2"])


@pytest.mark.parametrize("spoil", [_shift, _biased_variance, _untrained])
def test_one_wrong_array_is_enough(spoil: Callable[[Arrays], None]) -> None:
    theirs = train(NORMALIZED)
    spoil(theirs)
    assert not agrees(theirs, NORMALIZED)


def test_biases_before_batch_norm_are_noise() -> None:
    theirs = train(NORMALIZED)
    theirs["b0"] = theirs["b0"] + 1e-3
    assert agrees(theirs, NORMALIZED)
    theirs = train(PLAIN)
    theirs["b0"] = theirs["b0"] + 1e-3
    assert not agrees(theirs, PLAIN)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_never_agrees(value: float) -> None:
    theirs = train(PLAIN)
    theirs["W1"][0, 0] = value
    found = deviation(theirs, train(PLAIN), PLAIN.initial_weights(), PLAIN.net)
    assert not found.agrees
    assert (found.array, found.value) == ("W1", np.inf)


def test_other_arrays_are_an_error() -> None:
    ours = train(PLAIN)
    with pytest.raises(ValueError, match="Expected the arrays"):
        deviation({"W0": ours["W0"]}, ours, {}, PLAIN.net)
    with pytest.raises(ValueError, match=r"Expected W0 of shape \(16, 20\), got \(20, 16\)"):
        deviation(ours | {"W0": ours["W0"].T}, ours, {}, PLAIN.net)
