"""Inverted dropout with masks from Philox4x64-10 in counter mode: the same bits on the CPU and on a GPU.

Source: Salmon et al. (2011), "Parallel random numbers: as easy as 1, 2, 3"; NumPy's `Philox` is this generator.
"""

from __future__ import annotations

from ..._types import Array
from . import _numpy as np
from ._array import BLOCK, ArrayOps
from ._tape import every_step

DRAWS_PER_WORD = 4
DRAWS_PER_BLOCK = 16
_CHUNK = 2048
"""Words drawn at a time: random_raw allocates its result, so it is asked for 16 KiB whatever the layer's size."""


def dropout_threshold(p: float) -> int:
    """The 16-bit draw from which a unit is kept: p is realized as threshold/65536, within 2⁻¹⁷ of what was asked."""
    return min(round(p * 65536), 65535)


def dropout_scale(p: float) -> float:
    """1/(1 − p), with p as realized, so that the expectation of each unit is kept exactly."""
    return 65536 / (65536 - dropout_threshold(p))


class DropoutOps(ArrayOps):
    def dropout_forward(
        self, A: Array, p: float, key: tuple[int, int], step: Array, mask: Array, out: Array, first_draw: int = 0
    ) -> None:
        """out = A ⊙ mask/(1 − p), with mask_i = 1 where draw first_draw + i, of 16 bits, is at least p·2¹⁶.

        A and out (n, batch) F-ordered (out may be A), mask uint8 of the same shape and order; i counts in memory order.
        Draw k is bits 16(k mod 4) ... 16(k mod 4) + 15 of word ⌊k/4⌋ of the Philox4x64-10 stream with this key and the
        counter (0, step, 0, 0); `step` is an int64 array of one element, so that a replayed graph draws afresh. Where
        these are samples j, j + 1, ... of a larger batch, first_draw = j·n gives them the masks that they have there.
        """
        At, keep, out_t = A.T.reshape(-1), mask.T.reshape(-1), out.T.reshape(-1)
        self._draw_mask(dropout_threshold(p), key, step, keep, first_draw)
        self._apply_mask(At, keep, dropout_scale(p), out_t)

    @every_step
    def _draw_mask(self, threshold: int, key: tuple[int, int], step: Array, keep: Array, first_draw: int) -> None:
        """keep_i = [draw first_draw + i of the stream ≥ threshold]"""
        kept = keep.view(np.bool_)
        block, skipped = divmod(first_draw, DRAWS_PER_BLOCK)
        # As Python integers, NumPy would round a key of 2⁶³ or more beside a smaller one to float64.
        words = np.random.Philox(key=np.array(key, np.uint64), counter=(block, int(step[0]), 0, 0))
        start = 0
        while start < keep.size:
            stop = min(start + _CHUNK * DRAWS_PER_WORD - skipped, keep.size)
            draws = words.random_raw(-(-(skipped + stop - start) // DRAWS_PER_WORD)).view(np.uint16)
            np.greater_equal(draws[skipped : skipped + stop - start], threshold, out=kept[start:stop])
            start, skipped = stop, 0

    def dropout_backward(self, dA: Array, p: float, mask: Array, out: Array) -> None:
        """out = dA ⊙ mask/(1 − p): the same mask and scale as forward. out may be dA."""
        self._apply_mask(dA.T.reshape(-1), mask.T.reshape(-1), dropout_scale(p), out.T.reshape(-1))

    def _apply_mask(self, x: Array, keep: Array, scale: float, out: Array) -> None:
        for start in range(0, x.size, BLOCK):
            part = slice(start, min(start + BLOCK, x.size))
            factor = self._tile_scratch("t", x[part])
            np.copyto(factor, keep[part])
            np.multiply(factor, scale, out=factor)
            np.multiply(x[part], factor, out=out[part])
