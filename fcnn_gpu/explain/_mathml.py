"""Formulas as people write them, in MathML Core, which browsers typeset themselves.

>>> mathml("Z = W·A₀ + b")
'<math><mi>Z</mi><mo>=</mo><mi>W</mi><mo>·</mo><msub><mi>A</mi><mn>0</mn></msub><mo>+</mo><mi>b</mi></math>'
>>> mathml("1/(2 + x²)")
'<math><mfrac><mn>1</mn><mrow><mn>2</mn><mo>+</mo><msup><mi>x</mi><mn>2</mn></msup></mrow></mfrac></math>'

A letter is a variable, with d or ∂ in front a derivative; several letters are a word. `_` and `^` take a letter, a
number, a word or what is in parentheses; a/b is a fraction of its neighbours, without their parentheses.
"""

from __future__ import annotations

import re
from html import escape

_SUB = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_SUP = str.maketrans("ᵀ²³⁻⁶", "T23−6")
_TOKEN = re.compile(
    r"(?P<power>\d+(?:\.\d+)?e[−+]?\d+)|(?P<number>\d+(?:,\d{3})*(?:\.\d+)?)"
    r"|(?P<derivative>[d∂](?=[A-Za-zα-ωΑ-Ω](?![a-z])))"
    r"|(?P<word>[A-Za-z]{2,})"
    r"|(?P<letter>[A-Za-zα-ωΑ-Ω]\u0302?|∂|½)"
    r"|(?P<sub>[₀-₉]+)|(?P<sup>[ᵀ²³⁻⁶]+|′)"
    r"|(?P<space>\s+)|(?P<other>.)"
)


def mathml(text: str) -> str:
    """The formula as an element."""
    return f"<math>{_Parser(text).rest()}</math>"


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = [(m.lastgroup, m[0]) for m in _TOKEN.finditer(text) if m.lastgroup]
        self._place = 0

    def _next(self) -> tuple[str | None, str]:
        return self._tokens[self._place] if self._place < len(self._tokens) else (None, "")

    def rest(self, closing: str = "") -> str:
        """All up to a closing parenthesis, or the end."""
        parts: list[str] = []
        while True:
            kind, text = self._next()
            if kind is None or text == closing:
                return "".join(parts)
            if kind == "space":
                self._place += 1
                if parts and _is_operand(parts[-1]) and self._next()[0] in _OPERANDS | {"other"}:
                    parts += [_SPACE] if self._next()[0] != "other" or self._next()[1] in "(√" else []
            elif text in "−±" and (not parts or parts[-1].startswith("<mo")):
                self._place += 1
                parts.append(f'<mo form="prefix">{text}</mo>')
            elif text == "/" and parts:
                self._place += 1
                parts.append(f"<mfrac>{_bare(parts.pop())}{_bare(self._atom())}</mfrac>")
            elif kind == "word" and text in ("for", "else", "of", "row", "in", "each", "member", "between", "and"):
                self._place += 1
                parts.append(f"<mtext>\u00a0{text}\u00a0</mtext>")
            else:
                parts.append(self._atom())

    def _atom(self) -> str:
        """A thing with what hangs on it: sub- and superscripts."""
        while self._next()[0] == "space":
            self._place += 1
        made, sub, sup = self._base(), [], []
        while True:
            kind, text = self._next()
            if kind == "sub":
                self._place += 1
                sub.append(f"<mn>{text.translate(_SUB)}</mn>")
            elif kind == "sup":
                self._place += 1
                sup.append(f"<mo>{text}</mo>" if text == "′" else _plain(text.translate(_SUP)))
            elif text in ("_", "^"):
                self._place += 1
                (sub if text == "_" else sup).append(_bare(self._base()))
            else:
                break
        if sub and sup:
            return f"<msubsup>{made}{_row(sub)}{_row(sup)}</msubsup>"
        if sub:
            return f"<msub>{made}{_row(sub)}</msub>"
        return f"<msup>{made}{_row(sup)}</msup>" if sup else made

    def _base(self) -> str:
        kind, text = self._next()
        self._place += 1
        if kind == "power":
            digits, _, exponent = text.partition("e")
            power = f"<msup><mn>10</mn><mn>{exponent[0].strip('+0123456789')}{exponent.lstrip('+−0')}</mn></msup>"
            return power if digits == "1" else f"<mrow><mn>{digits}</mn><mo>·</mo>{power}</mrow>"
        if kind == "number":
            return f"<mn>{text}</mn>"
        if kind == "derivative":
            return f"<mrow><mi>{text}</mi>{self._base()}</mrow>"
        if kind == "letter" and text.endswith("\u0302"):
            return f'<mover accent="true"><mi>{text[0]}</mi><mo>^</mo></mover>'
        if kind in ("word", "letter"):
            return f"<mi>{text}</mi>"
        if text == "(":
            inside = self.rest(")")
            self._place += 1
            return f"<mrow>{_OPEN}{inside}{_CLOSE}</mrow>"
        if text == "√":
            return f"<msqrt>{_bare(self._atom())}</msqrt>"
        return f'<mo stretchy="false">{text}</mo>' if text in "[]|‖" else f"<mo>{escape(text)}</mo>"


_OPERANDS = {"number", "power", "derivative", "word", "letter"}
_SPACE = '<mspace width="0.17em"/>'
_OPEN, _CLOSE = '<mo stretchy="false">(</mo>', '<mo stretchy="false">)</mo>'


def _is_operand(element: str) -> bool:
    """Whether what follows it stands for a product, or is what the function is of."""
    return not element.startswith(("<mo>", "<mo ", "<mtext", "<mspace")) or element.endswith("]</mo>")


def _plain(text: str) -> str:
    return f"<mi>{text}</mi>" if text == "T" else f"<mn>{text}</mn>"


def _row(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"<mrow>{''.join(parts)}</mrow>"


_GROUP = re.compile(re.escape(f"<mrow>{_OPEN}") + "(.*)" + re.escape(f"{_CLOSE}</mrow>"), re.DOTALL)


def _bare(element: str) -> str:
    """A group without its parentheses."""
    group = _GROUP.fullmatch(element)
    return f"<mrow>{group[1]}</mrow>" if group else element
