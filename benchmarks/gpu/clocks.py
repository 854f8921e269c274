"""The device's clock, power and temperature while something runs on it: readings of the driver's, idle ones apart.

A GPU at rest turns its clocks down (an H200 to 345 of 1,980 MHz), so what stands in a report as the clock of a
measurement must have been read during it. The driver is asked through NVML, its library libnvidia-ml.so.1, which
needs no CUDA context: https://docs.nvidia.com/deploy/nvml-api/.
"""

from __future__ import annotations

import ctypes
import statistics
import sys
import threading
import time
from dataclasses import dataclass
from types import TracebackType

SECONDS_APART = 0.2
"""Of two readings. The driver's share of time with kernels is that of the last 1/6 s to 1 s."""
_BUSY_PERCENT = 50
"""From here on a reading counts as one under load."""
_LIBRARY = "nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1"
_SM_CLOCK, _GPU_TEMPERATURE = 1, 0
_LIMITS = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "temperature (software)",
    0x40: "temperature (hardware)",
    0x80: "power brake",
}
"""What keeps the clock down, by the driver's bits; idleness and settings of the user's are none of them."""


class NoClocks(RuntimeError):
    """The driver tells no clocks; the message says why."""


@dataclass(frozen=True)
class Reading:
    """One look at the device; None for what the driver does not tell."""

    megahertz: int | None
    """Of the multiprocessors."""
    watts: float | None
    celsius: int | None
    busy_percent: int | None
    """Of the last moments, the share in which a kernel ran."""
    limits: int = 0
    """The driver's bits for what keeps the clock down."""


@dataclass(frozen=True)
class Range:
    """Least, median and most of several readings."""

    least: float
    median: float
    most: float

    @classmethod
    def of(cls, values: list[float | None] | list[int | None]) -> Range | None:
        """Of the values that are known; None if none is."""
        known = [float(value) for value in values if value is not None]
        return cls(min(known), statistics.median(known), max(known)) if known else None

    def text(self, unit: str) -> str:
        """ "1,980 MHz", or "1,755 to 1,980 (median 1,965) MHz"."""
        if self.least == self.most:
            return f"{self.median:,.0f} {unit}"
        return f"{self.least:,.0f} to {self.most:,.0f} (median {self.median:,.0f}) {unit}"


