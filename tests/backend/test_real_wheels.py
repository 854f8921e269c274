"""The recommended installations, CuPy and NVIDIA's wheels for CUDA 12 and 13: what shows of them without a device."""

from __future__ import annotations

import functools
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from fcnn_gpu.backend import _probe

from ..support.real_wheels import ENVIRONMENTS, INTERPRETERS, ROOT, broken_copy, check, run_in, site_packages

LINKS = """
from dataclasses import asdict
from fcnn_gpu.backend._probe import probe_links
result = [asdict(link) for link in probe_links(0)]
"""

EVERYTHING = """
import contextlib, inspect, io, logging, re
from dataclasses import asdict

said = io.StringIO()
logging.basicConfig(stream=said, format="%(message)s")
from fcnn_gpu.backend import BackendError, resolve_backend
from fcnn_gpu.backend._probe import _TRIAL_KERNEL, probe_links
from fcnn_gpu.cli import run

result = {"links": [asdict(link) for link in probe_links(0)], "auto": resolve_backend("auto").name}
result["log"] = said.getvalue().splitlines()
try:
    resolve_backend("cupy")
except BackendError as error:
    result["error"] = str(error)
for name, arguments in (("doctor", ["doctor", "--json"]), ("train", ["train", "--backend", "cupy", "--epochs", "1"])):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        result[name] = [run(arguments), out.getvalue(), err.getvalue()]

# CuPy's own search for headers and its compiler need no device.
import cupy
from cupy._core.core import assemble_cupy_compiler_options
from cupy_backends.cuda.libs import nvrtc
options = assemble_cupy_compiler_options(("-std=c++17",))
program = nvrtc.createProgram(_TRIAL_KERNEL, "trial.cu", (), ())
nvrtc.compileProgram(program, (*options, "-arch=sm_90"))
result |= {"options": options, "compiled": len(nvrtc.getCUBIN(program))}
result["packages"] = re.findall("'([a-z0-9-]+)'", inspect.getsource(cupy._environment._detect_duplicate_installation))
"""


@functools.cache
def everything(python: str) -> Any:
    return run_in(python, EVERYTHING)


@pytest.fixture(params=ENVIRONMENTS)
def python(request: pytest.FixtureRequest) -> str:
    """The interpreter of each environment in turn."""
    check(request.param)
    return str(request.param)


@pytest.fixture
def one_python() -> str:
    """The interpreter of one environment, for what the layout of NVIDIA's wheels has no part in."""
    check(next(iter(INTERPRETERS), ""))
    return INTERPRETERS[0]


@pytest.fixture
def found(python: str) -> Any:
    """What one process in that environment saw."""
    return everything(python)


