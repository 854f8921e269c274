"""Muon."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Self

from .._checks import check_bool, check_choice, check_integer, check_real
from .._types import Array
from ..backend import FlatParameters, Ops, StepControl, WeightMatrix
from ._base import OPTIMIZERS, Course, HasParameters
from ._factors import Factor
from ._newton_schulz import Memory, NewtonSchulz
from ._weight_decay import WeightDecay
from .adam import Adam

_logger = logging.getLogger("fcnn_gpu")

_SCALES = {
    "original": lambda n_out, n_in: math.sqrt(max(1.0, n_out / n_in)),
    "match_rms_adamw": lambda n_out, n_in: 0.2 * math.sqrt(max(n_out, n_in)),
}
"""What an orthogonal step is multiplied by, by `adjust_lr_fn`."""

_LARGEST = WeightMatrix(2**40, 1)
"""Of networks that are not known yet, no weights are more."""


@OPTIMIZERS.register("muon")
@dataclass
class Muon(WeightDecay):
    """Momentum, made orthogonal: m ← μm + (1 − μ)g, W ← W(1 − ηλ) − ηs·O, O ≈ (DDᵀ)^(−½)D with D = (1 − μ)g + μm.

    D is m itself without `nesterov`. `ns_steps` Newton–Schulz iterations take its singular values towards 1: X = D/‖D‖,
    then X ← aX + b(XXᵀ)X + c(XXᵀ)²X with `ns_coefficients` (a, b, c). They are three products of matrices each,
    whatever the batch, in the precision of the network's: of n × n weights as much arithmetic as 5n/batch passes
    forward and backward. Each member of an ensemble has matrices of its own. s is, by `adjust_lr_fn`,
    0.2·√max(n_out, n_in) ("match_rms_adamw": steps as long as AdamW's, so that both take one learning rate) or
    √max(1, n_out/n_in) ("original").

    Hidden weights are made orthogonal: those of all layers but the first and the last ones, `optimizer.orthogonalized`
    once it is bound. `orthogonalize`, patterns of names, says otherwise: `["*.W"]` are all weights, `["1.*", "2.*"]`
    those of two layers. All else (biases, normalization, embeddings, the first and the last weights) has AdamW's
    updates with the rate `adam_rate_factor`·η, `adam_beta1`, `adam_beta2`, `adam_eps` and the same weight decay;
    biases and normalization parameters decay under `decay_all` alone. Factors by name multiply both kinds of updates.

    A network of two layers has no hidden weights, and only AdamW's updates, which the log says. Weights on the host or
    on disk pass through the device in parts, and take AdamW's updates only: `bind` refuses others, by a ValueError.

    Sources: Jordan et al. (2024), "Muon: an optimizer for hidden layers in neural networks"; Liu et al. (2025), "Muon
    is scalable for LLM training"; in PyTorch's form, whose default of `adjust_lr_fn` is "original", and which
    multiplies in bfloat16. AdamW's settings are those of Jordan's `MuonWithAuxAdam`.
    """

    learning_rate: Any = 1e-3
    weight_decay: Any = 0.1
    momentum: float = 0.95
    nesterov: bool = True
    adjust_lr_fn: str = "match_rms_adamw"
    orthogonalize: Sequence[str] | None = None
    ns_coefficients: Sequence[float] = field(default=(3.4445, -4.7750, 2.0315), kw_only=True)
    ns_steps: int = field(default=5, kw_only=True)
    eps: float = field(default=1e-7, kw_only=True)
    adam_rate_factor: float = field(default=1.0, kw_only=True)
    adam_beta1: float = field(default=0.9, kw_only=True)
    adam_beta2: float = field(default=0.95, kw_only=True)
    adam_eps: float = field(default=1e-10, kw_only=True)

    def _check(self) -> None:
        self.momentum = check_real("Muon(momentum)", self.momentum, low=0.0, high=1.0, high_open=True)
        check_bool("Muon(nesterov)", self.nesterov)
        self.ns_steps = check_integer("Muon(ns_steps)", self.ns_steps, low=1, high=99)
        self.ns_coefficients = _coefficients(self.ns_coefficients)
        self.eps = check_real("Muon(eps)", self.eps, low=0.0, low_open=True)
        check_choice("Muon(adjust_lr_fn)", self.adjust_lr_fn, _SCALES)
        self.orthogonalize = _patterns(self.orthogonalize)
        self.adam_rate_factor = check_real("Muon(adam_rate_factor)", self.adam_rate_factor, low=0.0)
        for name in ("adam_beta1", "adam_beta2"):
            setattr(self, name, check_real(f"Muon({name})", getattr(self, name), low=0.0, high=1.0, high_open=True))
        self.adam_eps = check_real("Muon(adam_eps)", self.adam_eps, low=0.0, low_open=True)

    def bind(self, model: HasParameters) -> Self:
        if self._bound is None:
            names = self._chosen(model.flat.matrices)
            self._refuse_stored(names, model)
            if not names and self.orthogonalize is None:
                _logger.info(
                    "Muon has no weights to make orthogonal: this network has a first layer and a last one, and none "
                    "between. All parameters have AdamW's updates. Muon(orthogonalize=['*.W']) takes all weights."
                )
        return super().bind(model)

    @property
    def orthogonalized(self) -> list[str]:
        """The names of the weights whose steps are made orthogonal."""
        return self._chosen(self._require()[1].matrices)

    def _chosen(self, matrices: dict[str, WeightMatrix] | Any) -> list[str]:
        """The names of those that are to be orthogonal. ValueError where a pattern matches none."""
        if self.orthogonalize is None:
            return [name for name, matrix in matrices.items() if matrix.hidden]
        for pattern in self.orthogonalize:
            if not any(fnmatchcase(name, pattern) for name in matrices):
                raise ValueError(
                    f"Muon(orthogonalize): {pattern!r} matches no weights of the model. Its weights: "
                    f"{', '.join(matrices)}. Biases, normalization and embeddings are no matrices to make orthogonal."
                )
        return [name for name in matrices if any(fnmatchcase(name, pattern) for pattern in self.orthogonalize)]

    @staticmethod
    def _refuse_stored(names: Sequence[str], model: HasParameters) -> None:
        stored = [] if model.stored is None else [name for name in names if name in model.stored.names]
        if stored:
            raise ValueError(
                f"Muon makes whole matrices orthogonal, and {', '.join(stored)} would pass through the device in "
                "parts, because the weights lie on the host or on disk. Keep those layers on the device, name other "
                "weights in orthogonalize=[...], or take fcnn.AdamW()."
            )

    def _state_names(self) -> tuple[str, ...]:
        return ("m", "v")

    def _new_state(self, ops: Ops, flat: FlatParameters) -> dict[str, Array]:
        """m of all parameters, v of AdamW's alone; and the memory of the first step."""
        chosen = self._chosen(flat.matrices)
        self._memory(ops, flat, chosen)
        n = sum(place.stop - place.start for name, place in flat.places.items() if name not in chosen)
        dtype = flat.values.dtype
        return {"m": ops.zeros(flat.values.size, dtype), "v": ops.zeros(n, dtype)}

    def state_of(self, name: str) -> dict[str, Array]:
        _, flat, _, state = self._require()
        found, place = {"m": state["m"][flat.places[name]]}, flat.places[name]
        for stretch, kept in self._adams(flat, self._chosen(flat.matrices)):
            if stretch.start <= place.start < stretch.stop:
                start = kept.start + place.start - stretch.start
                found["v"] = state["v"][start : start + place.stop - place.start]
        return found

    def factors_of(self, name: str, decay: float) -> tuple[Factor, Factor]:
        rate, decay_factor = super().factors_of(name, decay)
        if self._bound is not None and name not in self._chosen(self._bound[1].matrices):
            scale = self.adam_rate_factor
            rate = [scale * x for x in rate] if isinstance(rate, list) else scale * rate
        return rate, decay_factor

    @staticmethod
    def _adams(flat: FlatParameters, chosen: Sequence[str]) -> Iterator[tuple[slice, slice]]:
        """The stretches of parameters with AdamW's updates, and where their v lies."""
        at, known = 0, set(chosen)
        for is_adams, group in itertools.groupby(flat.places.items(), lambda item: item[0] not in known):
            places = [place for _, place in group]
            start, stop = places[0].start, places[-1].stop
            if is_adams:
                yield slice(start, stop), slice(at, at + stop - start)
                at += stop - start

    @property
    def _adam(self) -> Adam:
        return Adam(1.0, self.adam_beta1, self.adam_beta2, self.adam_eps)

    @property
    def _iterations(self) -> NewtonSchulz:
        a, b, c = self.ns_coefficients
        return NewtonSchulz((a, b, c), self.ns_steps, self.eps)

    def _scale_of(self, matrix: WeightMatrix) -> float:
        return float(_SCALES[self.adjust_lr_fn](matrix.n_out, matrix.n_in))

    def _reach(self, course: Course) -> float:
        # no element of a matrix is larger than its largest singular value
        matrices = {} if self._bound is None else self._bound[1].matrices
        chosen = [_LARGEST] if self._bound is None else [matrices[name] for name in self._chosen(matrices)]
        scale = max((self._scale_of(matrix) for matrix in chosen), default=0.0)
        longest = scale * self._iterations.largest_value() if scale else 0.0
        longest = max(longest, self.adam_rate_factor * self._adam._largest_direction(course))
        growing = replace(course, rate=course.rate * max(1.0, self.adam_rate_factor))
        reach = (course.start + course.n_steps * course.rate * longest) * self._growth(growing)
        return self._adam._with_moments(course, reach)

    @staticmethod
    def _memory(ops: Ops, flat: FlatParameters, chosen: Sequence[str]) -> Memory | None:
        matrices = [flat.matrices[name] for name in chosen if name in flat.places]
        low = None if flat.low is None else flat.low.dtype
        return Memory.of(ops, matrices, flat.values.dtype, low) if matrices else None

    def _update(self, ops: Ops, flat: FlatParameters, control: StepControl, state: dict[str, Array]) -> None:
        m, v, betas = state["m"], state["v"], (self.adam_beta1, self.adam_beta2, self.adam_eps)
        if not flat.places:  # a part of weights that lie elsewhere, or no parameters
            ops.adam_update(flat, control, *betas, self._decay, m, v)
            return
        chosen, iterations = self._chosen(flat.matrices), self._iterations
        memory = self._memory(ops, flat, chosen)  # of all matrices, before anything changes
        for place, kept in self._adams(flat, chosen):
            ops.adam_update(flat.part(place), control, *betas, self._decay, m[place], v[kept])
        for name in chosen:
            matrix, place = flat.matrices[name], flat.places[name]
            part = flat.part(place)
            if part.segments[0].frozen:
                continue
            assert memory is not None
            direction = memory.direction[: matrix.size]
            ops.momentum_direction(part, control, self.momentum, self.nesterov, m[place], direction)
            step = iterations.orthogonalize(ops, direction, matrix, self._scale_of(matrix), memory)
            ops.update_by_rule(part, control, "along", (), (step,), self._decay)


def _coefficients(given: Any) -> tuple[float, float, float]:
    if isinstance(given, str) or not isinstance(given, Sequence) or len(given) != 3:
        raise TypeError(f"Muon(ns_coefficients) expects three numbers (a, b, c), got {given!r}.")
    a, b, c = (check_real("Muon(ns_coefficients)", x, low=-math.inf) for x in given)
    return a, b, c


def _patterns(given: Any) -> tuple[str, ...] | None:
    if given is None:
        return None
    if isinstance(given, str) or not isinstance(given, Sequence) or not all(isinstance(x, str) for x in given):
        raise TypeError(
            f'Muon(orthogonalize) expects a list of patterns of names, such as ["1.W", "2.*"], got {given!r}.'
        )
    return tuple(given)
