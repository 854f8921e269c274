"""What a benchmark run is asked for: threads, rounds, seed, peers and instruction sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .._checks import check_bool, check_choice, check_integer, check_real
from ..backend import PRECISIONS

PEERS = ("torch", "jax", "sklearn")
"""The peers by the names that `--against` and `Settings.libraries` take."""

Instructions = Literal["native", "avx2"]
INSTRUCTIONS: tuple[Instructions, ...] = ("native", "avx2")


@dataclass(frozen=True)
class Settings:
    """How the cases are timed.

    Args:
        threads: of every library alike; None for as many as this process may use physical cores.
        rounds: how often every library has its turn.
        round_seconds: about how long a turn lasts.
        seed: of the initial weights, the data and the order of its samples.
        instructions: "native" lets each library choose its kernels; "avx2" restricts all of them alike.
        libraries: the peers, out of `PEERS`.
        compile: also time `torch.compile`, which takes tens of seconds to begin.
        keep_environment: leave variables that restrict one library's kernels (OPENBLAS_CORETYPE, ...) as they are.
        dtype: "float32" or "float64".
        precision: of products and activations on a GPU, as `Sequential(precision=...)` takes it; None for dtype's.
        start_together: build the libraries' nets side by side. Saves minutes where they compile; the time of a first
            step then says nothing.
        transfers: on a GPU, also time steps whose batches come from the host.
        timeout: seconds after which a process that gives no answer is given up.
    """

    threads: int | None = None
    rounds: int = 15
    round_seconds: float = 0.15
    seed: int = 0
    instructions: Instructions = "native"
    libraries: tuple[str, ...] = PEERS
    compile: bool = False
    keep_environment: bool = False
    dtype: str = "float32"
    precision: str | None = None
    start_together: bool = False
    transfers: bool = True
    timeout: float = 300.0

    def __post_init__(self) -> None:
        if self.threads is not None:
            check_integer("threads", self.threads, low=1)
        check_integer("rounds", self.rounds, low=1)
        check_real("round_seconds", self.round_seconds, low=0.0, low_open=True)
        check_integer("seed", self.seed, low=0)
        check_choice("instructions", self.instructions, INSTRUCTIONS)
        if isinstance(self.libraries, str):
            raise TypeError(
                f"libraries expects a sequence of names, got {self.libraries!r}. Write ({self.libraries!r},)."
            )
        for name in self.libraries:
            check_choice("libraries", name, PEERS)
        object.__setattr__(self, "libraries", tuple(self.libraries))
        check_bool("compile", self.compile)
        check_bool("keep_environment", self.keep_environment)
        check_choice("dtype", self.dtype, ("float32", "float64"))
        if self.precision is not None:
            check_choice("precision", self.precision, PRECISIONS)
        check_bool("start_together", self.start_together)
        check_bool("transfers", self.transfers)
        check_real("timeout", self.timeout, low=0.0, low_open=True)
