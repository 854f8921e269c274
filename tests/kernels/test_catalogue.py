"""Every kernel file has a test and its kernels a row in the catalogue, so that none is added and forgotten."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fcnn_gpu.backend._kernel_source import kernel_folder, kernels, stems

ROOT = Path(__file__).parents[2]


def test_there_are_kernels() -> None:
    assert {"dropout", "gather", "matmul", "row_sum"} <= set(stems())


@pytest.mark.parametrize("stem", stems())
def test_has_a_test_file(stem: str) -> None:
    assert (ROOT / "tests" / "kernels" / f"test_{stem}.py").is_file()


def test_the_catalogue_lists_every_kernel_and_nothing_else() -> None:
    text = (kernel_folder() / "README.md").read_text(encoding="utf-8").partition("## Catalogue")[2]
    rows = [line.split("|")[1:3] for line in text.splitlines() if line.startswith("|")][2:]
    listed: set[tuple[str, str]] = set()
    stem = ""
    for file, kernel in rows:
        stem = file.strip().removesuffix(".cu") or stem
        listed |= {(stem, name) for name in re.findall(r"`(\w+)`", kernel)}
    assert listed == {(stem, name) for stem in stems() for name in kernels(stem)}
