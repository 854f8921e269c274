"""The whole report on the real CuPy, over software CUDA: every call that it makes of CuPy exists and answers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.gpu.catalogue import ALL
from benchmarks.gpu.file import load
from benchmarks.gpu.results import Choice, Fact, Fit, KernelTiming, LargeProduct, ProductTiming, StepTiming
from benchmarks.gpu.setting import ROOT
from tests import software_cuda
from tests.cuda_on_cpu import built
from tests.software_cuda.required import skip_unless_buildable

PARTS = ("environment", "mnist", "graphs", "products", "kernels", "large")


def test_the_report_runs_on_the_real_cupy(tmp_path: Path) -> None:
    """With clocks from a library of NVML's names, which the driver here lacks."""
    skip_unless_buildable()
    nvml = (Path(__file__).parent / "nvml.cpp").read_text(encoding="utf-8")
    shutil.copy(built("nvml.so", ("-shared", "-fPIC"), nvml), tmp_path / "libnvidia-ml.so.1")
    environment = software_cuda.environment(devices=1) | {"LD_LIBRARY_PATH": str(tmp_path)}
    out = tmp_path / "report"
    command = [sys.executable, "benchmarks/gpu_report.py", "--quick", "--no-peers", "--out", str(out), "--only", *PARTS]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = load(out, ALL)
    assert report is not None
    (run,) = report.runs
    assert run.setting.is_software
    assert run.setting.versions["driver"] == "580.159.03"
    found = {outcome.part.name: outcome for outcome in run.outcomes}
    assert set(found) == set(PARTS)
    for name, outcome in found.items():
        assert outcome.load is not None
        assert outcome.load.n_readings > 0, name
    expected = {
        "environment": Fact, "mnist": Fit, "graphs": StepTiming, "products": ProductTiming,
        "kernels": KernelTiming, "large": LargeProduct,
    }  # fmt: skip
    for name, kind in expected.items():
        assert found[name].of(kind), name
    assert found["products"].of(Choice)
    under_load = [fact.value for fact in found["products"].of(Fact) if fact.name.startswith("device under")]
    assert len(under_load) == 2
    assert all(fact.startswith(("While kernels ran", "No clock under load was read")) for fact in under_load)
    assert all(
        timing.kernels[0].registers is not None for timing in found["kernels"].of(KernelTiming) if timing.kernels
    )
    page = (out / "report.md").read_text(encoding="utf-8")
    assert "nothing here says anything about a GPU" in page
    assert "### Targets" not in page
