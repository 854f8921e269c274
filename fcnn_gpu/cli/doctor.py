"""`fcnn-gpu doctor`"""

from __future__ import annotations

import json
from typing import Annotated

import typer


def doctor(
    device: Annotated[int, typer.Option(help="The number of the CUDA device to look at.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> int:
    """Say whether this machine can train, on the CPU and on a CUDA GPU, and what would mend what is not in order.

    For the CPU it also says how fast NumPy multiplies matrices, and which variables keep it from being faster.
    Exits with 0 when training on the CPU works, whatever the GPU's state.
    """
    from .._checks import check_integer  # which the help does without
    from ..doctor import examine, print_report

    check_integer("--device", device, low=0)
    report = examine(device)
    if as_json:
        print(json.dumps(report.plain(), indent=2))
    else:
        print_report(report)
    return 0 if report.cpu_works else 1
