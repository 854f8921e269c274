"""Files that were cut off or changed: a typed error that names the file, or a table."""

from __future__ import annotations

import pytest

for library in ("pandas", "pyarrow", "openpyxl"):
    pytest.importorskip(library)
