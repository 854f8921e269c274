"""The doctor: a chain of links that is complete, never raises, and tells what to mend first."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

import fcnn_gpu.doctor as doctor
from fcnn_gpu.backend._probe import Link
from fcnn_gpu.cli import run
from fcnn_gpu.doctor import Report, examine, print_report

FINE = [Link("CuPy package", True, "cupy-cuda12x 14.2.0"), Link("kernel", True, "ran")]
NO_DRIVER = [
    Link("CuPy package", True, "cupy-cuda12x 14.2.0"),
    Link("NVIDIA driver", False, "no NVIDIA driver answers.", "Install [one]."),
    Link("CUDA device", None, "not checked: it needs NVIDIA driver first."),
]


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Link]], None]:
    """Sets what the probe of the CUDA device finds."""

    def set_links(links: list[Link]) -> None:
        monkeypatch.setattr(doctor, "probe_links", lambda device: links)

    return set_links


def raising(error: Exception) -> Callable[..., Any]:
    def fail(*arguments: Any) -> Any:
        raise error

    return fail


def test_this_machine() -> None:
    report = examine()
    assert report.cpu_works
    assert [link.name for link in report.cpu] == ["Python", "processor", "NumPy", "training step"]
    assert report.gpu[0].name == "kernel files"
    assert report.gpu[0].ok
    assert "thread" in report.cpu[2].detail
    for link in report.gpu:
        assert link.detail
        assert link.ok is not False or link.fix, f"{link.name} says no fix"


def test_a_sound_machine(probe: Callable[[list[Link]], None], capsys: pytest.CaptureFixture[str]) -> None:
    probe(FINE)
    assert examine().gpu_works
    assert run(["doctor"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "Training works on the CPU and on the GPU."
    assert " no " not in out


def test_a_machine_without_a_driver(probe: Callable[[list[Link]], None], capsys: pytest.CaptureFixture[str]) -> None:
    probe(NO_DRIVER)
    assert run(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "→ Install [one]." in out  # rich takes brackets for markup unless told otherwise
    assert out.splitlines()[-1] == (
        "Training works on the CPU. For a GPU, first mend this: NVIDIA driver: no NVIDIA driver answers. Install [one]."
    )


def test_json(probe: Callable[[list[Link]], None], capsys: pytest.CaptureFixture[str]) -> None:
    probe(NO_DRIVER)
    assert run(["doctor", "--json", "--device", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["cpu_works"], found["gpu_works"]) == (True, False)
    assert found["gpu"][2] == {
        "name": "NVIDIA driver",
        "ok": False,
        "detail": "no NVIDIA driver answers.",
        "fix": "Install [one].",
    }
    assert found["gpu"][3]["ok"] is None


def test_the_device_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def probe_links(device: int) -> list[Link]:
        asked.append(device)
        return FINE

    monkeypatch.setattr(doctor, "probe_links", probe_links)
    examine(3)
    assert asked == [3]


def test_a_machine_that_cannot_train(
    probe: Callable[[list[Link]], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    probe(FINE)
    monkeypatch.setattr("fcnn_gpu.training.Trainer.fit", lambda *arguments, **options: None)
    report = examine()
    assert not report.cpu_works
    assert not report.gpu_works
    assert run(["doctor"]) == 1
    assert "Training does not work here. First mend this: training step: ArithmeticError" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["probe_links", "stems", "_python", "_processor", "_numpy", "_training_step"])
def test_it_never_raises(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, name, raising(RuntimeError("out of\nthe blue")))
    report = examine()
    broken = [link for link in report.cpu + report.gpu if "out of the blue" in " ".join(link.detail.split())]
    assert len(broken) == 1
    assert broken[0].ok is False
    print_report(report)


def test_without_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    report = examine()
    assert report.cpu_works
    assert not report.gpu_works
    assert "For a GPU, first mend this" in report.verdict


def test_wrong_arithmetic_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcnn_gpu.doctor.np.array_equal", lambda a, b: False)
    assert "NumPy multiplied two small matrices wrongly" in Report(examine().cpu, []).verdict