@dataclass(frozen=True)
class Load:
    """What the driver said of the device during a part of the report."""

    n_readings: int
    n_busy: int
    """Readings of moments in which kernels ran at least half of the time; the ranges are those of these alone."""
    megahertz: Range | None = None
    watts: Range | None = None
    celsius: Range | None = None
    limits: dict[str, int] | None = None
    """What kept the clock down, and in how many of the busy readings."""
    idle_megahertz: float | None = None
    """Median of the readings in which no kernel ran."""
    unknown: str = ""
    """Why nothing was read."""

    @classmethod
    def of(cls, readings: list[Reading]) -> Load:
        """What several readings say."""
        busy = [r for r in readings if r.busy_percent is not None and r.busy_percent >= _BUSY_PERCENT]
        idle = Range.of([r.megahertz for r in readings if r.busy_percent == 0])
        limits = {name: n for bit, name in _LIMITS.items() if (n := sum(bool(r.limits & bit) for r in busy))}
        return cls(
            len(readings),
            len(busy),
            Range.of([r.megahertz for r in busy]),
            Range.of([r.watts for r in busy]),
            Range.of([r.celsius for r in busy]),
            limits or None,
            idle.median if idle else None,
        )

    def sentence(self) -> str:
        """One sentence for the page; it says so where there was no reading under load."""
        if self.unknown:
            return f"Clock, power and temperature under load are not known: {self.unknown}."
        idle = "" if self.idle_megahertz is None else f" Idle: {self.idle_megahertz:,.0f} MHz."
        if not self.n_busy:
            return (
                f"No clock under load was read: in none of {self.n_readings} readings had kernels run for half of the "
                f"time.{idle}"
            )
        known = ((self.megahertz, "MHz"), (self.watts, "W"), (self.celsius, "°C"))
        said = ", ".join(found.text(unit) for found, unit in known if found is not None) or "nothing told"
        held = "".join(f" Held down by {name} in {n}." for name, n in (self.limits or {}).items())
        return f"While kernels ran ({self.n_busy} of {self.n_readings} readings): {said}.{held}{idle}"


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class Nvml:
    """NVIDIA's management library for one device, by its PCI bus id: CUDA_VISIBLE_DEVICES renumbers, NVML does not.

    Raises NoClocks where the library or the device is not to be had.
    """

    def __init__(self, pci_bus_id: str) -> None:
        try:
            self._library = ctypes.CDLL(_LIBRARY)
        except OSError as error:
            raise NoClocks(f"NVML does not load ({error})") from error
        self._device = ctypes.c_void_p()
        status = self._call("nvmlInit_v2")
        if not status:
            found = ctypes.byref(self._device)
            status = self._call("nvmlDeviceGetHandleByPciBusId_v2", pci_bus_id.encode(), found)
        if status:
            raise NoClocks(f"NVML does not answer for device {pci_bus_id} (error {status})")

    def read(self) -> Reading:
        """A look at the device; takes well under a millisecond."""
        use = _Utilization()
        known = self._call("nvmlDeviceGetUtilizationRates", self._device, ctypes.byref(use)) == 0
        limits = ctypes.c_ulonglong()
        self._call("nvmlDeviceGetCurrentClocksThrottleReasons", self._device, ctypes.byref(limits))
        milliwatts = self._number("nvmlDeviceGetPowerUsage")
        return Reading(
            self._number("nvmlDeviceGetClockInfo", _SM_CLOCK),
            None if milliwatts is None else milliwatts / 1000,
            self._number("nvmlDeviceGetTemperature", _GPU_TEMPERATURE),
            use.gpu if known else None,
            limits.value,
        )

    def driver(self) -> str:
        """The driver's version, such as 580.159.03; empty where it is not told."""
        return self._text("nvmlSystemGetDriverVersion")

    def uuid(self) -> str:
        """What no other device has; empty where it is not told."""
        return self._text("nvmlDeviceGetUUID", self._device)

    def _text(self, name: str, *of: object) -> str:
        text = ctypes.create_string_buffer(96)
        return text.value.decode() if self._call(name, *of, text, 96) == 0 else ""

    def _number(self, name: str, *which: int) -> int | None:
        found = ctypes.c_uint()
        return found.value if self._call(name, self._device, *which, ctypes.byref(found)) == 0 else None

    def _call(self, name: str, *arguments: object) -> int:
        """The library's status, 0 for success; a function that this version lacks counts as one that fails."""
        try:
            function = getattr(self._library, name)
        except AttributeError:
            return -1
        return int(function(*arguments))


class Watch:
    """Reads the device again and again, in a thread of a process that has nothing else to do, until it is left."""

    def __init__(self, pci_bus_id: str) -> None:
        self._readings: list[Reading] = []
        self._over = threading.Event()
        self._unknown = ""
        try:
            self._nvml: Nvml | None = Nvml(pci_bus_id)
        except NoClocks as error:
            self._nvml, self._unknown = None, str(error)
        self._thread = threading.Thread(target=self._read, name="clocks", daemon=True)

    def __enter__(self) -> Watch:
        if self._nvml is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._nvml is not None:
            self._thread.join()

    def load(self) -> Load:
        """What was read so far."""
        return Load(0, 0, unknown=self._unknown) if self._unknown else Load.of(list(self._readings))

    def _read(self) -> None:
        assert self._nvml is not None
        while not self._over.is_set():
            start = time.monotonic()
            self._readings.append(self._nvml.read())
            self._over.wait(max(0.0, SECONDS_APART - (time.monotonic() - start)))
