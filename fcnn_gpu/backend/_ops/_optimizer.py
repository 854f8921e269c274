"""The optimizers' updates over one flat buffer of parameters, with penalties, clipping and the learning rate fused in.

On the CPU the buffer is walked in blocks that stay in cache, so an update costs one pass over memory however many
arithmetic passes it takes; on a GPU it is one kernel.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, wraps
from typing import Concatenate, ParamSpec, Self, TypeVar

from ..._types import Array
from . import _numpy as np
from ._array import BLOCK, ArrayOps, constant_tile
from ._scheduled import Scheduled, scheduled_value
from ._tape import every_step, only_if_negative, stop_unless_negative
from ._update_rules import UPDATE_RULES, UpdateRule

P = ParamSpec("P")
S = TypeVar("S")

FIRST_LOSS_SCALE, SMALLEST_LOSS_SCALE, LARGEST_LOSS_SCALE = 2.0**16, 1.0, 2.0**24
"""Powers of two, as all loss scales: multiplying by them and dividing again is exact."""


@dataclass(frozen=True)
class Segment:
    """Parameters start ... stop − 1 share an L1 and an L2 factor, and two factors of the optimizer's settings.

    No update changes them, or their moments, where they are `frozen`.
    `rate` is what the learning rate is multiplied by for them, `decay` what a decoupled weight decay is: 0 for biases
    and normalization parameters, unless the optimizer says otherwise.
    """

    start: int
    stop: int
    l1: float = 0.0
    l2: float = 0.0
    decay: float = 0.0
    rate: float = 1.0
    frozen: bool = False


@dataclass(frozen=True)
class RowLimits:
    """What weights are behind an update: not below 0, and the rows of W, those into a unit, of a norm within limits."""

    non_negative: bool = False
    least: float = 0.0
    most: float = math.inf

    @property
    def has_norm(self) -> bool:
        """Whether the norm is limited."""
        return self.least > 0.0 or self.most < math.inf


@dataclass(frozen=True)
class LimitedRows:
    """Weights W (n_units, n_in), F-ordered, that lie at `place` in the flat buffer, and their limits."""

    place: slice
    n_units: int
    limits: RowLimits


@dataclass(frozen=True)
class WeightMatrix:
    """W (n_out, n_in), or as many of them side by side as there are members, each F-ordered.

    `hidden`: weights of other layers lie before it and behind it.
    """

    n_out: int
    n_in: int
    members: int = 1
    hidden: bool = False

    @property
    def size(self) -> int:
        """The number of weights of all members."""
        return self.members * self.n_out * self.n_in


@dataclass
class FlatParameters:
    """All parameters of a network and their gradients: two flat arrays of one size and dtype.

    The segments cover the arrays in order; weights come before biases and normalization parameters. `low`, if there is
    one, is a copy of the first low.size values in a 16-bit dtype, which every update rounds them to (to nearest, ties
    to even): what the products of mixed precision read. `places` says where each parameter lies, by its name ("0.W");
    `members` of which of them several members of an ensemble have equal parts, one behind the other, and how many;
    `matrices` what the weights are, those included that lie elsewhere and have no place here.
    """

    values: Array
    gradients: Array
    segments: tuple[Segment, ...]
    low: Array | None = None
    places: Mapping[str, slice] = field(default_factory=dict)
    members: Mapping[str, int] = field(default_factory=dict)
    matrices: Mapping[str, WeightMatrix] = field(default_factory=dict)
    limited: tuple[LimitedRows, ...] = ()
    """The weights that learn within limits: `constrain` brings them back behind every update."""

    def __post_init__(self) -> None:
        low, dtype = self.low, self.values.dtype
        if low is not None and (low.dtype.itemsize != 2 or dtype.name != "float32" or low.size > self.values.size):
            raise ValueError(
                "FlatParameters.low expects a copy in 16 bits of the first of the float32 values, got "
                f"{low.size} elements of {low.dtype} for {self.values.size} of {dtype}."
            )

    def divide(self, segments: tuple[Segment, ...], limited: tuple[LimitedRows, ...]) -> None:
        """From now on the parameters lie in other segments, and these are within limits."""
        self.segments, self.limited = segments, limited
        for name in ("undecayed_segments", "penalty_segments", "_stretches"):
            vars(self).pop(name, None)

    def blocks(self, decay_matters: bool = False) -> Iterator[tuple[slice, Segment]]:
        """(slice, segment) for stretches of a segment that learns, short enough to stay in cache.

        Where weight decay plays no part, segments that differ in nothing else are one.
        """
        for segment in self.segments if decay_matters else self.undecayed_segments:
            if not segment.frozen:
                yield from _in_blocks(segment)

    def penalty_blocks(self) -> Iterator[tuple[slice, Segment]]:
        """The same for what the penalties alone matter to."""
        for segment in self.penalty_segments:
            yield from _in_blocks(segment)

    @cached_property
    def undecayed_segments(self) -> tuple[Segment, ...]:
        """The segments, neighbours that differ in weight decay alone joined."""
        return joined(replace(segment, decay=0.0) for segment in self.segments)

    @cached_property
    def penalty_segments(self) -> tuple[Segment, ...]:
        """The segments, neighbours with equal penalties joined."""
        return joined(replace(segment, decay=0.0, rate=1.0, frozen=False) for segment in self.segments)

    @property
    def learning(self) -> list[tuple[slice, FlatParameters]]:
        """The stretches without a frozen parameter, and what is in each: all of it, where nothing is frozen.

        In which case it is not kept: what holds itself goes with its arrays when Python looks for such circles.
        """
        if not any(segment.frozen for segment in self.segments):
            return [(slice(0, self.values.size), self)]
        return self._stretches

    @cached_property
    def _stretches(self) -> list[tuple[slice, FlatParameters]]:
        found = []
        for frozen, group in itertools.groupby(self.segments, lambda segment: segment.frozen):
            inside = list(group)
            if not frozen:
                place = slice(inside[0].start, inside[-1].stop)
                found.append((place, self.part(place)))
        return found

    def part(self, place: slice) -> FlatParameters:
        """The parameters that lie at `place`, as parameters of their own."""
        start, stop = place.start, place.stop
        segments = tuple(
            replace(s, start=max(s.start, start) - start, stop=min(s.stop, stop) - start)
            for s in self.segments
            if s.start < stop and start < s.stop
        )
        low = None if self.low is None or self.low.size <= start else self.low[place]
        return FlatParameters(self.values[place], self.gradients[place], segments, low)

    @property
    def has_rates(self) -> bool:
        """Whether any parameter has a learning rate of its own."""
        return any(segment.rate != 1.0 for segment in self.segments)

    @property
    def penalized(self) -> bool:
        """Whether any parameter carries an L1 or L2 penalty."""
        return any(segment.l1 or segment.l2 for segment in self.segments)


def _in_blocks(segment: Segment) -> Iterator[tuple[slice, Segment]]:
    for start in range(segment.start, segment.stop, BLOCK):
        yield slice(start, min(start + BLOCK, segment.stop)), segment


def joined(segments: Iterable[Segment]) -> tuple[Segment, ...]:
    """Neighbours that are treated alike as one."""
    joined: list[Segment] = []
    for segment in segments:
        if joined and replace(segment, start=joined[-1].start) == replace(joined[-1], stop=segment.stop):
            joined[-1] = replace(joined[-1], stop=segment.stop)
        else:
            joined.append(segment)
    return tuple(joined)


@dataclass
class LossScaling:
    """Dynamic loss scaling: gradients in float16 are those of scale·loss, so that small ones do not round to 0.

    The flat gradients are scaled, and whoever reads them multiplies by 1/scale first, which is exact: the scale is a
    power of two from 1 to 2²⁴. A step whose gradient is not finite is skipped and halves the scale; every
    `growth_interval` steps in a row that are not skipped double it. Source: Micikevicius et al. (2018), "Mixed
    precision training", section 3.2.

    `scale` float64 (1,). `good_steps` int64 (1,): updates since the scale last changed. `skipped` int64 (1,): steps
    skipped so far. `skip` int64 (1,): the number of the step if `check_finite` decided to skip it, else −1.
    """

    scale: Array
    good_steps: Array
    skipped: Array
    skip: Array
    growth_interval: int = 2000

    @classmethod
    def start(cls, ops: ArrayOps, growth_interval: int = 2000) -> Self:
        """Arrays of the ops' device, with the scale at 2¹⁶."""
        scaling = cls(
            scale=ops.zeros(1, "float64"),
            good_steps=ops.zeros(1, "int64"),
            skipped=ops.zeros(1, "int64"),
            skip=ops.zeros(1, "int64"),
            growth_interval=growth_interval,
        )
        ops.fill(scaling.scale, FIRST_LOSS_SCALE)
        ops.fill(scaling.skip, -1)
        return scaling


