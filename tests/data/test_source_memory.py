"""How much memory an epoch over a file takes that is larger, measured on the process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ..support.limited import needs_limits, run_limited

N_IN = 1024
MB = 10**6

CODE = """
import sys
import numpy as np
import fcnn_gpu as fcnn

path, limit, way, shuffle_buffer = sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]) or None
layers = [fcnn.Dense(10)]
model = fcnn.Sequential(layers, n_in=1024, seed=0, backend="numpy", input_scale=1 / 255)
trainer = fcnn.Trainer(model, metrics=["accuracy"])
X, y = np.load(path + "/X.npy", mmap_mode="r"), np.load(path + "/y.npy", mmap_mode="r")
if way == "memory map":
    data, options = (X, y), {}
else:
    data, options = (fcnn.datasets.open_npy(path + "/X.npy", path + "/y.npy"),), {"shuffle_buffer": shuffle_buffer}
trainer.fit(*data, epochs=1, batch_size=256, progress=False, memory_limit=limit, **options)
result = {"trained": trainer.history["accuracy"][-1]}
result["evaluated"] = trainer.evaluate(*data, memory_limit=limit)["accuracy"]
result["predicted"] = float((model.predict_classes(data[0]) == y).mean())
"""

BASE = """
import numpy as np
import fcnn_gpu as fcnn
result = fcnn.Sequential([fcnn.Dense(8)], n_in=1024, backend="numpy").predict(np.ones((1, 1024))).tolist()
"""


def write(folder: Path, n: int) -> None:
    """n samples of bytes as float32 and their labels, which a network can learn, without all of them in memory."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, n)
    X = np.lib.format.open_memmap(folder / "X.npy", "w+", np.float32, (n, N_IN))
    some = rng.integers(0, 100, (2000, N_IN)).astype(np.float32)
    for first in range(0, n, len(some)):
        part = slice(first, min(first + len(some), n))
        X[part] = some[: part.stop - first]
        X[np.arange(part.start, part.stop), labels[part]] += 155
    del X
    np.save(folder / "y.npy", labels.astype(np.uint8))


def check(folder: Path, n: int, way: str, limit: int, shuffle_buffer: int, peak: int) -> None:
    write(folder, n)
    done: Any = run_limited(CODE, folder, f"{limit} MB", way, shuffle_buffer)
    assert done.peak < peak, f"{done.peak / MB:.1f} MB"
    assert done.result["evaluated"] == done.result["predicted"] > 0.5


@needs_limits
@pytest.mark.parametrize("way", ["memory map", "source"])
def test_an_epoch_over_a_file_takes_a_part_of_it(way: str, tmp_path: Path) -> None:
    base = run_limited(BASE).peak
    # Where the system caches the file in pages of 2 MiB, a row of a map brings one of them with it, and not 64 KiB.
    room = 40 * MB if way == "source" else 160 * MB
    check(tmp_path, 400 * MB // (4 * N_IN), way, 28, 1500, base + room)


@pytest.mark.large
@needs_limits
@pytest.mark.parametrize("way", ["memory map", "source"])
def test_an_epoch_over_ten_gigabytes_takes_one(way: str, tmp_path: Path) -> None:
    check(tmp_path, 10_000 * MB // (4 * N_IN), way, 600, 0, 1000 * MB)


CUT_SHORT = """
import os, sys
import numpy as np
import fcnn_gpu as fcnn

path = sys.argv[2]
X, y = np.load(path + "/X.npy", mmap_mode="r"), np.load(path + "/y.npy")
trainer = fcnn.Trainer(fcnn.Sequential([fcnn.Dense(10)], n_in=1024, seed=0, backend="numpy"))

class Meddling(fcnn.Callback):
    def on_epoch_end(self, trainer, record):
        os.truncate(path + "/X.npy", 100_000)

result = []
for call in (
    lambda: trainer.fit(X, y, epochs=3, progress=False, memory_limit="30 MB", callbacks=[Meddling()]),
    lambda: trainer.evaluate(X, y, memory_limit="40 MB"),
    lambda: trainer.predict(X),
):
    try:
        call()
    except OSError as error:
        result.append(str(error))
result.append(len(trainer.history))
"""


@needs_limits
def test_a_map_whose_file_is_cut_short_is_named_and_does_not_end_the_process(tmp_path: Path) -> None:
    write(tmp_path, 12_000)
    *messages, n_epochs = run_limited(CUT_SHORT, tmp_path).result
    assert n_epochs == 1
    assert len(messages) == 3
    for message in messages:
        assert f"{tmp_path / 'X.npy'}, which is mapped, has been cut short to 100,000 bytes" in message
