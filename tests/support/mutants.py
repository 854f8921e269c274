"""Files as faults leave them: from one sound file any number of mutants, each from its own seed.

Bits flip, ends are missing, stretches are inserted, doubled, removed or exchanged with those of another file, and
numbers become the largest and smallest of their kind, wherever they may stand. Text files also lose and gain what has a
meaning in them. Where a format protects its content by a checksum, `resigned_json` mutates what is under it and signs
it anew: readers must take nothing for granted of a file whose checksum is right.
"""

from __future__ import annotations

import json
import math
import random
import string
from collections.abc import Callable
from typing import Any

Mutation = Callable[[random.Random, bytes, bytes], bytes]

_EXTREMES = (0, 1, -1, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63)

_NUMBERS = ["", "0", "-1", "-0", "0x10", "1_000", " 1", "1.5", "1e999", "nan", "-nan", "inf", "True", "٣"]
_NUMBERS += [str(2**31), str(2**63), str(2**64), "9" * 400, "9" * 5000]
_PIECES = [b'"', b'""', b"'", b",", b";", b"\t", b"\n", b"\r", b"\r\n", b'\n""\n', b"#", b"," * 50, b"x" * 140_000]
_PIECES += [b"{", b"}", b"[", b"]", b":", b"\\", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", "😀".encode()]


def _place(rng: random.Random, content: bytes) -> int:
    """Anywhere; half of the time near an end, where formats say what they hold."""
    if not content:
        return 0
    if rng.random() < 0.5:
        near = min(len(content), 400)
        return rng.choice([rng.randrange(near), len(content) - 1 - rng.randrange(near)])
    return rng.randrange(len(content))


def _length(rng: random.Random, content: bytes) -> int:
    return min(len(content), rng.choice([1, 2, 4, 8, rng.randrange(1, 100), rng.randrange(1, len(content) + 2)]))


def flip_bits(rng: random.Random, content: bytes, other: bytes) -> bytes:
    """One bit, or a few."""
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 8])):
        if changed:
            changed[_place(rng, content)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def truncate(rng: random.Random, content: bytes, other: bytes) -> bytes:
    """An end is missing, or the beginning."""
    at = _place(rng, content)
    return content[at:] if rng.random() < 0.2 else content[:at]


def insert(rng: random.Random, content: bytes, other: bytes) -> bytes:
    """Random bytes, or a stretch of zeros, in between."""
    at, n = _place(rng, content), rng.choice([1, 2, 8, 100, 5000])
    return content[:at] + (bytes(n) if rng.random() < 0.3 else rng.randbytes(n)) + content[at:]


def double(rng: random.Random, content: bytes, other: bytes) -> bytes:
    """A stretch stands twice."""
    at, n = _place(rng, content), _length(rng, content)
    return content[: at + n] + content[at:]


def remove(rng: random.Random, content: bytes, other: bytes) -> bytes:
    """A stretch is gone."""
    at, n = _place(rng, content), _length(rng, content)
    return content[:at] + content[at + n :]


def overwrite(rng: random.Random, content: bytes, other: bytes) -> bytes:
    """A stretch comes from elsewhere in the file, or from another file."""
    source = other if other and rng.random() < 0.5 else content
    start, at, n = _place(rng, source), _place(rng, content), _length(rng, content)
    part = source[start : start + n]
    return content[:at] + part + content[at + len(part) :]


def extreme_number(rng: random.Random, content: bytes, other: bytes) -> bytes:
    """Where a binary number may stand, there is an extreme one."""
    size = rng.choice([1, 2, 4, 8])
    at = _place(rng, content)
    value = (rng.choice(_EXTREMES) % 2 ** (8 * size)).to_bytes(size, rng.choice(["little", "big"]))
    return content[:at] + value + content[at + size :]


def extreme_text(rng: random.Random, content: bytes, other: bytes) -> bytes:
    """A written number becomes another one."""
    digits = [i for i, byte in enumerate(content[:100_000]) if 48 <= byte <= 57]
    if not digits:
        return flip_bits(rng, content, other)
    first = last = rng.choice(digits)
    while first and 48 <= content[first - 1] <= 57:
        first -= 1
    while last + 1 < len(content) and 48 <= content[last + 1] <= 57:
        last += 1
    text = rng.choice(_NUMBERS)
    return content[:first] + text.encode() + content[last + 1 :]


def special_text(rng: random.Random, content: bytes, other: bytes) -> bytes:
    """What has a meaning in texts, and what is no text."""
    at = _place(rng, content)
    piece = rng.choice(_PIECES)
    return content[:at] + piece + content[at + rng.choice([0, 0, 1, len(piece)]) :]


ANY_FILE: tuple[Mutation, ...] = (
    flip_bits,
    flip_bits,
    truncate,
    insert,
    double,
    remove,
    overwrite,
    extreme_number,
    extreme_text,
)
TEXT_FILE: tuple[Mutation, ...] = (*ANY_FILE, special_text, special_text, special_text, extreme_text)


def mutant(seed: int, content: bytes, other: bytes = b"", mutations: tuple[Mutation, ...] = ANY_FILE) -> bytes:
    """The mutant of that number: one mutation, at times several, and never the file itself."""
    rng = random.Random(seed)
    changed = content
    for _ in range(rng.choice([1, 1, 1, 1, 2, 4])):
        changed = rng.choice(mutations)(rng, changed, other)
    for _ in range(100):
        if changed != content:
            return changed
        changed = flip_bits(rng, changed, other)
    return content + b"\0"


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, item in inner for found in _paths(item, (*path, key)))]


