"""The probe, `fcnn-gpu` and its error messages with the real CuPy on devices that are there, broken or missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.software_cuda import build, environment
from tests.software_cuda.required import skip_unless_buildable

LINKS = """
import json, sys
from dataclasses import asdict
from fcnn_gpu.backend._probe import probe_links
print(json.dumps([asdict(link) for link in probe_links(int(sys.argv[1]))]))
"""


@pytest.fixture(autouse=True)
def buildable() -> None:
    skip_unless_buildable()


def process(*command: str, without: str = "", variables: dict[str, str] | None = None, **settings: object) -> Any:
    """A Python process on software CUDA, without the library named so."""
    made = environment(build(), **settings)
    made["PYTHONPATH"] += os.pathsep + str(Path(__file__).parents[2])
    if without:
        libraries = [path for path in made["SOFTWARE_CUDA_LIBRARIES"].split(os.pathsep) if without not in path]
        made["SOFTWARE_CUDA_LIBRARIES"] = os.pathsep.join(libraries)
    return subprocess.run(
        [sys.executable, *command], env={**made, **(variables or {})}, capture_output=True, text=True, check=False
    )


def failing(device: int = 0, **how: Any) -> str:
    """The first link that fails, in one line; "" where all are in order."""
    done = process("-c", LINKS, str(device), **how)
    assert done.returncode == 0, done.stderr
    links = json.loads(done.stdout)
    for link in links:
        if link["ok"] is False:
            return f"{link['name']}: {link['detail']} {link['fix']}"
    assert all(link["ok"] for link in links)
    return ""


def test_a_device_that_works() -> None:
    assert failing() == ""


def test_the_second_of_two_devices() -> None:
    assert failing(1, devices=2) == ""


def test_device_3_of_1() -> None:
    assert failing(3) == (
        "CUDA device: there is no device 3; device numbers are 0. Choose one of these, as in backend='cupy:0'."
    )


def test_device_3_of_2() -> None:
    assert "there is no device 3; device numbers are 0 to 1." in failing(3, devices=2)


def test_no_device() -> None:
    assert failing(devices=0) == "CUDA device: the driver shows no device. Check with: nvidia-smi"


def test_devices_that_a_variable_hides() -> None:
    found = failing(devices=0, variables={"CUDA_VISIBLE_DEVICES": ""})
    assert found.endswith("CUDA_VISIBLE_DEVICES='' decides which are visible. Run: unset CUDA_VISIBLE_DEVICES")


def test_no_memory() -> None:
    found = failing(memory_mib=0)
    assert found.startswith("device memory: device 0 has no memory left (0.00 GiB of 0.00 GiB free).")
    assert "nvidia-smi" in found


def test_no_driver() -> None:
    assert failing(driver=0).startswith("NVIDIA driver: no NVIDIA driver answers")


def test_a_driver_that_is_too_old() -> None:
    found = failing(driver=11080)
    assert found.startswith("NVIDIA driver: the driver supports CUDA 11.8, older than the CUDA 1")
    assert "Update it" in found


@pytest.mark.parametrize(("library", "name"), [("cublas.", "cuBLAS"), ("nvrtc", "NVRTC")])
def test_a_library_that_is_missing(library: str, name: str) -> None:
    # Found loaded, or not at all: no real one may stand in for it.
    hidden = (
        "import sys; sys.argv[1:] = ['0']\nfrom cuda import pathfinder\nreal = pathfinder.load_nvidia_dynamic_lib\n"
    )
    hidden += (
        "def load(wanted):\n"
        f"    if wanted.startswith({library.strip('.')!r}) and wanted != 'cublasLt':\n"
        "        raise pathfinder.DynamicLibNotFoundError('it is not here')\n"
        "    return real(wanted)\n"
        "pathfinder.load_nvidia_dynamic_lib = load\n"
    )
    done = process("-c", hidden + LINKS, without=library)
    links = {link["name"]: link for link in json.loads(done.stdout)}
    assert not links["CUDA libraries"]["ok"]
    assert name in links["CUDA libraries"]["detail"]
    assert "pip install 'cupy-cuda" in links["CUDA libraries"]["fix"]
    assert links["kernel"]["ok"] is None


def test_a_cache_folder_that_cannot_be_written() -> None:
    found = failing(variables={"CUPY_CACHE_DIR": "/dev/null/cache"})
    assert found.startswith("kernel cache folder: /dev/null/cache cannot be written")
    assert "export CUPY_CACHE_DIR=" in found


def test_headers_that_are_missing(tmp_path: Path) -> None:
    """Found by the probe, and gone when the kernel is compiled: what the compiler says reaches the user."""
    hidden = "from cuda import pathfinder\npathfinder.find_nvidia_header_directory = lambda name: None\n"
    hidden += "import cupy\ncupy.cuda.get_cuda_path = lambda: None\n"
    done = process("-c", hidden + LINKS, "0", variables={"CUPY_CACHE_DIR": str(tmp_path)})
    links = {link["name"]: link for link in json.loads(done.stdout)}
    assert (
        links["CUDA headers"]["detail"]
        == "cuda_fp16.h and cuda_bf16.h are not in any folder that cuda-pathfinder knows."
    )
    assert "which brings the headers" in links["CUDA headers"]["fix"]


def test_the_doctor_on_two_devices() -> None:
    done = process("-m", "fcnn_gpu", "doctor", "--json", devices=2)
    assert done.returncode == 0, done.stderr
    assert "0 of 2: Software CUDA device" in done.stdout


def test_training_where_the_device_is_missing(tmp_path: Path) -> None:
    done = process("-m", "fcnn_gpu", "train", "--backend", "cupy:3", "--out", str(tmp_path / "out"))
    assert done.returncode == 1
    assert done.stderr == (
        "fcnn-gpu: error: CUDA device: there is no device 3; device numbers are 0. "
        "Choose one of these, as in backend='cupy:0'.\n"
    )
    assert not (tmp_path / "out").exists()


SAME_RUN = """
import sys
import numpy as np
import fcnn_gpu as fcnn
rng = np.random.default_rng(0)
X, y = rng.standard_normal((300, 20)).astype("f"), rng.integers(0, 4, 300)
for backend in ("auto", "numpy"):
    model = fcnn.Sequential([fcnn.Dense(16, activation="relu"), fcnn.Dense(4)], n_in=20, seed=0, backend=backend)
    history = fcnn.Trainer(model, optimizer=fcnn.Adam(0.01)).fit(X, y, epochs=3, progress=False)
    print(model.ops.name, f"{history['loss'][-1]:.4f}")
"""


def test_auto_takes_the_device_and_learns_the_same() -> None:
    done = process("-c", SAME_RUN)
    assert done.returncode == 0, done.stderr
    (device, on_device), (host, on_host) = (line.split() for line in done.stdout.splitlines())
    assert (device, host) == ("cupy:0", "numpy")
    assert float(on_device) == pytest.approx(float(on_host), abs=2e-4)


def test_auto_says_in_one_line_why_it_takes_the_cpu() -> None:
    done = process(
        "-c", "import logging; logging.basicConfig(format='%(message)s', level='INFO')\n" + SAME_RUN, devices=0
    )
    assert done.returncode == 0, done.stderr
    chosen, host = (line.split()[0] for line in done.stdout.splitlines())
    assert (chosen in ("cpu", "numpy"), host) == (True, "numpy")  # compiled where there is a C compiler
    assert len([line for line in done.stderr.splitlines() if "the driver shows no device" in line]) == 1
