"""Files that were cut off or changed: a typed error that names the file, or a table."""

from __future__ import annotations

import random
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from fcnn_gpu.datasets import DataFileError
from fcnn_gpu.tables import infer_kinds, read
from tests.support.messy_tables import FILES
from tests.support.mutants import ANY_FILE, TEXT_FILE, mutant

for library in ("pandas", "pyarrow", "openpyxl"):
    pytest.importorskip(library)