@dataclass
class StepControl:
    """What changes from step to step, in arrays of the device, so that a replayed graph sees the new values.

    `step` int64 (1,): completed updates. `learning_rate` float64 (1,). `clip_scale` float64 (1,): what `gradient_clip`
    found, 1 when there is no clipping by norm. `failed_step` int64 (1,): the step that met a non-finite loss or
    gradient, else −1; from then on every update leaves the parameters as they were. `loss_scaling`: None where the
    gradients are those of the loss itself.
    """

    step: Array
    learning_rate: Array
    clip_scale: Array
    failed_step: Array
    max_value: float | None = None
    max_norm: float | None = None
    loss_scaling: LossScaling | None = None

    @property
    def loss_scale(self) -> Array | None:
        """float64 (1,): what the gradients are multiplied by; None where that is 1."""
        return None if self.loss_scaling is None else self.loss_scaling.scale


def _unless_skipped(update: Callable[Concatenate[S, FlatParameters, StepControl, P], None]) -> Callable[..., None]:
    """An update that does nothing in a step which `check_finite` decided to skip."""

    @wraps(update)
    def call(self: S, flat: FlatParameters, control: StepControl, *args: P.args, **kwargs: P.kwargs) -> None:
        if control.loss_scaling is None:
            update(self, flat, control, *args, **kwargs)
            return
        with only_if_negative(control.loss_scaling.skip) as happens:
            if happens:
                update(self, flat, control, *args, **kwargs)

    return call


