"""One training step and one batch of inference of whole networks, by us alone.

`fcnn-gpu bench nets` compares them with the peers, in processes of their own; this is for looking at a change.
"""

from __future__ import annotations

from typing import Any

import pytest

from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.bench.libraries._base import Problem
from fcnn_gpu.bench.libraries.ours import OurNet
from fcnn_gpu.bench.nets import STANDARD_CASES, Case
from fcnn_gpu.bench.results import Job


@pytest.mark.parametrize("job", ["train", "infer"])
@pytest.mark.parametrize("case", STANDARD_CASES, ids=str)
def test_step(benchmark: Any, ops: Ops, case: Case, job: Job) -> None:
    net = OurNet(Problem(case.net, case.batch, ops.name))
    repeat = net.train if job == "train" else net.infer
    benchmark.group = f"{job}: {case}"
    benchmark.extra_info.update(device=ops.describe(), flops=case.net.flops(case.batch, job))

    def step() -> None:
        repeat(1)
        net.wait()

    benchmark(step)
    net.check()
