"""No mutant of any file is taken for what it is not, leaks an error of another type, or takes too much memory."""

from __future__ import annotations

import importlib.util

import pytest

from tests.support.faults import Faults, told
from tests.support.limited import needs_limits
from tests.support.mutants import mutant, resigned_json
from tests.support.mutated_files import KINDS

COUNTS = {"model": 300, "folder": 150}
_OTHERS = 120
ENDED = {"parquet": 1208}
"""A mutant at which a library once ended the process."""


@needs_limits
@pytest.mark.parametrize("kind", KINDS)
def test_a_mutant_is_refused_or_read_for_what_it_is(kind: str, faults: Faults) -> None:
    if kind == "parquet" and not importlib.util.find_spec("pyarrow"):
        pytest.skip("pyarrow is not installed")
    first = faults.seed * 1_000_000
    found = faults.inject("mutated_files", kind, COUNTS.get(kind, _OTHERS), first)
    if kind in ENDED:
        found += Faults(1, 0).inject("mutated_files", kind, 1, ENDED[kind])
    call = f'tests.support.mutated_files.main("{kind}", 1, MUTANT)'
    assert not found, told(found, f"One mutant alone: {call}")


def test_mutants_are_others_than_the_file_and_the_same_again() -> None:
    content = bytes(range(256)) * 4
    made = [mutant(seed, content, b"another file") for seed in range(300)]
    assert content not in made
    assert len(set(made)) > 280
    assert made == [mutant(seed, content, b"another file") for seed in range(300)]
    assert mutant(1, b"") != b""
    value = {"n": 3, "layers": [{"name": "dense", "n_out": 2, "bias": True}], "x": 0.5, "nothing": None}
    texts = [resigned_json(seed, value) for seed in range(300)]
    assert len(set(texts)) > 200
    assert texts == [resigned_json(seed, value) for seed in range(300)]
