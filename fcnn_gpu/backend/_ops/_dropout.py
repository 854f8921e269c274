"""Dropout, inverted or alpha, with masks from Philox4x64-10 in counter mode: the same bits on the CPU and on a GPU.

Source: Salmon et al. (2011), "Parallel random numbers: as easy as 1, 2, 3"; NumPy's `Philox` is this generator.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple, TypeVar

from ..._types import Array, HostArray
from . import _numpy as np
from ._activation import SELU_ALPHA, SELU_SCALE
from ._array import BLOCK, ArrayOps
from ._scheduled import Scheduled, scheduled_value
from ._tape import every_step

DRAWS_PER_WORD = 4
DRAWS_PER_BLOCK = 16
_CHUNK = 2048
"""Words drawn at a time: random_raw allocates its result, so it is asked for 16 KiB whatever the layer's size."""


_ALPHA_DROPOUT = ("alpha dropout scale", "alpha dropout slope", "alpha dropout value")
P = TypeVar("P", float, float | Scheduled)


def realized_dropout(p: P) -> P:
    """p as it is realized, k/65536 with k the 16-bit draw from which a unit is kept: within 2⁻¹⁷ of what was asked.

    A scheduled p is realized already: it is tables of such numbers that dropout takes.
    """
    return p if isinstance(p, Scheduled) else min(round(p * 65536), 65535) / 65536


class AlphaDropout(NamedTuple):
    """What alpha dropout makes of a unit x: scale·x + kept, or if it is dropped `dropped`."""

    scale: float
    kept: float
    dropped: float

    @classmethod
    def of(cls, p: float) -> AlphaDropout:
        """With q = 1 − p and α′ = −λα: scale = (q(1 + p α′²))^(−½), kept = −scale·p α′, dropped = scale·α′ + kept."""
        value = -SELU_SCALE * SELU_ALPHA
        scale = 1.0 / math.sqrt((1.0 - p) * (1.0 + p * value * value))
        return cls(scale, -scale * p * value, scale * value - scale * p * value)


