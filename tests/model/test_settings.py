"""Settings that the dtype of the network cannot hold: every number of every member of every family is asked about."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu._checks import check_in_dtype
from fcnn_gpu.activations import ACTIVATIONS
from fcnn_gpu.initializers import INITIALIZERS
from fcnn_gpu.layers import LAYERS
from fcnn_gpu.losses import LOSSES
from fcnn_gpu.optimizers import OPTIMIZERS

X = np.random.default_rng(0).standard_normal((8, 3))
TOO_SMALL, TOO_LARGE = 1e-50, 1e300


def _train(layers: list[Any], dtype: str, loss: Any = "mse", optimizer: Any = "sgd", **options: Any) -> None:
    model = fcnn.Sequential([*layers, fcnn.Dense(2)], 3, seed=0, backend="numpy", dtype=dtype, **options)
    y: Any = np.arange(8) % 2 if isinstance(loss, fcnn.CrossEntropy | fcnn.Focal) else X[:, :2]
    y = (y > 0) * 1.0 if loss.__class__ is fcnn.BinaryCrossEntropy else y
    fcnn.Trainer(model, loss, optimizer).fit(X, y, epochs=1, progress=False)


USES: dict[str, tuple[Any, Callable[[Any, str], None]]] = {
    "activation": (ACTIVATIONS, lambda member, dtype: _train([fcnn.Dense(4, activation=member)], dtype)),
    "activation layer": (ACTIVATIONS, lambda member, dtype: _train([fcnn.Activation(member)], dtype)),
    "initializer": (INITIALIZERS, lambda member, dtype: _train([fcnn.Dense(4, init=member)], dtype)),
    "residual": (INITIALIZERS, lambda member, dtype: _train([fcnn.Residual([fcnn.Dense(4)], init=member)], dtype)),
    "layer": (LAYERS, lambda member, dtype: _train([member], dtype)),
    "loss": (LOSSES, lambda member, dtype: _train([], dtype, loss=member)),
    "optimizer": (OPTIMIZERS, lambda member, dtype: _train([], dtype, optimizer=member)),
}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "dense": {"n_out": 4},
    "activation": {"activation": "tanh"},
    "dropout": {"p": 0.5},
    "alpha_dropout": {"p": 0.5},
    "gaussian_noise": {"std": 0.1},
    "group_norm": {"n_groups": 1},
    "members": {"members": 1},
    "dense_ensemble": {"units": 4, "members": 1},
    "batch_ensemble": {"units": 4, "members": 1},
}
CHOICES = {"clip_norm": 1.0, "clip_value": 1.0, "learning_rate": 0.1, "std": 0.1}
"""Numbers that are None by default, or may be something else."""


def _cases() -> Iterator[Any]:
    for use, (registry, run) in USES.items():
        for name in registry:
            cls = registry[name]
            for field in dataclasses.fields(cls) if name != "residual" else ():
                numeric = field.init and (isinstance(field.default, float) or field.name in CHOICES)
                for value in (TOO_SMALL, TOO_LARGE) if numeric else ():
                    made = {**ARGUMENTS.get(name, {}), field.name: value}
                    try:
                        cls(**made)
                    except ValueError:  # outside the interval of the setting itself
                        continue
                    label = f"{use} {name} {field.name}={value}"
                    yield pytest.param(lambda cls=cls, made=made: cls(**made), run, field.name, id=label)


@pytest.mark.filterwarnings("ignore::fcnn_gpu.initializers.SymmetryWarning")
@pytest.mark.parametrize(("make", "run", "setting"), list(_cases()))
def test_a_number_that_float32_does_not_have_is_refused(
    make: Callable[[], Any], run: Callable[[Any, str], None], setting: str
) -> None:
    with pytest.raises(ValueError, match=rf"\({setting}\) is 1e[-+]\d+, but float32 reaches from 1.18e-38 to 3.4e\+38"):
        run(make(), "float32")


def test_the_cases_are_there() -> None:
    names = {str(case.id) for case in _cases()}
    assert {"loss huber delta=1e-50", "activation elu alpha=1e+300", "optimizer adam eps=1e-50"} <= names


@pytest.mark.parametrize("loss", [fcnn.Huber(1e-50), fcnn.CrossEntropy(class_weight=[1, 1e-50])])
def test_float64_has_them(loss: fcnn.Loss) -> None:
    _train([fcnn.Dense(4, activation=fcnn.activations.ELU(1e-50))], "float64", loss)


def test_weights_of_classes_and_the_inputs_scale() -> None:
    with pytest.raises(ValueError, match=r"CrossEntropy\(class_weight\): a weight is 1e-50"):
        _train([], "float32", fcnn.CrossEntropy(class_weight=[1, 1e-50]))
    for name in ("input_scale", "input_shift"):
        for value in (TOO_SMALL, TOO_LARGE):
            with pytest.raises(ValueError, match=rf"Sequential\({name}\) is .*, but float32 reaches"):
                _train([], "float32", **{name: value})


def test_a_loss_by_itself() -> None:
    with pytest.raises(ValueError, match="but float32 reaches"):
        fcnn.Huber(1e-50).forward(X.astype(np.float32), X)
    assert fcnn.Huber(1e-50).forward(X, X + 1) > 0


@pytest.mark.parametrize("placement", ["device", "host"])
def test_initial_weights_beyond_the_dtype(placement: Any) -> None:
    class Huge(fcnn.initializers.Initializer):
        name = "huge"

        def __call__(self, rng: np.random.Generator, n_out: int, n_in: int) -> Any:
            return np.arange(n_out * n_in).reshape(n_out, n_in) * 1e300

    with pytest.raises(ValueError, match=r"An initializer gave .*e\+30\d, which is outside the range of float32"):
        _train([fcnn.Dense(4, init=Huge(), placement=placement)], "float32")


def test_zero_and_the_ends_are_numbers() -> None:
    for value in (0.0, 1.2e-38, -3.4e38):
        check_in_dtype("x", value, np.float32)
    for value in (1e-39, -1e-39, 3.5e38, float("inf")):
        with pytest.raises(ValueError, match=f"x is {value:g}".replace("+", r"\+")):
            check_in_dtype("x", value, np.float32)
