"""An optimizer's first step of one number, with the numbers in the place of the letters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..optimizers import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
from ._document import number

if TYPE_CHECKING:
    from .explanation import Updated


def worked(optimizer: Optimizer, rate: float, name: str, of: Updated, place: tuple[int, ...]) -> list[str]:
    """The equations of `_formulas.of_optimizer` for the entry `place` of the parameter `name`, g clipped already.

    Nothing for an optimizer that is not of this package, or with factors of its own for the members of an ensemble.
    """
    is_weight = name.rpartition(".")[2] == "W"
    factor, decay = optimizer.factors_of(name, 1.0 if is_weight else 0.0)
    if isinstance(factor, list) or isinstance(decay, list):
        return []
    eta = number(rate * factor)
    theta, g, after = (number(array[place]) for array in (of.before, of.gradient, of.after))
    kept = {key: float(array[place]) for key, array in of.state.items()}
    rule: Any = optimizer
    if isinstance(optimizer, SGD):
        if not optimizer.momentum:
            return [f"θ ← {_minus(theta, eta, g)} = {after}"]
        v = number(kept["velocity"])
        moved = f"({g} + {number(rule.momentum)}·{_signed(v)})" if optimizer.nesterov else _signed(v)
        return [f"v ← {number(rule.momentum)}·0 + {g} = {v}", f"θ ← {theta} − {eta}·{moved} = {after}"]
    if isinstance(optimizer, Adam):
        m, v = kept["m"] * (1 - rule.beta1), kept["v"] * (1 - rule.beta2)
        lines = [f"m ← {number(1 - rule.beta1)}·{_signed(g)} = {number(m)}"]
        lines += [f"v ← {number(1 - rule.beta2)}·{_signed(g)}² = {number(v)}"]
        lines += [f"m̂ = {number(m)}/{number(1 - rule.beta1)} = {number(kept['m'])}"]
        lines += [f"v̂ = {number(v)}/{number(1 - rule.beta2)} = {number(kept['v'])}"]
        start = theta
        if isinstance(optimizer, AdamW) and decay and isinstance(rule.weight_decay, float):
            start = f"{theta}·(1 − {eta}·{number(rule.weight_decay * decay)})"
        step = f"{_signed(number(kept['m']))}/(√({number(kept['v'])}) + {number(rule.eps)})"
        return [*lines, f"θ ← {start} − {eta}·{step} = {after}"]
    if isinstance(optimizer, RMSprop):
        v = number(kept["v"])
        lines = [f"v ← {number(1 - rule.alpha)}·{_signed(g)}² = {v}"]
        step = f"{_signed(g)}/(√({v}) + {number(rule.eps)})"
        if not rule.momentum:
            return [*lines, f"θ ← {theta} − {eta}·{step} = {after}"]
        b = number(kept["velocity"])
        return [*lines, f"b ← {number(rule.momentum)}·0 + {step} = {b}", f"θ ← {_minus(theta, eta, b)} = {after}"]
    if isinstance(optimizer, Adagrad):
        s = number(kept["s"])
        step = f"{_signed(g)}/(√({s}) + {number(rule.eps)})"
        return [f"s ← 0 + {_signed(g)}² = {s}", f"θ ← {theta} − {eta}·{step} = {after}"]
    return []


def _signed(text: str) -> str:
    """In parentheses, where it has a sign."""
    return f"({text})" if text.startswith("−") else text


def _minus(start: str, eta: str, g: str) -> str:
    return f"{start} − {eta}·{_signed(g)}"
