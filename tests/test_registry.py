"""Registries: names lead to classes, configurations to equal members, and mistakes to the nearest name."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu._registry import Registry
from fcnn_gpu.activations import ACTIVATIONS
from fcnn_gpu.initializers import INITIALIZERS, Initializer
from fcnn_gpu.layers import LAYERS
from fcnn_gpu.losses import LOSSES
from fcnn_gpu.metrics import METRICS
from fcnn_gpu.optimizers import OPTIMIZERS
from fcnn_gpu.regularizers import REGULARIZERS
from fcnn_gpu.schedules import SCHEDULES

FAMILIES: list[tuple[Registry[Any], str, str]] = [
    (ACTIVATIONS, "rleu", "relu"),
    (INITIALIZERS, "he_norm", "he_normal"),
    (LAYERS, "batchnorm", "batch_norm"),
    (LOSSES, "crossentropy", "cross_entropy"),
    (METRICS, "acuracy", "accuracy"),
    (OPTIMIZERS, "Adam", "adam"),
    (REGULARIZERS, "L2", "l2"),
    (SCHEDULES, "cosin", "cosine"),
]


@pytest.mark.parametrize(("family", "wrong", "nearest"), FAMILIES, ids=lambda x: getattr(x, "family", ""))
def test_an_unknown_name_is_answered_by_the_nearest_and_all_known_ones(
    family: Registry[Any], wrong: str, nearest: str
) -> None:
    with pytest.raises(ValueError, match=f"Unknown {family.family} {wrong!r}. Did you mean {nearest!r}") as caught:
        family.resolve(wrong)
    assert all(name in str(caught.value) for name in family)


@pytest.mark.parametrize(("family", "wrong", "nearest"), FAMILIES, ids=lambda x: getattr(x, "family", ""))
@pytest.mark.parametrize("spec", [3, None, int, 1.5, ["relu"]])
def test_what_is_no_member_is_a_type_error_with_the_known_names(
    family: Registry[Any], wrong: str, nearest: str, spec: Any
) -> None:
    with pytest.raises(TypeError, match=f"^An? {family.family} is a name or an? ") as caught:
        family.resolve(spec)
    assert nearest in str(caught.value)


def test_a_name_a_class_a_configuration_and_an_instance() -> None:
    relu = ACTIVATIONS.resolve("relu")
    assert relu == ACTIVATIONS.resolve(type(relu)) == ACTIVATIONS.resolve({"name": "relu"})
    assert ACTIVATIONS.resolve(relu) is relu
    assert relu.name == "relu"


HALF: Any = np.float32(0.5)
THREE: Any = np.int64(3)
WEIGHTS: Any = np.array([1, 2])
"""What people have at hand, and JSON does not know."""

MEMBERS: list[tuple[Registry[Any], Any]] = [
    (ACTIVATIONS, fcnn.activations.LeakyReLU(HALF)),
    (INITIALIZERS, fcnn.initializers.Normal(std=0.5)),
    (LOSSES, fcnn.CrossEntropy(label_smoothing=0.1, class_weight=WEIGHTS)),
    (OPTIMIZERS, fcnn.AdamW(fcnn.schedules.Warmup(fcnn.schedules.Cosine(0.1)), weight_decay=0.1, clip_norm=1.0)),
    (REGULARIZERS, fcnn.regularizers.L1L2(l1=0.1)),
    (SCHEDULES, fcnn.schedules.ReduceOnPlateau(0.1, column="loss")),
]


@pytest.mark.parametrize(("family", "member"), MEMBERS, ids=lambda x: getattr(x, "name", ""))
def test_a_configuration_is_json_and_builds_an_equal_member(family: Registry[Any], member: Any) -> None:
    text = json.dumps(family.config(member))
    assert family.build(json.loads(text)) == member
    assert family.resolve(json.loads(text)) == member


def test_a_layers_configuration_holds_those_of_its_parts() -> None:
    layer = fcnn.Residual([fcnn.Dense(THREE, activation=fcnn.activations.ELU(0.5), l2=HALF), "tanh"])
    again = LAYERS.build(json.loads(json.dumps(LAYERS.config(layer))))
    assert LAYERS.config(again) == LAYERS.config(layer)
    assert repr(again) == repr(layer)


ARITHMETIC: list[tuple[Registry[Any], str]] = [
    (family, name) for family in (ACTIVATIONS, LAYERS, LOSSES, OPTIMIZERS) for name in family
]
"""What computes with its fields beside arrays."""


@pytest.mark.parametrize(("family", "name"), ARITHMETIC, ids=lambda x: getattr(x, "family", x))
def test_a_numpy_number_becomes_a_python_number(family: Registry[Any], name: str) -> None:
    """Beside a float32 array a NumPy float64 makes NumPy compute in float64, through buffers."""
    needed: dict[str, dict[str, Any]] = {
        "dense": {"n_out": 2},
        "activation": {"activation": "relu"},
        "embedding": {"columns": [0], "n_categories": 2},
        "piecewise_linear_embedding": {"bins": [[0, 1]]},
        "residual": {"block": ["relu"]},
        "branches": {"branches": [["relu"]]},
        "members": {"members": 2},
        "gaussian_noise": {"std": 0.5},
        "group_norm": {"n_groups": 2},
        "dense_ensemble": {"units": 2, "members": 2},
        "batch_ensemble": {"units": 2, "members": 2},
    }
    numbers = {f.name: np.float64(0.5) for f in fields(family[name]) if f.type in ("float", "float | None")}
    settings = (
        [numbers]
        if family is not OPTIMIZERS
        else [
            {key: value for key, value in numbers.items() if key != left_out}
            for left_out in ("clip_norm", "clip_value")
        ]
    )
    for given in settings:
        member = family[name](**needed.get(name, {}), **given)
        assert {key: (type(getattr(member, key)), getattr(member, key)) for key in given} == dict.fromkeys(
            given, (float, 0.5)
        )


def test_a_configuration_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match='configuration of an activation needs a "name"'):
        fcnn.Dense(3, activation={"alpha": 0.1})


def test_a_class_that_is_not_registered_has_no_configuration() -> None:
    @dataclass(frozen=True)
    class Mine(Initializer):
        def __call__(self, rng: np.random.Generator, n_out: int, n_in: int) -> Any:
            return np.ones((n_out, n_in))

    class WiderDense(fcnn.Dense):
        """Would be written as "dense" and come back as one."""

    model = fcnn.Sequential([fcnn.Dense(1, init=Mine())], n_in=2, backend="numpy")
    with pytest.raises(TypeError, match="Mine is not registered"):
        model.config()
    with pytest.raises(TypeError, match="WiderDense is not registered"):
        fcnn.Sequential([WiderDense(1)], n_in=2, backend="numpy").config()


@pytest.mark.parametrize("family", [family for family, _, _ in FAMILIES], ids=lambda family: family.family)
def test_what_is_to_be_written_for_a_class_of_one_s_own_registers_it(family: Registry[Any]) -> None:
    said = family._how_to_register(MyOwn)
    told = re.fullmatch(r"Write @(\w+).register\(\"my_own\"\) above the class \((.*)\), and .*", said)
    assert told is not None
    names: dict[str, Any] = {}
    exec(told[2], names)
    assert names[told[1]] is family


class MyOwn:
    """Of no family."""


def test_a_new_member_is_known_by_its_name_everywhere() -> None:
    family: Registry[Initializer] = Registry("test initializer", Initializer)

    @family.register("ones")
    @dataclass(frozen=True)
    class Ones(Initializer):
        pass

    assert list(family) == ["ones"]
    assert family["ones"] is Ones
    with pytest.raises(ValueError, match="already a test initializer named 'ones'"):
        family.register("ones")(Ones)
