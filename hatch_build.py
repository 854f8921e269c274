"""Hatchling's build hook: compiles kernels/cpu, and puts the library into the wheel.

Without a C compiler the wheel has none: the package computes on NumPy then, and says what brings the compiled kernels.
The environment variable FCNN_COMPILED=1 makes that an error, FCNN_COMPILED=0 leaves them out.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

VARIABLE = "FCNN_COMPILED"


class CompiledKernels(BuildHookInterface):
    """Adds fcnn_gpu/fcnn_cpu.so and the wheel's platform, or a note that says why there is none."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        wanted = os.environ.get(VARIABLE, "")
        if wanted not in ("", "0", "1"):
            raise ValueError(f"{VARIABLE} expects 0 (without compiled kernels) or 1 (never without), got {wanted!r}.")
        make = _build_module(Path(self.root))
        if version == "editable":
            self._compile_beside(make, wanted)
            return
        self._folder = tempfile.TemporaryDirectory()
        library, note = Path(self._folder.name) / make.LIBRARY, Path(self._folder.name) / make.WHY_NOT
        reason = self._compile(make, library, wanted)
        if reason is None:
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{make.wheel_platform()}"
            build_data["force_include"][str(library)] = f"fcnn_gpu/{make.LIBRARY}"
        else:
            note.write_text(f"{reason}\n", encoding="utf-8")
            build_data["force_include"][str(note)] = f"fcnn_gpu/{make.WHY_NOT}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version != "editable":
            self._folder.cleanup()

    def _compile(self, make: Any, out: Path, wanted: str) -> str | None:
        """Why `out` could not be made; None where it was."""
        if wanted == "0":
            return f"{VARIABLE}=0 left them out"
        self.app.display_waiting("Compiling kernels/cpu")
        try:
            make.build(Path(self.root) / "kernels" / "cpu", out)
        except make.BuildError as error:
            if wanted == "1":
                raise RuntimeError(f"{VARIABLE}=1 asks for the compiled kernels, and {error}.") from None
            self.app.display_warning(f"fcnn_gpu is installed without its compiled kernels: {error}.")
            return str(error)
        return None

    def _compile_beside(self, make: Any, wanted: str) -> None:
        """An editable installation is used from the checkout, and so is the library under build/."""
        library = make.library_in(Path(self.root))
        if not library.exists():
            self._compile(make, library, wanted)


def _build_module(root: Path) -> Any:
    """fcnn_gpu/backend/_compiled/_build.py, without the package, which needs NumPy."""
    path = root / "fcnn_gpu" / "backend" / "_compiled" / "_build.py"
    spec = importlib.util.spec_from_file_location("fcnn_gpu_build", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