class DropoutOps(ArrayOps):
    def dropout_forward(
        self,
        A: Array,
        p: float | Scheduled,
        key: tuple[int, int],
        step: Array,
        mask: Array,
        out: Array,
        first_draw: int = 0,
    ) -> None:
        """out = A ⊙ mask/(1 − p), with mask_i = 1 where draw first_draw + i, of 16 bits, is at least p·2¹⁶.

        A and out (n, batch) F-ordered (out may be A), mask uint8 of the same shape and order; i counts in memory order.
        Draw k is bits 16(k mod 4) ... 16(k mod 4) + 15 of word ⌊k/4⌋ of the Philox4x64-10 stream with this key and the
        counter (0, step, 0, 0); `step` is an int64 array of one element, so that a replayed graph draws afresh. Where
        these are samples j, j + 1, ... of a larger batch, first_draw = j·n gives them the masks that they have there.
        The expectation of each unit is kept exactly: p is `realized_dropout` of what is given.
        """
        At, keep, out_t = A.T.reshape(-1), mask.T.reshape(-1), out.T.reshape(-1)
        rate = realized_dropout(p)
        self._draw_mask(rate, key, step, keep, first_draw)
        self._apply_mask(At, keep, self._dropout_scale(rate), out_t)

    @every_step
    def _draw_mask(self, p: float | Scheduled, key: tuple[int, int], step: Array, keep: Array, first_draw: int) -> None:
        """keep_i = [draw first_draw + i of the stream ≥ p·2¹⁶]"""
        threshold = int(scheduled_value(p) * 65536)
        kept = keep.view(np.bool_)
        for part, draws in _draws(key, int(step[0]), keep.size, first_draw):
            np.greater_equal(draws, threshold, out=kept[part])

    def dropout_backward(self, dA: Array, p: float | Scheduled, mask: Array, out: Array) -> None:
        """out = dA ⊙ mask/(1 − p): the same mask and scale as forward. out may be dA."""
        self._apply_mask(
            dA.T.reshape(-1), mask.T.reshape(-1), self._dropout_scale(realized_dropout(p)), out.T.reshape(-1)
        )

    def _dropout_scale(self, p: float | Scheduled) -> float | Array:
        """1/(1 − p), for a scheduled p in an array without dimensions that every step computes anew."""
        if not isinstance(p, Scheduled):
            return 1.0 / (1.0 - p)
        scale = self.scratch("dropout scale", 1, np.float64).reshape(())
        self._compute_dropout_scale(p, scale)
        return scale

    @every_step
    def _compute_dropout_scale(self, p: Scheduled, scale: Array) -> None:
        scale[...] = 1.0 / (1.0 - scheduled_value(p))

    def _apply_mask(self, x: Array, keep: Array, scale: float | Array, out: Array) -> None:
        for start in range(0, x.size, BLOCK):
            part = slice(start, min(start + BLOCK, x.size))
            factor = self._tile_scratch("t", x[part])
            np.copyto(factor, keep[part])
            np.multiply(factor, scale, out=factor)
            np.multiply(x[part], factor, out=out[part])

    def alpha_dropout_forward(
        self,
        A: Array,
        p: float | Scheduled,
        key: tuple[int, int],
        step: Array,
        mask: Array,
        out: Array,
        first_draw: int = 0,
    ) -> None:
        """out = scale·A + kept where mask is 1, else dropped, of `AlphaDropout`; all else as `dropout_forward`."""
        rate, keep = realized_dropout(p), mask.T.reshape(-1)
        scale, slope, dropped = (self.scratch(tag, 1, np.float64).reshape(()) for tag in _ALPHA_DROPOUT)
        self._draw_mask(rate, key, step, keep, first_draw)
        self._compute_alpha_dropout(rate, scale, slope, dropped)
        x, y = A.T.reshape(-1), out.T.reshape(-1)
        self._apply_mask(x, keep, scale, y)
        for start in range(0, x.size, BLOCK):
            part = slice(start, min(start + BLOCK, x.size))
            shift = self._tile_scratch("t", x[part])
            np.copyto(shift, keep[part])
            np.multiply(shift, slope, out=shift)
            np.add(shift, dropped, out=shift)
            np.add(y[part], shift, out=y[part])

    def alpha_dropout_backward(self, dA: Array, p: float | Scheduled, mask: Array, out: Array) -> None:
        """out = scale·dA ⊙ mask: the same mask and scale as forward. out may be dA."""
        scale, slope, dropped = (self.scratch(tag, 1, np.float64).reshape(()) for tag in _ALPHA_DROPOUT)
        self._compute_alpha_dropout(realized_dropout(p), scale, slope, dropped)
        self._apply_mask(dA.T.reshape(-1), mask.T.reshape(-1), scale, out.T.reshape(-1))

    @every_step
    def _compute_alpha_dropout(self, p: float | Scheduled, scale: Array, slope: Array, dropped: Array) -> None:
        """slope = kept − dropped"""
        of = AlphaDropout.of(scheduled_value(p))
        scale[...], slope[...], dropped[...] = of.scale, of.kept - of.dropped, of.dropped

    def dropout_members_forward(
        self, A: Array, rates: Array, key: tuple[int, int], step: Array, mask: Array, out: Array, first_draw: int = 0
    ) -> None:
        """`dropout_forward` with a p for each of k members, whose n/k units follow one another: the same draws.

        rates float64 (k,), each a `realized_dropout`.
        """
        self._draw_mask_of_members(rates, key, step, mask, first_draw)
        self._apply_mask_of_members(A, mask, rates, out)

    def dropout_members_backward(self, dA: Array, rates: Array, mask: Array, out: Array) -> None:
        """out_g = dA_g ⊙ mask_g/(1 − p_g): the same mask and scales as forward. out may be dA."""
        self._apply_mask_of_members(dA, mask, rates, out)

    @every_step
    def _draw_mask_of_members(
        self, rates: Array, key: tuple[int, int], step: Array, mask: Array, first_draw: int
    ) -> None:
        n = mask.shape[0] // rates.size
        every = self.scratch("draws of members", mask.size, np.uint16)
        for part, draws in _draws(key, int(step[0]), mask.size, first_draw):
            np.copyto(every[part], draws)
        by_sample, kept = every.reshape(mask.T.shape), mask.T.view(np.bool_)
        for g in range(rates.size):
            units = slice(g * n, (g + 1) * n)
            np.greater_equal(by_sample[:, units], int(rates[g] * 65536), out=kept[:, units])

    @every_step
    def _apply_mask_of_members(self, x: Array, mask: Array, rates: Array, out: Array) -> None:
        n = x.shape[0] // rates.size
        factor = self.scratch("dropout of a member", n * x.shape[1], x.dtype).reshape(x.shape[1], n).T
        for g in range(rates.size):
            units = slice(g * n, (g + 1) * n)
            np.copyto(factor, mask[units])
            np.multiply(factor, 1.0 / (1.0 - float(rates[g])), out=factor)
            np.multiply(x[units], factor, out=out[units])


def _draws(key: tuple[int, int], step: int, size: int, first_draw: int) -> Iterator[tuple[slice, HostArray]]:
    """The draws from number `first_draw` on, for `size` elements: for some of them at a time."""
    block, skipped = divmod(first_draw, DRAWS_PER_BLOCK)
    # As Python integers, NumPy would round a key of 2⁶³ or more beside a smaller one to float64.
    words = np.random.Philox(key=np.array(key, np.uint64), counter=(block, step, 0, 0))
    start = 0
    while start < size:
        stop = min(start + _CHUNK * DRAWS_PER_WORD - skipped, size)
        draws = words.random_raw(-(-(skipped + stop - start) // DRAWS_PER_WORD)).view(np.uint16)
        yield slice(start, stop), draws[skipped : skipped + stop - start]
        start, skipped = stop, 0