def by_name(links: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {link["name"]: link for link in links}


def cuda_version(links: dict[str, dict[str, Any]]) -> str:
    """12 or 13"""
    match = re.fullmatch(r"cupy-cuda(\d+)x 14\.\d+\.\d+", links["CuPy package"]["detail"])
    assert match is not None
    return match[1]


def test_every_link_that_needs_no_device_is_in_order(found: Any) -> None:
    links = by_name(found["links"])
    version = cuda_version(links)
    for name in ("CuPy package", "CuPy import", "CUDA libraries", "CUDA headers"):
        assert links[name]["ok"], links[name]
    assert f"built for CUDA {version}." in links["CuPy import"]["detail"]
    assert re.fullmatch(rf"NVRTC {version}\.\d+, cuBLAS {version}\.\d+\.\d+", links["CUDA libraries"]["detail"])
    assert f"-I{links['CUDA headers']['detail']}" in found["options"]
    assert found["compiled"] > 1000


def test_the_link_that_fails_is_named_everywhere_with_its_remedy(found: Any) -> None:
    """No driver answers, or it shows no device."""
    first = next(link for link in found["links"] if link["ok"] is False)
    sentence = f"{first['name']}: {first['detail']} {first['fix']}"
    assert first["name"] in ("NVIDIA driver", "CUDA device")
    assert "nvidia-smi" in first["fix"] or "CUDA_VISIBLE_DEVICES" in first["fix"]
    assert found["error"] == sentence
    assert found["auto"] == "cpu"
    (line,) = found["log"]
    assert line.startswith("fcnn_gpu computes on the CPU (compiled kernels for ")
    assert line.endswith(f"): {sentence}")
    status, out, err = found["train"]
    assert (status, out, err) == (1, "", f"fcnn-gpu: error: {sentence}\n")
    status, out, _ = found["doctor"]
    assert status == 0
    assert f"For a GPU, first mend this: {sentence}".replace('"', '\\"') in out


def test_all_names_that_cupy_goes_by_are_looked_for(found: Any) -> None:
    ours = {*_probe._FITTING, *_probe._OTHER_CUDA, *_probe._OTHER_GPUS}
    assert ours == {name for name in found["packages"] if "cupy" in name}


@pytest.mark.parametrize(
    ("without", "said"),
    [
        (
            ["nvidia/*/lib/libcublas.so*", "nvidia/*/include/cuda_bf16.h"],
            r"cuBLAS does not load \(.*libcublas\.so.*\)\.",
        ),
        (["nvidia/*/lib/libnvrtc.so*"], r"NVRTC does not load \(.*libnvrtc\.so.*\)\."),
    ],
    ids=["cublas and a header", "nvrtc"],
)
def test_what_is_missing_is_named(python: str, without: list[str], said: str, tmp_path: Path) -> None:
    copy = broken_copy(python, tmp_path / "copy", without)
    links = by_name(run_in(copy, LINKS))
    version = cuda_version(links)
    libraries, headers = links["CUDA libraries"], links["CUDA headers"]
    assert not libraries["ok"]
    assert re.fullmatch(said, libraries["detail"])
    assert (
        libraries["fix"]
        == f"Run: pip install 'cupy-cuda{version}x[ctk]>=14.2,<15', which brings the CUDA libraries ([ctk])."
    )
    assert headers["ok"] == (len(without) == 1), headers
    if not headers["ok"]:
        folder = next((site_packages(str(copy)) / "nvidia").glob("*/include/cuda_runtime.h")).parent
        assert headers["detail"] == f"cuda_fp16.h and cuda_bf16.h are not in {folder}."
        assert f"pip install 'cupy-cuda{version}x[ctk]>=14.2,<15'" in headers["fix"]


def test_a_library_that_another_one_needs(one_python: str, tmp_path: Path) -> None:
    copy = broken_copy(one_python, tmp_path / "copy", ["nvidia/*/lib/libcublasLt.so*"])
    detail = by_name(run_in(copy, LINKS))["CUDA libraries"]["detail"]
    assert re.fullmatch(r"cuBLASLt does not load \(.*libcublasLt\.so.*\)\.", detail)


def test_a_library_that_is_none(one_python: str, tmp_path: Path) -> None:
    copy = broken_copy(one_python, tmp_path / "copy", ["nvidia/*/lib/libcublas.so*"])
    source, target = site_packages(one_python), site_packages(str(copy))
    for path in source.glob("nvidia/*/lib/libcublas.so*"):
        (target / path.relative_to(source)).write_text("half a download")
    detail = by_name(run_in(copy, LINKS))["CUDA libraries"]["detail"]
    assert re.fullmatch(r"cuBLAS does not load \(Failed to dlopen .*libcublas\.so.*: .*\)\.", detail)


def test_cupy_for_one_version_beside_the_libraries_of_another(tmp_path: Path) -> None:
    """As PyTorch for CUDA 13 brings them: cuda-pathfinder prefers those, and CuPy for CUDA 12 cannot use them."""
    check(next(iter(INTERPRETERS), ""))
    by_version = {cuda_version(by_name(everything(python)["links"])): python for python in INTERPRETERS}
    if by_version.keys() < {"12", "13"}:
        pytest.skip("needs an environment for CUDA 12 and one for CUDA 13")
    newer = site_packages(by_version["13"]) / "nvidia" / "cu13"
    copy = broken_copy(by_version["12"], tmp_path / "copy", ["nvidia/nothing"], [newer])
    link = by_name(run_in(copy, LINKS))["CUDA libraries"]
    assert link["detail"].startswith("CuPy uses CUDA 12, but the libraries found are cuBLAS 13.")
    install = "pip install 'cupy-cuda13x[ctk]>=14.2,<15'"
    assert link["fix"].startswith(f"Run: pip uninstall -y cupy-cuda12x && {install}, if the driver")


def test_cupy_that_cannot_be_imported(one_python: str, tmp_path: Path) -> None:
    copy = broken_copy(one_python, tmp_path / "copy", ["cuda/pathfinder"])
    link = by_name(run_in(copy, LINKS))["CuPy import"]
    assert link["detail"].startswith("`import cupy` fails with ")
    assert re.fullmatch(r"Run: pip install --force-reinstall 'cupy-cuda1[23]x>=14\.2,<15'", link["fix"])


def test_a_cache_folder_that_cannot_be_made_stops_cupy_from_being_imported(one_python: str, tmp_path: Path) -> None:
    """Why the probe looks at the folder first."""
    (tmp_path / "a-file").write_text("")
    program = """
from fcnn_gpu.backend._probe import failing_link, probe_links
result = {"probe": failing_link(probe_links(0)).name}
try:
    import cupy
except OSError as error:
    result["cupy"] = type(error).__name__
"""
    found = run_in(one_python, program, {"CUPY_CACHE_DIR": str(tmp_path / "a-file" / "cache")})
    assert found == {"probe": "kernel cache folder", "cupy": "NotADirectoryError"}


def test_the_versions_that_pip_is_told_are_those_that_the_probe_takes() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    required = [line for lines in extras.values() for line in lines if line.startswith("cupy")]
    assert len(required) >= 4
    assert {re.sub(r"cupy-cuda1[23]x(\[ctk\])?", "", line) for line in required} == {_probe._BOUNDS}
