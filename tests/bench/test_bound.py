"""The verdicts: what bounds a primitive or a step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fcnn_gpu.bench.bound import step_verdict, verdict
from fcnn_gpu.bench.results import Ceilings

CPU = Ceilings(
    device="CPU (NumPy)",
    dtype="float32",
    product_flops_per_second=1e11,
    product_shape="2048 × 2048 × 2048",
    copy_bytes_per_second=1e10,
    copy_bytes=2**28,
    call_seconds=1e-6,
    copy_rates=[(2**16, 1e11), (2**20, 5e10), (2**28, 1e10)],
)
GPU = replace(CPU, device="NVIDIA H100 (device 0)")


@pytest.mark.parametrize(
    ("flops", "n_bytes", "calls", "bound"),
    [(9e7, 1e6, 1, "arithmetic"), (1e6, 2e7, 1, "memory"), (1e3, 1e3, 500, "Python"), (0, 0, 1, "Python")],
)
def test_a_primitive_is_bound_by_the_largest_floor(flops: float, n_bytes: float, calls: int, bound: str) -> None:
    assert verdict(1e-3, flops, n_bytes, CPU, calls)[0] == bound


def test_the_phrase_holds_the_shares() -> None:
    _, because = verdict(1e-3, 9e7, 3e7, CPU, calls=5)
    assert because == "90 % of a large product's FLOP/s, 300 % of a copy's bytes/s; 5 calls explain 0.5 % of the time"


def test_small_arrays_are_held_to_the_copy_that_fits_their_cache() -> None:
    assert [CPU.copy_rate(n) for n in (1, 2**16, 2**16 + 1, 2**20, 2**28, 2**30)] == [
        1e11,
        1e11,
        5e10,
        5e10,
        1e10,
        1e10,
    ]
    assert replace(CPU, copy_rates=[]).copy_rate(1) == 1e10


def test_calls_are_launches_on_a_gpu_that_does_not_wait_for_its_host() -> None:
    assert verdict(1e-3, 0, 0, GPU, 900, host_seconds=1e-4)[0] == "launches"
    assert verdict(1e-3, 0, 0, GPU, 900, host_seconds=0.99e-3)[0] == "Python"
    assert verdict(1e-3, 0, 0, GPU, 900)[0] == "launches"


def judge(ceilings: Ceilings = CPU, **parts: Any) -> tuple[str, str]:
    step: dict[str, Any] = {
        "seconds": 1e-3,
        "flops": 5e7,
        "bytes": 1e6,
        "products_seconds": 6e-4,
        "products_bytes": 1e5,
        "hollow_seconds": 5e-5,
    }
    return step_verdict(ceilings=ceilings, **(step | parts))


def test_a_step_is_bound_by_its_largest_part() -> None:
    assert judge()[0] == "arithmetic"
    assert judge(products_seconds=3e-4)[0] == "memory"  # the passes around the products are 65 %
    assert judge(products_seconds=2e-4, hollow_seconds=6e-4)[0] == "Python"
    assert judge(GPU, products_seconds=2e-4, hollow_seconds=6e-4, host_seconds=1e-4)[0] == "launches"
    assert judge(GPU, products_seconds=2e-4, hollow_seconds=6e-4, host_seconds=1e-3)[0] == "Python"


def test_products_that_only_read_their_arguments_are_memory() -> None:
    """A batch of one: each weight is used once, so the product is as fast as its weights arrive."""
    assert judge(products_seconds=9e-4, flops=4e6, products_bytes=8e6)[0] == "memory"
    assert judge(products_seconds=9e-4, flops=4e6, products_bytes=2e6)[0] == "arithmetic"  # slow, but not for memory


def test_the_parts_of_a_step_in_words() -> None:
    _, because = judge()
    assert because == (
        "matrix products 60 % of the time, at 83 % of a large product's FLOP/s; passes around them 35 %; calls 5 %. "
        "The least traffic alone would take 2 %"
    )
    _, because = judge(products_seconds=1.1e-3)  # noise: the products alone took longer than the step
    assert "products 100 %" in because
    assert "around them 0 %" in because
