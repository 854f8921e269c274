"""Clock, power and temperature of a device under load: NVML through a library of its names, compiled here."""

from __future__ import annotations

import ctypes
import shutil
import time
from pathlib import Path

import pytest

from benchmarks.gpu import clocks
from benchmarks.gpu.clocks import Load, NoClocks, Nvml, Reading, Watch
from tests.cuda_on_cpu import built, missing_compiler

BUS = "0000:41:00.0"
NVML = (Path(__file__).parent / "nvml.cpp").read_text(encoding="utf-8")


@pytest.fixture
def nvml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reason = missing_compiler()
    if reason:
        pytest.skip(reason)
    library = tmp_path / "libnvidia-ml.so.1"  # a copy is another library, with readings of its own
    shutil.copy(built("nvml.so", ("-shared", "-fPIC"), NVML), library)
    monkeypatch.setattr(clocks, "_LIBRARY", str(library))
    monkeypatch.setattr(clocks, "SECONDS_APART", 0.01)


@pytest.mark.usefixtures("nvml")
def test_what_the_driver_tells() -> None:
    found = Nvml(BUS)
    assert (found.driver(), found.uuid()) == ("580.159.03", "GPU-7")
    readings = [found.read() for _ in range(4)]
    assert readings[0] == Reading(345, 75.0, None, 0, 0x1)
    assert readings[3] == Reading(1755, 690.5, None, 97, 0x6)


@pytest.mark.usefixtures("nvml")
def test_the_clock_of_an_idle_device_is_not_given_as_the_clock_under_load() -> None:
    with Watch(BUS) as watch:
        end = time.monotonic() + 60
        while watch.load().n_busy < 2 and time.monotonic() < end:
            time.sleep(0.01)
    load = watch.load()
    assert load.n_readings == load.n_busy + 3
    assert load.megahertz == clocks.Range(1755, 1755, 1755)
    assert (load.celsius, load.limits, load.idle_megahertz) == (None, {"power cap": load.n_busy}, 345)
    assert load.sentence() == (
        f"While kernels ran ({load.n_busy} of {load.n_readings} readings): 1,755 MHz, 690 W. "
        f"Held down by power cap in {load.n_busy}. Idle: 345 MHz."
    )


@pytest.mark.usefixtures("nvml")
def test_a_device_that_the_driver_does_not_know_is_told() -> None:
    with pytest.raises(NoClocks, match=r"device 0000:99:00.0 \(error 6\)"):
        Nvml("0000:99:00.0")


def test_without_the_library_the_page_says_that_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clocks, "_LIBRARY", "libnothing-of-that-name.so.1")
    with Watch(BUS) as watch:
        pass
    assert "are not known: NVML does not load" in watch.load().sentence()


def test_readings_of_an_idle_device_alone_are_no_load() -> None:
    load = Load.of([Reading(345, 75.0, 30, 0), Reading(600, 80.0, 30, 12)])
    assert (load.n_busy, load.megahertz) == (0, None)
    assert load.sentence() == (
        "No clock under load was read: in none of 2 readings had kernels run for half of the time. Idle: 345 MHz."
    )


def test_a_library_without_a_function_tells_less(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Nvml.__new__(Nvml)
    found._library, found._device = ctypes.CDLL(None), ctypes.c_void_p()
    assert found.read() == Reading(None, None, None, None, 0)
    assert found.driver() == ""
