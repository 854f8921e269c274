"""What `fcnn-gpu bench` was asked for, as the benchmark's own settings."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

from .._checks import check_choice, check_integer, check_real
from ..bench.nets import STANDARD_CASES, Case, Net
from ..bench.report import QUICK
from ..bench.settings import INSTRUCTIONS, PEERS, Settings
from ._defaults import BENCH_BATCH

"""Of --net without --batch."""


def make_cases(
    nets: Sequence[str] | None, batches: Sequence[int] | None, dropout: float, batch_norm: bool
) -> tuple[Case, ...]:
    """Every net with every batch size; without either, the standard cases."""
    for batch in batches or ():
        check_integer("--batch", batch, low=1)
    check_real("--dropout", dropout, low=0, high=1, high_open=True)
    if not nets:
        if dropout or batch_norm:
            raise ValueError("--dropout and --batch-norm go with --net: the standard cases have their own.")
        if not batches:
            return STANDARD_CASES
        chosen = list(dict.fromkeys(case.net for case in STANDARD_CASES))
    else:
        chosen = [_net(name, dropout, batch_norm) for name in nets]
    return tuple(Case(net, batch) for net, batch in itertools.product(chosen, batches or [BENCH_BATCH]))


def _net(name: str, dropout: float, batch_norm: bool) -> Net:
    net = Net.parse(name)
    return dataclasses.replace(net, dropout=dropout or net.dropout, batch_norm=batch_norm or net.batch_norm)


def make_settings(
    *,
    against: str | None,
    rounds: int | None,
    seed: int,
    instructions: str,
    dtype: str,
    compile: bool,
    keep_environment: bool,
    timeout: float,
    quick: bool,
) -> Settings:
    """The settings; a ValueError or TypeError names the option that cannot be."""
    if rounds is not None:
        check_integer("--rounds", rounds, low=1)
    check_integer("--seed", seed, low=0)
    check_choice("--dtype", dtype, ("float32", "float64"))
    check_real("--timeout", timeout, low=0, low_open=True)
    given: dict[str, Any] = dict(QUICK) if quick else {}
    if rounds is not None:
        given["rounds"] = rounds
    return Settings(
        seed=seed,
        instructions=next(known for known in INSTRUCTIONS if known == _instructions(instructions)),
        libraries=_peers(against),
        compile=compile,
        keep_environment=keep_environment,
        dtype=dtype,
        timeout=timeout,
        **given,
    )


def _instructions(name: str) -> str:
    return check_choice("--instructions", name, INSTRUCTIONS)


def _peers(against: str | None) -> tuple[str, ...]:
    """The libraries that a list such as "torch,jax" names; "none" is the empty one, None all."""
    if against is None:
        return PEERS
    names = [name.strip().lower() for name in against.split(",")]
    if names == ["none"]:
        return ()
    for name in names:
        if name == "none":
            raise ValueError(f"--against none stands alone, got {against!r}.")
        if name not in PEERS:
            raise ValueError(f"--against: unknown library {name!r}; known: {', '.join(PEERS)}, none.")
    return tuple(dict.fromkeys(names))
