"""Argument checks: what passes, and what each message says."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from fcnn_gpu._checks import check_bool, check_choice, check_integer, check_real, suggest


@pytest.mark.parametrize("value", [0.5, 1, np.float32(0.5), np.float64(0.5), np.int64(1), Fraction(1, 2)])
def test_any_real_number_becomes_a_float(value: Any) -> None:
    result = check_real("Adam(beta1)", value, low=0, high=1)
    assert type(result) is float
    assert result == float(value)


@pytest.mark.parametrize("value", [True, "0.5", None, 1j, [0.5], np.zeros(1), np.bool_(True)])
def test_what_is_no_number_is_a_type_error_naming_it(value: Any) -> None:
    with pytest.raises(TypeError, match=r"SGD\(momentum\) expects a number, got .*" + type(value).__name__):
        check_real("SGD(momentum)", value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, np.float64("nan")])
def test_what_is_not_finite_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="expects a finite number of any sign"):
        check_real("Constant(value)", value)


@pytest.mark.parametrize(
    ("limits", "inside", "outside", "interval"),
    [
        ({"low": 0.0}, [0, 5], [-1e-9], "of at least 0"),
        ({"low": 0.0, "low_open": True}, [1e-9], [0, -1], "greater than 0"),
        ({"high": 1.0}, [1, -5], [1.5], "of at most 1"),
        ({"high": 1.0, "high_open": True}, [0.9], [1.0], "less than 1"),
        ({"low": 0.0, "high": 1.0}, [0, 1], [-0.1, 1.1], r"in \[0, 1\]"),
        ({"low": 0.0, "high": 1.0, "low_open": True, "high_open": True}, [0.5], [0, 1], r"in \(0, 1\)"),
    ],
)
def test_ends_of_an_interval(limits: dict[str, Any], inside: list[float], outside: list[float], interval: str) -> None:
    for value in inside:
        assert check_real("x", value, **limits) == value
    for value in outside:
        with pytest.raises(ValueError, match=f"expects a finite number {interval}, got {value}"):
            check_real("x", value, **limits)


def test_integers() -> None:
    assert check_integer("n", np.int64(3), low=1) == 3
    assert type(check_integer("n", np.uint8(3))) is int
    with pytest.raises(ValueError, match="batch_size expects an integer of at least 1, got 0"):
        check_integer("batch_size", 0, low=1)


@pytest.mark.parametrize("value", [True, 3.0, "3", None, np.float32(3)])
def test_what_is_no_integer_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="epochs expects an integer, got"):
        check_integer("epochs", value)


@pytest.mark.parametrize("value", [0, 1, "yes", None, np.True_])
def test_what_is_neither_true_nor_false_is_refused(value: Any) -> None:
    assert check_bool("shuffle", False) is False
    with pytest.raises(TypeError, match="shuffle expects True or False, got"):
        check_bool("shuffle", value)


def test_choices() -> None:
    assert check_choice("link", "softmax", ("identity", "softmax")) == "softmax"
    for wrong in ("softmx", 3, None):
        with pytest.raises(ValueError, match=r"link does not know .* Known names: identity, softmax\."):
            check_choice("link", wrong, ("identity", "softmax"))


def test_the_nearest_name_is_suggested_only_if_one_is_near() -> None:
    assert suggest("Adma", ["adam", "sgd"]).startswith("Did you mean 'adam'?")
    assert suggest("xyzzy", ["adam", "sgd"]) == "Known names: adam, sgd."