class OptimizerOps(ArrayOps):
    @every_step
    def penalty(self, flat: FlatParameters, total: Array) -> None:
        """total[0] = Σ λ₁|w| + λ₂w² over the segments; total float64 (1,)."""
        value = 0.0
        for part, segment in flat.penalty_blocks():
            w = flat.values[part]
            if segment.l2:
                value += segment.l2 * float(np.dot(w, w))
            if segment.l1:
                t = self._tile_scratch("t", w)
                np.abs(w, out=t)
                value += segment.l1 * float(np.add_reduce(t))
        total[0] = value

    def penalized_gradient(self, flat: FlatParameters, out: Array, loss_scale: Array | None = None) -> None:
        """out = g/loss_scale + 2λ₂w + λ₁ sign(w): the gradient of data loss and penalty together.

        loss_scale float64 (1,), or None for 1; out may be flat.gradients.
        """
        inverse = self._inverse_scale(flat, loss_scale)
        for part, segment in flat.penalty_blocks():
            g = flat.gradients[part]
            if inverse is not None:
                g = np.multiply(g, inverse, out=out[part])
            self._penalized_block(flat.values[part], g, segment, out[part])

    @every_step
    def gradient_clip(self, flat: FlatParameters, control: StepControl) -> None:
        """clip_scale[0] = min(1, c/(‖g‖ + 10⁻⁶)), g the penalized gradient and c = control.max_norm; 1 if c is None.

        The 10⁻⁶ is that of PyTorch's `clip_grad_norm_`.
        """
        if control.max_norm is None:
            return
        inverse = self._inverse_scale(flat, control.loss_scale)
        square = 0.0
        for part, segment in flat.penalty_blocks():
            g = flat.gradients[part]
            if inverse is not None:
                g = np.multiply(g, inverse, out=self._tile_scratch("g", g))
            if segment.l1 or segment.l2:
                g = self._penalized_block(flat.values[part], g, segment, self._tile_scratch("g", g))
            square += float(np.dot(g, g))
        control.clip_scale[0] = min(1.0, control.max_norm / (math.sqrt(square) + 1e-6))

    @every_step
    def check_finite(
        self, losses: Array, flat: FlatParameters, control: StepControl, total: Array | None = None
    ) -> None:
        """failed_step ← step, once, if a loss or a gradient of this step is not finite; and what costs no further pass:

        clip_scale as in `gradient_clip`, and total[0] += Σ losses, total float64 (1,). With loss scaling a gradient
        that is not finite fails the step only if the scale is 1 already; else skip ← step, and skip ← −1 in a sound
        step. A float32 gradient whose norm exceeds 1.8·10¹⁹ overflows its own square and counts as not finite.
        """
        loss = float(np.add_reduce(losses))
        if total is not None:
            total[0] += loss
        if control.failed_step[0] < 0:
            self._judge(loss, flat, control)
        self.gradient_clip(flat, control)

    def _judge(self, loss: float, flat: FlatParameters, control: StepControl) -> None:
        g, step, scaling = flat.gradients, control.step[0], control.loss_scaling
        if scaling is None:
            if not math.isfinite(loss + float(np.dot(g, g))):
                control.failed_step[0] = step
            return
        inverse = self._inverse_scale(flat, scaling.scale)
        sound = math.isfinite(sum(self._square(g[part], inverse) for part, _ in flat.penalty_blocks()))
        scaling.skip[0] = -1
        if not math.isfinite(loss) or (not sound and scaling.scale[0] <= SMALLEST_LOSS_SCALE):
            control.failed_step[0] = step
        elif not sound:
            scaling.skip[0] = step

    def finish_step(self, control: StepControl, counters: Sequence[tuple[Array, int]] = ()) -> None:
        """step ← step + 1, unless a step has failed; and counter[0] += by for each (counter, by) of `counters`.

        With loss scaling a skipped step does not count: scale ← max(1, scale/2), good_steps ← 0, skipped += 1. Any
        other adds 1 to good_steps, and where that reaches the growth interval, scale ← min(2²⁴, 2·scale) and
        good_steps ← 0.
        Counters advance in a skipped step as well; after a failed one, do not rely on what they hold.
        """
        if not stop_unless_negative(control.failed_step):
            if control.loss_scaling is None:
                np.add(control.step, 1, out=control.step)
            else:
                self._finish_scaled(control.step, control.loss_scaling)
        for counter, by in counters:
            self.advance(counter, by)

    @every_step
    def _finish_scaled(self, step: Array, scaling: LossScaling) -> None:
        if scaling.skip[0] >= 0:
            scaling.scale[0] = max(SMALLEST_LOSS_SCALE, scaling.scale[0] / 2.0)
            scaling.good_steps[0] = 0
            scaling.skipped[0] += 1
            return
        step[0] += 1
        scaling.good_steps[0] += 1
        if scaling.good_steps[0] >= scaling.growth_interval:
            scaling.scale[0] = min(LARGEST_LOSS_SCALE, scaling.scale[0] * 2.0)
            scaling.good_steps[0] = 0

    # The updates. Each reads t = step + 1 and η from `control`, and does nothing once a step has failed or in one that
    # is skipped. The numbers that follow from those two are worked out anew in every step, into arrays without
    # dimensions.

    @_unless_skipped
    def sgd_update(
        self,
        flat: FlatParameters,
        control: StepControl,
        momentum: float,
        nesterov: bool,
        velocity: Array | None,
        weight_decay: float | Scheduled = 0.0,
    ) -> None:
        """v ← μv + g; θ ← θ(1 − ηλ) − ηv, or − η(g + μv) with Nesterov momentum; − ηg without momentum."""
        rates = self._learning_rates(flat, control, weight_decay)
        for part, segment, theta, g, t in self._update_blocks(flat, control, weight_decay != 0.0):
            eta, keep = rates[segment.rate, segment.decay]
            if velocity is None:
                np.multiply(g, eta, out=t)
            else:
                v = velocity[part]
                np.multiply(v, momentum, out=v)
                np.add(v, g, out=v)
                if nesterov:
                    np.multiply(v, momentum, out=t)
                    np.add(t, g, out=t)
                    np.multiply(t, eta, out=t)
                else:
                    np.multiply(v, eta, out=t)
            self._step_to(flat, part, theta, keep, t)

    @_unless_skipped
    def adam_update(
        self,
        flat: FlatParameters,
        control: StepControl,
        beta1: float,
        beta2: float,
        eps: float,
        weight_decay: float | Scheduled,
        m: Array,
        v: Array,
    ) -> None:
        """m ← β₁m + g, v ← β₂v + g²; θ ← θ(1 − ηλ) − η · m̂/(√v̂ + ε), λ the decoupled weight decay, where

        m̂ = m(1 − β₁)/(1 − β₁ᵗ) and v̂ = v(1 − β₂)/(1 − β₂ᵗ). The moments are kept without their factors (1 − β), which
        saves two passes: with c = √((1 − β₂)/(1 − β₂ᵗ)) the update is (η(1 − β₁)/(c(1 − β₁ᵗ))) · m/(√v + ε/c).
        """
        decays = weight_decay != 0.0
        kinds = {(segment.rate, segment.decay if decays else 0.0): None for segment in flat.segments}
        numbers = self._numbers(flat, 1 + 2 * len(kinds))
        floor = numbers[0]
        kept = {kind: (numbers[1 + 2 * i], numbers[2 + 2 * i]) for i, kind in enumerate(kinds)}
        self._adam_numbers(control, beta1, beta2, eps, weight_decay, floor, kept)
        for part, segment, theta, g, t in self._update_blocks(flat, control, decay_matters=decays):
            rate, decay = kept[segment.rate, segment.decay]
            m_part, v_part = m[part], v[part]
            np.multiply(m_part, beta1, out=m_part)
            np.add(m_part, g, out=m_part)
            np.multiply(g, g, out=t)
            np.multiply(v_part, beta2, out=v_part)
            np.add(v_part, t, out=v_part)
            np.sqrt(v_part, out=t)
            np.add(t, floor, out=t)
            np.divide(m_part, t, out=t)
            np.multiply(t, rate, out=t)
            if decays and segment.decay:
                np.multiply(theta, decay, out=theta)
            np.subtract(theta, t, out=theta)
            self._round_to_low(flat, part, theta)

    @every_step
    def _adam_numbers(
        self,
        control: StepControl,
        beta1: float,
        beta2: float,
        eps: float,
        weight_decay: float | Scheduled,
        floor: Array,
        kept: Mapping[tuple[float, float], tuple[Array, Array]],
    ) -> None:
        """floor = ε/c, c = √((1 − β₂)/(1 − β₂ᵗ)), and for parameters with these factors (r, d) of η and λ

        rate = rη(1 − β₁)/(c(1 − β₁ᵗ)) and decay = 1 − rη·dλ.
        """
        t_step = int(control.step[0]) + 1
        eta, value = float(control.learning_rate[0]), scheduled_value(weight_decay)
        c = math.sqrt((1.0 - beta2) / (1.0 - beta2**t_step))
        floor[...] = eps / c
        for (rate_factor, decay_factor), (rate, decay) in kept.items():
            rate[...] = rate_factor * eta * (1.0 - beta1) / ((1.0 - beta1**t_step) * c)
            decay[...] = 1.0 - rate_factor * eta * (decay_factor * value)

    @_unless_skipped
    def rmsprop_update(
        self,
        flat: FlatParameters,
        control: StepControl,
        rho: float,
        eps: float,
        momentum: float,
        v: Array,
        velocity: Array | None,
        weight_decay: float | Scheduled = 0.0,
    ) -> None:
        """v ← ρv + (1 − ρ)g²; u = g/(√v + ε), or with momentum u = b, b ← μb + u; θ ← θ(1 − ηλ) − ηu."""
        rates = self._learning_rates(flat, control, weight_decay)
        for part, segment, theta, g, t in self._update_blocks(flat, control, weight_decay != 0.0):
            v_part, (eta, keep) = v[part], rates[segment.rate, segment.decay]
            np.multiply(g, g, out=t)
            np.multiply(t, 1.0 - rho, out=t)
            np.multiply(v_part, rho, out=v_part)
            np.add(v_part, t, out=v_part)
            np.sqrt(v_part, out=t)
            np.add(t, eps, out=t)
            np.divide(g, t, out=t)
            if velocity is not None:
                b = velocity[part]
                np.multiply(b, momentum, out=b)
                np.add(b, t, out=b)
                np.multiply(b, eta, out=t)
            else:
                np.multiply(t, eta, out=t)
            self._step_to(flat, part, theta, keep, t)

    @_unless_skipped
    def adagrad_update(
        self,
        flat: FlatParameters,
        control: StepControl,
        lr_decay: float,
        eps: float,
        s: Array,
        weight_decay: float | Scheduled = 0.0,
    ) -> None:
        """s ← s + g²; θ ← θ(1 − η_t λ) − η_t g/(√s + ε), η_t = η/(1 + (t − 1)·lr_decay)."""
        rates = self._learning_rates(flat, control, weight_decay, lr_decay)
        for part, segment, theta, g, t in self._update_blocks(flat, control, weight_decay != 0.0):
            s_part, (eta, keep) = s[part], rates[segment.rate, segment.decay]
            np.multiply(g, g, out=t)
            np.add(s_part, t, out=s_part)
            np.sqrt(s_part, out=t)
            np.add(t, eps, out=t)
            np.divide(g, t, out=t)
            np.multiply(t, eta, out=t)
            self._step_to(flat, part, theta, keep, t)

    @_unless_skipped
    def constrain(self, flat: FlatParameters, control: StepControl, rows: LimitedRows) -> None:
        """w ← max(w, 0), if the limits say so; then w_i ← w_i·c_i/‖w_i‖, c_i = min(max(‖w_i‖, least), most).

        w_i is row i of the weights W. A row within the limits stays as it is, and so does one of zeros. What an update
        does before, this does behind it: nothing once a step has failed, and in one that is skipped.
        """
        theta, limits = flat.values[rows.place], rows.limits
        Wt = theta.reshape(-1, rows.n_units)
        factors, limited = (self.scratch(tag, rows.n_units, theta.dtype).reshape(1, -1) for tag in ("row", "limited"))
        is_zero = self.scratch("is zero", rows.n_units, bool).reshape(1, -1)
        product = self.scratch("product", theta.size, theta.dtype).reshape(Wt.shape) if limits.has_norm else None
        with only_if_negative(control.failed_step) as happens:
            if not happens:
                return
            if limits.non_negative:
                np.maximum(theta, 0.0, out=theta)
            if product is not None:
                np.multiply(Wt, Wt, out=product)
                np.dot(self.ones(Wt.shape[0], Wt.dtype), product, out=factors)
                np.sqrt(factors, out=factors)
                np.maximum(factors, limits.least, out=limited)
                np.minimum(limited, limits.most, out=limited)
                np.equal(factors, 0.0, out=is_zero)
                for norms in (limited, factors):
                    np.copyto(norms, 1.0, where=is_zero)
                np.divide(limited, factors, out=factors)
                np.multiply(Wt, factors, out=Wt)
            self._round_to_low(flat, rows.place, theta)

    @_unless_skipped
    def update_by_rule(
        self,
        flat: FlatParameters,
        control: StepControl,
        rule: str,
        settings: Sequence[float],
        state: Sequence[Array],
        weight_decay: float | Scheduled = 0.0,
    ) -> None:
        """θ ← θ(1 − ηλ) − ηu, u the direction of one of `UPDATE_RULES`; `state` are its arrays, three or fewer."""
        known = UPDATE_RULES[rule]
        numbers = self._numbers(flat, len(known.numbers(1, settings)), "numbers of the rule")
        rates = self._learning_rates(flat, control, weight_decay)
        self._compute_rule(control, known, settings, numbers)
        self.scratch("u", BLOCK, flat.values.dtype)
        for part, segment, theta, g, t in self._update_blocks(flat, control, weight_decay != 0.0):
            eta, keep = rates[segment.rate, segment.decay]
            parts = [array[part] for array in state]
            u = known.direction(g, parts, settings, numbers, t, self._tile_scratch("u", g))
            np.multiply(u, eta, out=t)
            self._step_to(flat, part, theta, keep, t)

    @every_step
    def _compute_rule(
        self, control: StepControl, rule: UpdateRule, settings: Sequence[float], out: list[Array]
    ) -> None:
        for number, value in zip(out, rule.numbers(int(control.step[0]) + 1, settings), strict=True):
            number[...] = value

    def _step_to(self, flat: FlatParameters, part: slice, theta: Array, keep: Array | None, change: Array) -> None:
        """θ ← keep·θ − change, keep None for 1."""
        if keep is not None:
            np.multiply(theta, keep, out=theta)
        np.subtract(theta, change, out=theta)
        self._round_to_low(flat, part, theta)

    def _numbers(self, flat: FlatParameters, n: int, tag: str = "numbers") -> list[Array]:
        """n arrays without dimensions, of the parameters' dtype: operands that change from step to step."""
        numbers = self.scratch(tag, n, flat.values.dtype) if n else flat.values[:0]
        return [numbers[i : i + 1].reshape(()) for i in range(n)]

    def _learning_rates(
        self, flat: FlatParameters, control: StepControl, weight_decay: float | Scheduled, slowing: float = 0.0
    ) -> dict[tuple[float, float], tuple[Array, Array | None]]:
        """η_t = rη/(1 + (t − 1)·slowing) and 1 − η_t·dλ, for the factors (r, d) of segments; None where that is 1."""
        decays = weight_decay != 0.0
        kinds = list({(s.rate, s.decay if decays else 0.0): None for s in flat.segments})
        numbers = self._numbers(flat, 2 * len(kinds))
        rates = {kind: (numbers[2 * i], numbers[2 * i + 1]) for i, kind in enumerate(kinds)}
        self._compute_learning_rates(control, weight_decay, slowing, rates)
        return {kind: (eta, keep if kind[1] else None) for kind, (eta, keep) in rates.items()}

    @every_step
    def _compute_learning_rates(
        self,
        control: StepControl,
        weight_decay: float | Scheduled,
        slowing: float,
        rates: Mapping[tuple[float, float], tuple[Array, Array]],
    ) -> None:
        value = scheduled_value(weight_decay)
        for (factor, decay), (eta, keep) in rates.items():
            slowed = factor * float(control.learning_rate[0]) / (1.0 + int(control.step[0]) * slowing)
            eta[...] = slowed
            keep[...] = 1.0 - slowed * (decay * value)

    def _update_blocks(
        self, flat: FlatParameters, control: StepControl, decay_matters: bool = False
    ) -> Iterator[tuple[slice, Segment, Array, Array, Array]]:
        """(slice, segment, θ, g, scratch) for each block, g penalized and clipped; nothing once a step has failed.

        All memory is made before the first block, so that an update is made whole or not at all.
        """
        changes_g = control.loss_scaling is not None or control.max_norm is not None or control.max_value is not None
        for tag in ("t", "g") if changes_g or flat.penalized else ("t",):
            self.scratch(tag, BLOCK, flat.values.dtype)
        if stop_unless_negative(control.failed_step):
            return
        inverse = self._inverse_scale(flat, control.loss_scale)
        scale = None
        if control.max_norm is not None:
            scale = self.scratch("clip scale", 1, flat.values.dtype).reshape(())
            np.copyto(scale, control.clip_scale[:1].reshape(()), casting="same_kind")
        for part, segment in flat.blocks(decay_matters):
            theta, g = flat.values[part], flat.gradients[part]
            if inverse is not None:
                g = np.multiply(g, inverse, out=self._tile_scratch("g", g))
            if segment.l1 or segment.l2:
                g = self._penalized_block(theta, g, segment, self._tile_scratch("g", g))
            if scale is not None:
                g = np.multiply(g, scale, out=self._tile_scratch("g", g))
            if control.max_value is not None:
                clipped = self._tile_scratch("g", g)
                np.maximum(g, constant_tile(-control.max_value, g.shape, g.dtype), out=clipped)
                g = np.minimum(clipped, constant_tile(control.max_value, g.shape, g.dtype), out=clipped)
            yield part, segment, theta, g, self._tile_scratch("t", g)

    def _inverse_scale(self, flat: FlatParameters, loss_scale: Array | None) -> Array | None:
        """1/loss_scale in an array without dimensions, or None for 1."""
        if loss_scale is None:
            return None
        inverse = self.scratch("inverse scale", 1, flat.values.dtype).reshape(())
        self._invert(loss_scale, inverse)
        return inverse

    @every_step
    def _invert(self, x: Array, out: Array) -> None:
        out[...] = 1.0 / float(x[0])

    def _square(self, g: Array, inverse: Array | None) -> float:
        if inverse is not None:
            g = np.multiply(g, inverse, out=self._tile_scratch("g", g))
        return float(np.dot(g, g))

    def _round_to_low(self, flat: FlatParameters, part: slice, theta: Array) -> None:
        """low ← θ in low's dtype, for the parameters of this block that have a copy there."""
        if flat.low is not None and part.start < flat.low.size:
            low = flat.low[part]
            np.copyto(low, theta[: low.size], casting="unsafe")

    def _penalized_block(self, w: Array, g: Array, segment: Segment, out: Array) -> Array:
        if segment.l2:
            t = self._tile_scratch("t", w)
            np.multiply(w, 2.0 * segment.l2, out=t)
            g = np.add(g, t, out=out)
        if segment.l1:
            t = self._tile_scratch("t", w)
            np.sign(w, out=t)
            np.multiply(t, segment.l1, out=t)
            g = np.add(g, t, out=out)
        if g is not out:
            np.copyto(out, g)
        return out
