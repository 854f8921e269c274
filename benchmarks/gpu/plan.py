"""What a GPU report is asked for, and what a part of it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from fcnn_gpu.backend import resolve_backend
from fcnn_gpu.backend._ops import Ops


@dataclass(frozen=True)
class Plan:
    """The same for all parts, but for the seconds.

    Args:
        backend: "cupy" or "cupy:<device>".
        quick: few and short rounds: to see that all works, not to quote.
        peers: whether PyTorch and JAX take part.
        seed: of weights, data and orders.
        select: which of the tests, as `pytest -k` takes it; empty for all.
        small: sizes that a program on the CPU can compute in the device's place.
        pci_bus_id: of the device, as the driver's tools know it.
        seconds: after so many the part is ended.
    """

    backend: str = "cupy:0"
    quick: bool = False
    peers: bool = True
    seed: int = 0
    select: str = ""
    small: bool = False
    pci_bus_id: str = ""
    seconds: float = 540.0

    @property
    def selection(self) -> list[str]:
        """The arguments of pytest that `select` stands for."""
        return ["-k", self.select] if self.select else []

    @property
    def device(self) -> int:
        """The number of the CUDA device."""
        return int(self.backend.partition(":")[2] or 0)

    def ops(self) -> Ops:
        """The primitives of the device."""
        return resolve_backend(self.backend)


@dataclass(frozen=True)
class Part:
    """One section of the report. `measure` runs in a process of its own and yields results as they come.

    Attributes:
        name: what `--only` calls it.
        title: its heading.
        seconds: after so many it is ended; what it had yielded stays.
        measure: yields dataclasses of `results`, or of fcnn_gpu.bench.results, or a str for a note.
        explains: what its numbers mean, for the page.
    """

    name: str
    title: str
    seconds: float
    measure: Callable[[Plan], Iterator[Any]]
    explains: tuple[str, ...] = ()
