"""How much memory training or inference takes, by kind."""

from __future__ import annotations

from dataclasses import dataclass

from .._console import counted
from .._html import ShownAsText


def human(n_bytes: float) -> str:
    """A number of bytes in the unit that people would name it in: 512 B, 1.5 KiB, 2.1 GiB."""
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    size, unit = float(n_bytes), 0
    while abs(size) >= 1024 and unit < len(units) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:,.0f} B" if unit == 0 else f"{size:,.1f} {units[unit]}"


@dataclass(frozen=True)
class MemoryReport(ShownAsText):
    """Bytes by kind, on the device that the model is bound to; on a GPU as CuPy's pool hands them out.

    Attributes:
        device: what the model is bound to.
        batch_size: samples in a batch.
        training: whether training was asked about, or inference.
        parameters: weights, biases, normalization parameters and running statistics, and their 16-bit copies; in
            training the statistics twice, since a step that diverges is taken back.
        gradients: one number for each parameter.
        optimizer: moments and velocities, and the step's few numbers.
        activations: what the layers keep of a batch, and the gradients of activations.
        scratch: what primitives write down on the way.
        workspace: what cuBLAS works in.
        batch: the batch itself, its targets and losses.
        data: the data set, where one was named, and the order of its samples.
        micro_batch_size: at most so many samples of a batch are computed on at a time; None: all of them.
        tiles: the buffers that weights on the host or on disk pass through.
        host: beside a GPU, what is taken of the host's memory: such weights, their moments and their tiles, what reads
            a data source, and what copies to the device pass through.
        disk: bytes of the files of weights on disk, both generations of each.
        page_locked: how much of `host` is page-locked, which the system can give to nobody else.

    A CUDA context with its compiled kernels takes some hundred megabytes more, which no library can predict.
    """

    device: str
    batch_size: int
    training: bool
    parameters: int
    gradients: int
    optimizer: int
    activations: int
    scratch: int
    workspace: int
    batch: int
    data: int
    micro_batch_size: int | None = None
    tiles: int = 0
    host: int = 0
    disk: int = 0
    page_locked: int = 0

    @property
    def by_kind(self) -> dict[str, int]:
        """Bytes of each kind, in the order of the table."""
        return {name: getattr(self, name) for name in KINDS}

    @property
    def total(self) -> int:
        """The sum of all kinds: what is taken on the device."""
        return sum(self.by_kind.values())

    def __str__(self) -> str:
        purpose = "Training" if self.training else "Inference"
        rows = [(name.replace("_", " "), n) for name, n in self.by_kind.items() if n] + [("total", self.total)]
        elsewhere = ("on the host", self.host), ("page-locked", self.page_locked), ("on disk", self.disk)
        rows += [(place, n) for place, n in elsewhere if n]
        parts = "" if self.micro_batch_size is None else f", {counted(self.micro_batch_size, 'sample')} at a time,"
        title = f"{purpose} in batches of {self.batch_size:,}{parts} on {self.device}"
        return "\n".join([title, *(f"  {name:<12}{human(n):>12}{n:>20,} bytes" for name, n in rows)])


KINDS = ("parameters", "gradients", "optimizer", "tiles", "activations", "scratch", "workspace", "batch", "data")
"""Of memory on the device, in the order of the table."""
