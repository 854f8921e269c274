"""PTX as the tests read it: the instructions of each kernel, and what they leave the assembler to choose.

The assembler may fuse a `mul` and an `add` without rounding modifiers into one `fma`, but not a `mul.rn` and an
`add.rn` (PTX ISA, "Floating point instructions: add"). NVRTC fuses by itself what its blocks of code show, and writes
the rest without modifiers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ENTRY = re.compile(r"^\.(?:weak|visible) \.entry (\w+)\(", re.MULTILINE)
_LINE = re.compile(
    r"^[\s{]*(?:(?P<label>\$\w+):|(?P<guard>@!?%p\d+\s+)?(?P<opcode>[a-z][\w.:]*)(?:\s+(?P<rest>[^;]*))?;)"
)  # a brace before an instruction is that of inline assembly
_REGISTER = re.compile(r"%[a-z]+\d+")
_PRODUCT = re.compile(r"mul(\.ftz)?\.f(32|64)")
_SUM = re.compile(r"(add|sub)(\.ftz)?\.f(32|64)")
_COPY = re.compile(r"(mov\.(f|b)|selp\.(f|b)|neg\.|abs\.)")


@dataclass(frozen=True)
class Instruction:
    """One instruction; registers only, in the order of the text."""

    opcode: str
    results: tuple[str, ...]
    operands: tuple[str, ...]
    text: str
    target: str = ""  # of a branch
    conditional: bool = False


@dataclass(frozen=True)
class Block:
    """Instructions without a branch between them, and the numbers of the blocks that may follow."""

    instructions: list[Instruction]
    following: list[int]


def entries(ptx: str) -> dict[str, list[Block]]:
    """The blocks of each kernel, by its name in the PTX."""
    parts = _ENTRY.split(ptx)
    return {name: _blocks(body) for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def _blocks(body: str) -> list[Block]:
    texts: list[list[Instruction]] = [[]]
    at: dict[str, int] = {}
    for line in body.splitlines():
        found = _LINE.match(line)
        if found is None:
            continue
        if found["label"]:
            texts.append([])
            at[found["label"]] = len(texts) - 1
            continue
        texts[-1].append(_instruction(found))
        if found["opcode"].startswith(("bra", "ret")):
            texts.append([])
    blocks = []
    for number, instructions in enumerate(texts):
        last = instructions[-1] if instructions else None
        following = [at[last.target]] if last is not None and last.target else []
        ends = last is not None and last.opcode.startswith(("bra", "ret")) and not last.conditional
        if not ends and number + 1 < len(texts):
            following.append(number + 1)
        blocks.append(Block(instructions, following))
    return blocks


def _instruction(found: re.Match[str]) -> Instruction:
    opcode, rest = found["opcode"], found["rest"] or ""
    if opcode.startswith("bra"):
        return Instruction(opcode, (), (), found[0].strip(), rest.strip(), bool(found["guard"]))
    if opcode.startswith(("st.", "ret")):
        return Instruction(
            opcode, (), tuple(_REGISTER.findall(rest)), found[0].strip(), conditional=bool(found["guard"])
        )
    head, _, tail = rest.partition("}") if rest.startswith("{") else rest.partition(",")
    operands = tuple(part.strip() for part in tail.strip(" ,").split(","))
    return Instruction(opcode, tuple(_REGISTER.findall(head)), operands, found[0].strip())


def open_sums(blocks: list[Block]) -> list[str]:
    """The sums of which the compiler may choose what is rounded.

    Those that take a product without a rounding modifier, be it through copies: `add` and `sub` without one, which may
    be fused with it, and the addend of an `fma`, whose other product might as well have been the one that is fused; but
    not p·t + t, which NVIDIA's erf ends with, spelt out, where t is a selection between a product and something else.
    """
    found: dict[int, str] = {}
    pending = [(0, frozenset[str]())]
    seen: dict[int, frozenset[str]] = {}
    while pending:
        number, arriving = pending.pop()
        if number in seen and arriving <= seen[number]:
            continue
        seen[number] = seen.get(number, frozenset()) | arriving
        products = set(seen[number])
        for instruction in blocks[number].instructions:
            if _SUM.fullmatch(instruction.opcode) and products & set(instruction.operands):
                found[id(instruction)] = instruction.text
            factor, other, addend = (*instruction.operands, "", "", "")[:3]
            if instruction.opcode.startswith("fma.") and addend in products and addend not in (factor, other):
                found[id(instruction)] = instruction.text
            is_product = _PRODUCT.fullmatch(instruction.opcode) is not None
            is_copy = _COPY.match(instruction.opcode) is not None and bool(products & set(instruction.operands))
            if is_product or is_copy:
                products.update(instruction.results)
            else:
                products.difference_update(instruction.results)
        pending += [(following, frozenset(products)) for following in blocks[number].following]
    return list(found.values())