def _nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def strange_value(rng: random.Random, value: Any) -> Any:
    """Something of another kind or size than what stands in a JSON text."""
    text = "".join(rng.choices(string.printable + "σ😀\ud800\x00", k=rng.choice([0, 1, 5, 50])))
    choices: list[Any] = [
        None,
        True,
        False,
        0,
        1,
        -1,
        2,
        2**31,
        2**63,
        2**64,
        10**30,
        10**400,
        0.5,
        -0.0,
        1e308,
        math.nan,
    ]
    choices += [math.inf, text, text, [], {}, [1], {"name": "dense"}, _nested(150), "float16", "device", "a" * 10_000]
    choices += [[value], [value, value], {"a": value}, str(value)]
    if isinstance(value, bool):
        choices += [int(value), not value] * 4
    elif isinstance(value, int):
        choices += [float(value % 2**60), str(value), value + 1, value - 1, -value, value * 10**6] * 2
    elif isinstance(value, str):
        choices += [value.upper(), value + " ", value[:-1], value.encode(errors="replace").hex()] * 2
    elif isinstance(value, list):
        choices += [value[:-1], value + value[:1], value[::-1], value * 3] * 3
    elif isinstance(value, dict) and value:
        gone = rng.choice(list(value))
        choices += [{k: v for k, v in value.items() if k != gone}, value | {text: 1}, value | {gone.upper(): 1}] * 3
    return rng.choice(choices)


def resigned_json(seed: int, value: Any) -> str:
    """The JSON text of a mutant of `value`: parts are of other kinds or sizes, missing, exchanged or there twice.

    At times the text itself is mutated, so that what is no JSON is signed as well.
    """
    rng = random.Random(seed)
    changed = json.loads(json.dumps(value))
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        path = rng.choice(_paths(changed))
        if not path:
            changed = strange_value(rng, changed) if rng.random() < 0.2 else changed
            continue
        holder = changed
        for key in path[:-1]:
            holder = holder[key]
        if rng.random() < 0.15:
            other_path = rng.choice([found for found in _paths(changed) if found])
            other = changed
            for key in other_path:
                other = other[key]
            holder[path[-1]] = json.loads(json.dumps(other))
        else:
            holder[path[-1]] = strange_value(rng, holder[path[-1]])
    text = json.dumps(changed)
    if rng.random() < 0.2:
        mutations: tuple[Mutation, ...] = (extreme_text, double, remove, special_text)
        text = rng.choice(mutations)(rng, text.encode(), b"").decode(errors="ignore")
    return text
