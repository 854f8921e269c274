"""An optimizer's first step of one number, with the numbers in the place of the letters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..optimizers import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    Lion,
    Muon,
    NAdam,
    Optimizer,
    RAdam,
    RMSprop,
)
from ..pages import number

if TYPE_CHECKING:
    from .explanation import Updated


def worked(optimizer: Optimizer, rate: float, name: str, of: Updated, place: tuple[int, ...]) -> list[str]:
    """The equations of `_formulas.of_optimizer` for the entry `place` of the parameter `name`, g clipped already.

    Nothing for an optimizer that is not of this package, or with factors of its own for the members of an ensemble, or
    whose weight decay follows a schedule.
    """
    is_weight = name.rpartition(".")[2] == "W"
    factor, decay = optimizer.factors_of(name, 1.0 if is_weight else 0.0)
    rule: Any = optimizer
    found = [lines for kind, lines in _LINES.items() if isinstance(optimizer, kind)]
    if not found or isinstance(factor, list) or isinstance(decay, list):
        return []
    eta, start = number(rate * factor), number(of.before[place])
    if decay and rule.weight_decay:
        if not isinstance(rule.weight_decay, float):
            return []
        start = f"{start}·(1 − {eta}·{number(rule.weight_decay * decay)})"
    kept = {key: float(array[place]) for key, array in of.state.items()}
    if isinstance(optimizer, Muon) and "v" not in kept:  # of an orthogonal matrix, each entry depends on all gradients
        pull = rate * factor * rule.weight_decay * decay if decay and rule.weight_decay else 0.0
        whole = float(of.before[place]) * (1 - pull) - float(of.after[place])
        kept["step"] = whole / (rate * factor) if rate * factor else 0.0
    *lines, step = found[0](rule, float(of.gradient[place]), kept)
    return [*lines, f"θ ← {start} − {eta}·{step} = {number(of.after[place])}"]


def _of_sgd(rule: Any, g: float, kept: Mapping[str, float]) -> list[str]:
    if not rule.momentum:
        return [_signed(g)]
    mu, v = number(rule.momentum), kept["velocity"]
    moved = f"({number(g)} + {mu}·{_signed(v)})" if rule.nesterov else _signed(v)
    return [f"v ← {mu}·0 + {number(g)} = {number(v)}", moved]


def _of_adam(rule: Any, g: float, kept: Mapping[str, float]) -> list[str]:
    m, v = kept["m"] * (1 - rule.beta1), kept["v"] * (1 - rule.beta2)
    lines = _moments(rule, g, m, v)
    lines += [f"s ← max(0, {number(v)}) = {number(v)}"] if rule.amsgrad else []
    lines += [f"m̂ = {number(m)}/{number(1 - rule.beta1)} = {number(kept['m'])}"]
    lines += [f"v̂ = {number(v)}/{number(1 - rule.beta2)} = {number(kept['v'])}"]
    return [*lines, f"{_signed(kept['m'])}/(√({number(kept['v'])}) + {number(rule.eps)})"]


def _of_rmsprop(rule: Any, g: float, kept: Mapping[str, float]) -> list[str]:
    v, rest = number(kept["v"]), number(1 - rule.alpha)
    lines, spread = [f"v ← {rest}·{_signed(g)}² = {v}"], v
    if rule.centered:
        lines.append(f"w ← {rest}·{_signed(g)} = {number(kept['mean'])}")
        spread = f"{v} − {_signed(kept['mean'])}²"
    step = f"{_signed(g)}/(√({spread}) + {number(rule.eps)})"
    if not rule.momentum:
        return [*lines, step]
    b = kept["velocity"]
    return [*lines, f"b ← {number(rule.momentum)}·0 + {step} = {number(b)}", _signed(b)]


def _of_adagrad(rule: Any, g: float, kept: Mapping[str, float]) -> list[str]:
    s = number(kept["s"])
    return [f"s ← 0 + {_signed(g)}² = {s}", f"{_signed(g)}/(√({s}) + {number(rule.eps)})"]


def _of_nadam(rule: Any, g: float, kept: Mapping[str, float]) -> list[str]:
    m, v, beta1 = kept["m"], kept["v"], rule.beta1
    c = 0.96**rule.momentum_decay
    first, second = beta1 * (1 - 0.5 * c), beta1 * (1 - 0.5 * c * c)
    v_hat = number(v / (1 - rule.beta2))
    lines = [*_moments(rule, g, m, v), f"v̂ = {number(v)}/{number(1 - rule.beta2)} = {v_hat}"]
    lines += [f"μ_1 = {number(beta1)}·(1 − 0.5·{number(c)}) = {number(first)}"]
    lines += [f"μ_2 = {number(beta1)}·(1 − 0.5·{number(c)}²) = {number(second)}"]
    now = f"(1 − {number(first)})·{_signed(g)}/(1 − {number(first)})"
    ahead = f"{number(second)}·{_signed(m)}/(1 − {number(first)}·{number(second)})"
    return [*lines, f"({now} + {ahead})/(√({v_hat}) + {number(rule.eps)})"]


def _of_radam(rule: Any, g: float, kept: Mapping[str, float]) -> list[str]:
    m, v = kept["m"], kept["v"]
    m_hat = m / (1 - rule.beta1)
    lines = [*_moments(rule, g, m, v), f"m̂ = {number(m)}/{number(1 - rule.beta1)} = {number(m_hat)}", "ρ_1 = 1 < 5"]
    return [*lines, _signed(m_hat)]


def _of_adamax(rule: Any, g: float, kept: Mapping[str, float]) -> list[str]:
    m, s, rest = kept["m"], number(kept["s"]), number(1 - rule.beta1)
    lines = [f"m ← {rest}·{_signed(g)} = {number(m)}", f"s ← max(0, {number(abs(g))} + {number(rule.eps)}) = {s}"]
    return [*lines, f"{_signed(m)}/({rest}·{s})"]


def _of_adadelta(rule: Any, g: float, kept: Mapping[str, float]) -> list[str]:
    v, d, eps, rest = kept["v"], kept["d"], number(rule.eps), number(1 - rule.rho)
    u = (rule.eps / (v + rule.eps)) ** 0.5 * g
    lines = [f"v ← {rest}·{_signed(g)}² = {number(v)}"]
    lines += [f"u = √({eps})/√({number(v)} + {eps})·{_signed(g)} = {number(u)}"]
    return [*lines, f"d ← {rest}·{_signed(u)}² = {number(d)}", _signed(u)]


def _of_muon(rule: Any, g: float, kept: Mapping[str, float]) -> list[str]:
    if "v" in kept:
        return _of_adam(Adam(1.0, rule.adam_beta1, rule.adam_beta2, rule.adam_eps), g, kept)
    m, mu, rest = kept["m"], number(rule.momentum), number(1 - rule.momentum)
    lines = [f"m ← {rest}·{_signed(g)} = {number(m)}"]
    if rule.nesterov:
        direction = (1 - rule.momentum) * g + rule.momentum * m
        lines += [f"D = {rest}·{_signed(g)} + {mu}·{_signed(m)} = {number(direction)}"]
    return [*lines, _signed(kept["step"])]


def _of_lion(rule: Any, g: float, kept: Mapping[str, float]) -> list[str]:
    u = float((g > 0) - (g < 0))
    lines = [f"u = sign({number(1 - rule.beta1)}·{_signed(g)}) = {number(u)}"]
    return [*lines, f"m ← {number(1 - rule.beta2)}·{_signed(g)} = {number(kept['m'])}", _signed(u)]


_LINES: dict[type[Optimizer], Callable[[Any, float, Mapping[str, float]], list[str]]] = {
    SGD: _of_sgd,
    Adam: _of_adam,
    RMSprop: _of_rmsprop,
    Adagrad: _of_adagrad,
    NAdam: _of_nadam,
    RAdam: _of_radam,
    Adamax: _of_adamax,
    Adadelta: _of_adadelta,
    Lion: _of_lion,
    Muon: _of_muon,
}
"""By the class: lines of what a first step computes, the last what η is multiplied by. AdamW is an Adam."""


def _moments(rule: Any, g: float, m: float, v: float) -> list[str]:
    first = f"m ← {number(1 - rule.beta1)}·{_signed(g)} = {number(m)}"
    return [first, f"v ← {number(1 - rule.beta2)}·{_signed(g)}² = {number(v)}"]


def _signed(value: float) -> str:
    """In parentheses, where it has a sign."""
    text = number(value)
    return f"({text})" if text.startswith("−") else text
