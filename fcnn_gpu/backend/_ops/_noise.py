"""Gaussian noise from Philox4x64-10 in counter mode: the same numbers on every backend, up to rounding.

Sources: Salmon et al. (2011), "Parallel random numbers: as easy as 1, 2, 3"; Box & Muller (1958), "A note on the
generation of random normal deviates".
"""

from __future__ import annotations

from collections.abc import Iterator

from ..._types import Array, HostArray
from . import _numpy as np
from ._array import ArrayOps
from ._scheduled import Scheduled, scheduled_value
from ._tape import every_step

NORMALS_PER_BLOCK = 8
_CHUNK = 2048
"""Words drawn at a time: random_raw allocates its result, so it is asked for 16 KiB whatever the layer's size."""


class NoiseOps(ArrayOps):
    def gaussian_noise(
        self,
        A: Array,
        std: float | Scheduled,
        key: tuple[int, int],
        step: Array,
        out: Array,
        first_draw: int = 0,
    ) -> None:
        """out = A + σε, with ε_i normal number first_draw + i of the stream of this key and step.

        A and out (n, batch) F-ordered (out may be A); i counts in memory order. Word w of the Philox4x64-10 stream with
        this key and the counter (0, step, 0, 0) has two: with u = (⌊w/2⁴⁰⌋ + 1)/2²⁴ and v = (⌊w/2⁸⌋ mod 2²⁴)/2²⁴ they
        are √(−2 log u) cos 2πv and √(−2 log u) sin 2πv. `step` and first_draw are as in `dropout_forward`. ∂out/∂A = 1.
        """
        self._add_noise(A.T.reshape(-1), std, key, step, out.T.reshape(-1), first_draw)

    @every_step
    def _add_noise(
        self, x: Array, std: float | Scheduled, key: tuple[int, int], step: Array, out: Array, first_draw: int
    ) -> None:
        sigma = scheduled_value(std)
        for part, normals in _normals(key, int(step[0]), x.size, first_draw):
            np.add(x[part], (normals * sigma).astype(x.dtype), out=out[part])


def _normals(key: tuple[int, int], step: int, size: int, first_draw: int) -> Iterator[tuple[slice, HostArray]]:
    """The numbers from `first_draw` on, for `size` elements: for some of them at a time."""
    block, skipped = divmod(first_draw, NORMALS_PER_BLOCK)
    words = np.random.Philox(key=np.array(key, np.uint64), counter=(block, step, 0, 0))
    start = 0
    while start < size:
        stop = min(start + 2 * _CHUNK - skipped, size)
        drawn = words.random_raw(-(-(skipped + stop - start) // 2))
        radius = np.sqrt(-2.0 * np.log(((drawn >> np.uint64(40)) + np.uint64(1)) * 2.0**-24))
        angle = ((drawn >> np.uint64(8)) & np.uint64(0xFFFFFF)) * (2.0**-23 * np.pi)
        normals = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)
        yield slice(start, stop), normals[skipped : skipped + stop - start]
        start, skipped = stop, 0
