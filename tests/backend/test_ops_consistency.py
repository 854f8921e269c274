"""CupyOps stays a drop-in for Ops: same signatures, every primitive overridden or known to be safe, and tested."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from fcnn_gpu.backend._cupy import CupyOps
from fcnn_gpu.backend._kernel_source import kernels
from fcnn_gpu.backend._ops import ELEMENTWISE, ELEMENTWISE_LOSSES, Ops

from ..support.op_cases import CASES

INHERITED = {"empty", "zeros", "matrix", "copy", "fill", "scratch", "ones", "capture_over", "gradients_lie_apart"}
"""What CupyOps takes from Ops as it is: allocation through `xp`, methods of arrays, and what gives None or False."""

WITHOUT_ARRAYS = {
    "adopt",
    "side_stream",
    "free_memory",
    "release_memory",
    "describe",
    "synchronize",
    "stopwatch",
    "capture",
    "capture_over",
    "with_precision",
    "fusion_obstacle",
    "fusion_pays",
    "gradients_lie_apart",
}
"""What has no result to compare."""


def _public(cls: type) -> dict[str, Any]:
    return {name: value for name, value in inspect.getmembers(cls, inspect.isfunction) if not name.startswith("_")}


def _own(cls: type, name: str) -> Any:
    """What `cls` has under this name instead of the reference's function, under the device's wrapper, or None."""
    function = inspect.unwrap(getattr(cls, name))
    return function if function is not getattr(Ops, name) else None


@pytest.mark.parametrize("name", sorted(_public(Ops)))
def test_override_keeps_the_signature(name: str) -> None:
    # Annotations are strings in both modules, so this compares names, order, defaults and types.
    assert inspect.signature(getattr(CupyOps, name)) == inspect.signature(getattr(Ops, name))


def test_every_primitive_is_overridden_or_known_to_be_safe() -> None:
    inherited = {name for name in _public(Ops) if _own(CupyOps, name) is None}
    assert inherited == INHERITED


@pytest.mark.parametrize("name", sorted(INHERITED))
def test_an_inherited_primitive_calls_no_numpy_function(name: str) -> None:
    # np.dtype is a type, not a function of arrays.
    source = inspect.getsource(inspect.unwrap(getattr(Ops, name))).replace("np.dtype(", "")
    assert "np." not in source


def test_nothing_public_beyond_the_primitives() -> None:
    assert set(_public(CupyOps)) == set(_public(Ops))


def test_every_primitive_has_a_case() -> None:
    assert set(CASES) == set(_public(Ops)) - WITHOUT_ARRAYS


def test_activations_are_numbered_alike() -> None:
    numbers = dict(kernels("bias_activation")["bias_activation"].enumerators)
    for number, kind in enumerate(ELEMENTWISE):
        assert numbers[kind.upper()] == number


def test_elementwise_losses_are_numbered_alike() -> None:
    numbers = dict(kernels("elementwise_loss")["elementwise_loss"].enumerators)
    for number, kind in enumerate(ELEMENTWISE_LOSSES):
        assert numbers[kind.upper()] == number


def test_activation_kernels_cover_float_types_and_kinds() -> None:
    for stem, kernel in [("bias_activation", "bias_activation"), ("activation_backward", "activation_backward_bias")]:
        instances = {i.arguments for i in kernels(stem)[kernel].instances}
        kinds = {kind.upper() for kind in ELEMENTWISE}
        assert instances == {(t, k) for t in ("float", "double", "__half", "__nv_bfloat16") for k in kinds}


def test_the_emulated_array_refuses_numpy_functions() -> None:
    from ..support.emulated import DeviceArray

    x = np.ones(3).view(DeviceArray)
    with pytest.raises(TypeError, match=r"np\.add was called on a device array"):
        np.add(x, 1)
    with pytest.raises(TypeError, match=r"np\.matmul"):
        x @ x
    with pytest.raises(TypeError, match=r"np\.copyto"):
        np.copyto(x, x)
    with pytest.raises(TypeError, match="waits for the device"):
        x[0]
    with pytest.raises(TypeError, match="waits for the device"):
        float(x[:1])
