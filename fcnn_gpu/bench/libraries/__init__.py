"""The libraries that are compared, and who takes part in a case."""

from __future__ import annotations

from dataclasses import dataclass

from ..results import OURS, Absent
from ..settings import Settings
from ._base import Contestant as Contestant
from ._base import Library as Library
from ._base import Problem as Problem
from ._base import Unavailable as Unavailable
from .jax import Jax
from .ours import Ours
from .ours import backends_here as backends_here
from .pytorch import PyTorch
from .sklearn import Sklearn

LIBRARIES: dict[str, Library] = {library.key: library for library in (Ours(), PyTorch(), Jax(), Sklearn())}
"""By the names that the command line takes; ours is one of them."""


@dataclass(frozen=True)
class Entrant:
    """One library in one variant, by the key of `LIBRARIES`."""

    key: str
    variant: str

    @property
    def library(self) -> str:
        """The library's name in tables."""
        return LIBRARIES[self.key].name

    @property
    def label(self) -> str:
        """Library and variant in one phrase."""
        return f"{self.library} {self.variant}".strip()


def own_variants(problem: Problem, settings: Settings) -> list[Entrant]:
    """Our variants at this case. The first is the reference, which all others must agree with."""
    return [Entrant(OURS, variant) for variant in LIBRARIES[OURS].variants(problem, settings)]


def peers(problem: Problem, settings: Settings) -> tuple[list[Entrant], list[Absent]]:
    """The peers that can be tried at this case, and those that cannot, with the reasons."""
    present: list[Entrant] = []
    absent: list[Absent] = []
    for key in settings.libraries:
        library = LIBRARIES[key]
        reason = library.missing() or library.lacks(problem)
        if reason is not None:
            absent.append(Absent(library.name, "", reason))
            continue
        for variant, left_out in library.variants(problem, settings).items():
            if left_out is None:
                present.append(Entrant(key, variant))
            else:
                absent.append(Absent(library.name, variant, left_out))
    return present, absent
