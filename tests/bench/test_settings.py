"""Settings check themselves."""

from __future__ import annotations

from typing import Any

import pytest

from fcnn_gpu.bench.settings import Settings


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("threads", 0, "threads expects an integer of at least 1"),
        ("rounds", 0, "rounds"),
        ("round_seconds", 0.0, "round_seconds"),
        ("seed", -1, "seed"),
        ("instructions", "sse", "instructions does not know 'sse'"),
        ("libraries", ("tensorflow",), "libraries does not know 'tensorflow'. .*jax, sklearn, torch"),
        ("dtype", "float16", "dtype does not know 'float16'"),
        ("precision", "int8", "precision does not know 'int8'"),
        ("timeout", 0.0, "timeout"),
    ],
)
def test_unusable_values(field: str, value: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Settings(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"), [("libraries", "torch"), ("compile", 1), ("keep_environment", "no"), ("start_together", 1)]
)
def test_wrong_types(field: str, value: Any) -> None:
    with pytest.raises(TypeError, match=field):
        Settings(**{field: value})


def test_a_list_of_libraries_will_do() -> None:
    assert Settings(libraries=["jax", "torch"]).libraries == ("jax", "torch")  # type: ignore[arg-type]
