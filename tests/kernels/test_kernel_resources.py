"""The command that prints registers, spills and shared memory."""

from __future__ import annotations

import pytest

from benchmarks import kernel_resources
from fcnn_gpu.backend._nvrtc import Resources


@pytest.mark.usefixtures("nvrtc")
def test_prints_a_row_per_instance(capsys: pytest.CaptureFixture[str]) -> None:
    assert kernel_resources.main(["sum_chunks", "--architecture", "sm_80", "sm_90"]) == 0
    printed = capsys.readouterr().out
    for line in (
        "sum_chunks.cu, sm_80",
        "sum_chunks.cu, sm_90",
        "sum_chunks<float>",
        "sum_chunks<double>",
        "registers",
    ):
        assert line in printed


def test_without_the_compiler_it_fails_and_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kernel_resources, "missing_nvrtc", lambda: "NVRTC is not installed: pip install it")
    assert kernel_resources.main([]) == 1
    assert "pip install it" in capsys.readouterr().err


def test_an_unknown_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        kernel_resources.main(["nonsense"])
    assert "no kernel file nonsense" in capsys.readouterr().err


@pytest.mark.parametrize(("registers", "block", "blocks"), [(32, 256, 8), (33, 256, 6), (128, 256, 2), (255, 256, 1)])
def test_how_many_blocks_the_registers_allow(registers: int, block: int, blocks: int) -> None:
    assert kernel_resources.occupancy_limit(Resources(registers, 0, 0, 0, 0), block) == blocks
