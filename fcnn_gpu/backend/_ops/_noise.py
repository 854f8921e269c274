"""Gaussian noise from Philox4x64-10 in counter mode: the same numbers on every backend, up to rounding.

Sources: Salmon et al. (2011), "Parallel random numbers: as easy as 1, 2, 3"; Box & Muller (1958), "A note on the
generation of random normal deviates".
"""

from __future__ import annotations

from ..._types import Array, HostArray
from . import _numpy as np
from ._array import ArrayOps
from ._scheduled import Scheduled, scheduled_value
from ._tape import every_step

NORMALS_PER_BLOCK = 8
_CHUNK = 1024
"""Words drawn at a time: random_raw allocates its result, so it is asked for 8 KiB whatever the layer's size."""


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
        sigma, block = scheduled_value(std), first_draw // NORMALS_PER_BLOCK
        stream = np.random.Philox(key=np.array(key, np.uint64), counter=(block, int(step[0]), 0, 0))
        start, skipped = 0, first_draw % NORMALS_PER_BLOCK
        while start < x.size:
            stop = min(start + 2 * _CHUNK - skipped, x.size)
            normals = self._normals(stream.random_raw(-(-(skipped + stop - start) // 2)))
            np.multiply(normals, sigma, out=normals)
            noise = self.scratch("noise", 2 * _CHUNK, x.dtype)[: stop - start]
            np.copyto(noise, normals[skipped : skipped + stop - start], casting="same_kind")
            np.add(x[start:stop], noise, out=out[start:stop])
            start, skipped = stop, 0

    def _normals(self, words: HostArray) -> Array:
        """Two numbers for each word."""
        n = words.size
        radius, angle, counts = (self.scratch(f"noise {tag}", _CHUNK, np.float64)[:n] for tag in ("r", "φ", "u"))
        normals = self.scratch("normals", 2 * _CHUNK, np.float64)[: 2 * n]
        counts = counts.view(np.uint64)
        np.right_shift(words, 40, out=counts)
        np.add(counts, 1, out=counts)
        np.multiply(counts, 2.0**-24, out=radius)
        np.log(radius, out=radius)
        np.multiply(radius, -2.0, out=radius)
        np.sqrt(radius, out=radius)
        np.right_shift(words, 8, out=counts)
        np.bitwise_and(counts, 2**24 - 1, out=counts)
        np.multiply(counts, 2.0**-23 * np.pi, out=angle)
        np.cos(angle, out=normals[::2])
        np.sin(angle, out=normals[1::2])
        for part in (normals[::2], normals[1::2]):
            np.multiply(part, radius, out=part)
        return normals
