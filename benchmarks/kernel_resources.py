"""Registers, spills and shared memory of every kernel instance, by architecture, as the compiler reports them.

    python benchmarks/kernel_resources.py [STEM ...] [--architecture sm_90 ...]

Needs no GPU: NVRTC compiles for any architecture. blocks/SM: how many blocks fit a multiprocessor's registers. A spill
(registers kept in memory) is shown in red.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from fcnn_gpu.backend._kernel_source import Instance, kernels, stems
from fcnn_gpu.backend._nvrtc import ARCHITECTURES, Resources, compile_check, missing_nvrtc


def occupancy_limit(need: Resources, block: int) -> int:
    """Blocks that fit into a multiprocessor's 65,536 registers (granted to a warp in units of 256)."""
    per_warp = -(-need.registers * 32 // 256) * 256
    return 65_536 // (per_warp * (block // 32)) if per_warp else 0


def resource_table(stem: str, architecture: str) -> Table:
    """One row per instance of kernels/<stem>.cu."""
    table = Table(title=f"{stem}.cu, {architecture}", title_justify="left")
    table.add_column("instance", no_wrap=True)
    for heading in ("block", "registers", "blocks/SM", "spilled B", "stack B", "shared B"):
        table.add_column(heading, justify="right")
    found: dict[Instance, Resources] = compile_check(stem, architecture).resources
    for instance, need in found.items():
        block = kernels(stem)[instance.kernel].block or min(256, kernels(stem)[instance.kernel].largest_block)
        spilled = need.spill_store_bytes + need.spill_load_bytes
        table.add_row(
            instance.expression,
            str(block),
            str(need.registers),
            str(occupancy_limit(need, block)),
            f"[red]{spilled}[/red]" if spilled else "0",
            str(need.stack_bytes),
            str(need.static_shared_bytes),
        )
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stem", nargs="*", help="kernel files, without .cu (default: all)")
    parser.add_argument("--architecture", nargs="+", choices=ARCHITECTURES, default=list(ARCHITECTURES))
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.stem) - set(stems()))
    if unknown:
        parser.error(f"no kernel file {', '.join(unknown)}; there are {', '.join(stems())}")
    missing = missing_nvrtc()
    if missing:
        print(missing, file=sys.stderr)
        return 1
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)  # a file or pipe has no width of its own
    for stem in options.stem or stems():
        for architecture in options.architecture:
            console.print(resource_table(stem, architecture))
    return 0


if __name__ == "__main__":
    sys.exit(main())
