"""The measure of memory itself: what a process uses is seen, and what it must not have it does not get."""

from __future__ import annotations

from tests.support.limited import needs_limits, run_limited

MB = 2**20

pytestmark = needs_limits


def test_the_peak_is_seen_after_it_has_been_let_go() -> None:
    small = run_limited("import numpy as np; result = 1")
    large = run_limited("import sys, numpy as np; result = float(np.ones(int(sys.argv[2])).sum())", 25 * MB)
    assert small.result == 1
    assert large.result == 25 * MB
    assert 200 * MB - MB <= large.peak - small.peak <= 200 * MB + 8 * MB


def test_a_mapped_file_counts_as_resident(tmp_path: object) -> None:
    code = """
    import sys, numpy as np
    path = sys.argv[2] + "/x.npy"
    np.lib.format.open_memmap(path, "w+", np.float32, (25, 2**20)).flush()
    x = np.load(path, mmap_mode="r")
    result = float(x.sum())
    """
    assert run_limited(code, tmp_path).peak > 100 * MB


def test_memory_beyond_the_limit_is_refused() -> None:
    code = """
    import numpy as np
    try:
        np.ones(50 * 2**20)
    except MemoryError:
        result = "refused"
    """
    assert run_limited(code, limit=300 * MB).result == "refused"
