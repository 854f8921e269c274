"""The CUDA kernels as data: where their files are, their full text, their signatures and template instances.

Nothing about a kernel is listed twice. What the launcher checks, what the compiler test compiles and what the
CPU tests execute is read from the .cu text itself; kernels/README.md says how a kernel declares it.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .._checks import suggest

C_TYPES: dict[str, str] = {
    "float16": "__half",
    "bfloat16": "__nv_bfloat16",
    "float32": "float",
    "float64": "double",
    "bool": "bool",
    "int8": "signed char",
    "uint8": "unsigned char",
    "int16": "short",
    "uint16": "unsigned short",
    "int32": "int",
    "uint32": "unsigned int",
    "int64": "long long",
    "uint64": "unsigned long long",
}
"""C type of each NumPy dtype name."""

DTYPE_NAMES: dict[str, str] = {c_type: name for name, c_type in C_TYPES.items()}
"""NumPy dtype name of each C type."""

_ACCUMULATORS = {"double": "double", "float": "float", "__half": "float", "__nv_bfloat16": "float"}


class KernelSourceError(ValueError):
    """A .cu file does not follow the conventions of kernels/README.md."""


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One parameter of a kernel. `c_type` may name template parameters; see `resolved`."""

    name: str
    c_type: str
    is_pointer: bool = False
    is_const: bool = False
    is_restrict: bool = False
    may_be_null: bool = False
    order: str = ""  # "C", "F", "any", or the template parameter that says C_ORDER or F_ORDER; for pointers
    leading: str = ""  # the scalar parameter that holds the distance between rows (C) or columns (F), if any
    shape: tuple[str, ...] = ()

    def resolved(self, template: dict[str, str]) -> str:
        """The element's C type once template parameters have values: `Accumulator<T>` with T=__half is float."""
        match = re.fullmatch(r"Accumulator<(\w+)>", self.c_type)
        if match:
            element = template.get(match[1], match[1])
            return _ACCUMULATORS.get(element, "float")
        return template.get(self.c_type, self.c_type)


@dataclasses.dataclass(frozen=True)
class Instance:
    """One template instance: `expression` is its C++ name, such as `bias_activation<float, RELU>`."""

    kernel: str
    arguments: tuple[str, ...]
    first_architecture: int = 0
    """The first architecture (80 for sm_80) that it can be compiled for; 0 for all."""

    @property
    def expression(self) -> str:
        return f"{self.kernel}<{', '.join(self.arguments)}>" if self.arguments else self.kernel


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One `__global__` function: its template parameters, instances and parameters."""

    stem: str
    name: str
    template: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    instances: tuple[Instance, ...]
    block: int | None  # the one block size it works with, or None for any up to `largest_block`
    largest_block: int
    enumerators: tuple[tuple[str, int], ...] = ()

    def instance(self, arguments: tuple[Any, ...]) -> Instance:
        """The declared instance with these template arguments (dtypes, C types, enumerators, numbers)."""
        wanted = tuple(self._spelled(a) for a in arguments)
        by_value = dict(self.enumerators)
        values = tuple(str(by_value.get(w, w)) for w in wanted)
        for candidate in self.instances:
            if tuple(str(by_value.get(a, a)) for a in candidate.arguments) == values:
                return candidate
        raise ValueError(
            f"Kernel {self.name} ({self.stem}.cu) has no instance <{', '.join(wanted)}>. It takes "
            f"<{', '.join(self.template)}>: {self._choices()}."
        )

    def _choices(self) -> str:
        shown = [f"<{', '.join(i.arguments)}>" for i in self.instances[:12]]
        more = len(self.instances) - len(shown)
        return ", ".join(shown) + (f" and {more} more" if more else "")

    @staticmethod
    def _spelled(argument: Any) -> str:
        if isinstance(argument, bool):
            return "true" if argument else "false"
        if isinstance(argument, int):
            return str(int(argument))
        if isinstance(argument, str) and argument not in C_TYPES:
            return argument
        name = argument if isinstance(argument, str) else np.dtype(argument).name
        if name not in C_TYPES:
            raise ValueError(f"No kernel takes elements of dtype {name}. {suggest(name, C_TYPES)}")
        return C_TYPES[name]


@functools.cache
def kernel_folder() -> Path:
    """The folder of the .cu files: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    candidates = (package / "kernels", package.parent / "kernels")
    for folder in candidates:
        if (folder / "common.cuh").is_file():
            return folder
    raise FileNotFoundError(
        f"fcnn_gpu cannot find its CUDA kernels: no common.cuh in {candidates[0]} (installed) or {candidates[1]} "
        "(checkout). Install fcnn_gpu again; `pip install .` puts the kernels into the package."
    )


def stems() -> list[str]:
    """The operations that have a kernel file, sorted."""
    return sorted(path.stem for path in kernel_folder().glob("*.cu"))


@functools.cache
def source(stem: str) -> str:
    """The full text of kernels/<stem>.cu, our own includes in place, each once, with #line marks."""
    if stem not in stems():
        raise ValueError(f"There is no kernel file {stem}.cu. {suggest(stem, stems())}")
    return _with_includes(kernel_folder() / f"{stem}.cu", set())


def _with_includes(path: Path, seen: set[Path]) -> str:
    lines = [f'#line 1 "kernels/{path.name}"']
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        include = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        if not include:
            # The text becomes one file, with each include in it once.
            lines.append("" if line.strip() == "#pragma once" else line)
            continue
        target = path.parent / include[1]
        if not target.is_file():
            raise KernelSourceError(f"{path.name}:{number} includes {include[1]}, which is not in {path.parent}.")
        if target not in seen:
            seen.add(target)
            lines.append(_with_includes(target, seen))
            lines.append(f'#line {number + 1} "kernels/{path.name}"')
        else:
            lines.append("")
    return "\n".join(lines)


@functools.cache
def kernels(stem: str) -> dict[str, Kernel]:
    """The kernels of kernels/<stem>.cu by name, parsed from its text."""
    found = {kernel.name: kernel for kernel in parse_kernels(stem, source(stem))}
    if not found:
        raise KernelSourceError(f"{stem}.cu defines no __global__ function.")
    return found


def all_instances() -> Iterator[tuple[str, Instance]]:
    """Every (stem, instance) of every kernel file."""
    for stem in stems():
        for kernel in kernels(stem).values():
            for instance in kernel.instances:
                yield stem, instance


_HEAD = re.compile(
    r"(?P<comment>(?:^[ \t]*//[^\n]*\n)*)"
    r"(?:^[ \t]*template\s*<(?P<template>[^>]*)>\s*)?"
    r"[ \t]*__global__\s+void\s+(?:__launch_bounds__\s*\((?:[^()]|\([^()]*\))*\)\s*)?(?P<name>\w+)\s*\(",
    re.MULTILINE,
)
_ENUM = re.compile(r"\benum\s+(?P<name>\w+)\s*(?::\s*\w+\s*)?\{(?P<body>[^}]*)\}")


def parse_kernels(stem: str, text: str) -> list[Kernel]:
    """The kernels defined in `text`; a KernelSourceError names what breaks a convention."""
    enums = {m["name"]: _enumerators(m["body"]) for m in _ENUM.finditer(_without_line_comments(text))}
    enumerators = tuple(itertools.chain.from_iterable(e.items() for e in enums.values()))
    result = []
    for head in _HEAD.finditer(text):
        where = f"Kernel {head['name']} ({stem}.cu)"
        template = tuple(part.split()[-1] for part in (head["template"] or "").split(",") if part.strip())
        parameters = tuple(_parameter(where, p) for p in _split(_parenthesized(text, head.end())))
        _check_parameters(where, template, parameters)
        block = re.search(r"//\s*block:\s*(at most\s+)?(\d+)", head["comment"])
        result.append(
            Kernel(
                stem=stem,
                name=head["name"],
                template=template,
                parameters=parameters,
                instances=tuple(_instances(where, head["name"], template, head["comment"], enums)),
                block=int(block[2]) if block and not block[1] else None,
                largest_block=int(block[2]) if block else 1024,
                enumerators=enumerators,
            )
        )
    return result


def _without_line_comments(text: str) -> str:
    return re.sub(r"//[^\n]*", "", text)


def _enumerators(body: str) -> dict[str, int]:
    values: dict[str, int] = {}
    following = 0
    for part in filter(None, (p.strip() for p in body.split(","))):
        name, _, value = (p.strip() for p in part.partition("="))
        values[name] = int(value, 0) if value else following
        following = values[name] + 1
    return values


def _instances(
    where: str, name: str, template: tuple[str, ...], comment: str, enums: dict[str, dict[str, int]]
) -> Iterator[Instance]:
    declared = re.findall(r"//\s*instances(?: from sm_(\d+))?:\s*([^\n]*)", comment)
    if not template:
        yield Instance(name, ())
        return
    if not declared:
        raise KernelSourceError(
            f"{where} needs a line `// instances: {template[0]} in ...` in the comment right above its template."
        )
    seen: set[tuple[str, ...]] = set()
    for architecture, line in declared:
        values: dict[str, list[str]] = {}
        for clause in filter(None, (c.strip() for c in line.split(";"))):
            parameter, separator, listed = clause.partition(" in ")
            if not separator:
                raise KernelSourceError(f"{where}: expected `NAME in value, ...`, got {clause!r} in its instances.")
            choices = [v.strip() for v in listed.split(",")]
            expanded: list[str] = []
            for choice in choices:
                if choice.startswith("enum "):
                    enum = choice.removeprefix("enum ").strip()
                    if enum not in enums:
                        raise KernelSourceError(f"{where}: no enum {enum}. {suggest(enum, enums)}")
                    expanded.extend(enums[enum])
                else:
                    expanded.append(choice)
            values[parameter.strip()] = expanded
        if set(values) != set(template):
            raise KernelSourceError(
                f"{where} has template parameters {', '.join(template)}; its instances line gives values for "
                f"{', '.join(values)}."
            )
        for arguments in itertools.product(*(values[p] for p in template)):
            if arguments not in seen:
                seen.add(arguments)
                yield Instance(name, arguments, int(architecture or 0))


def _parenthesized(text: str, start: int) -> str:
    """The text from `start`, just after an opening parenthesis, to its closing one; comments are skipped over."""
    depth, position = 1, start
    while position < len(text):
        if text.startswith("/*", position):
            position = text.index("*/", position) + 2
            continue
        if text.startswith("//", position):
            position = text.index("\n", position)
            continue
        depth += {"(": 1, ")": -1}.get(text[position], 0)
        if depth == 0:
            return text[start:position]
        position += 1
    raise KernelSourceError(f"No closing parenthesis after ...{text[max(0, start - 40) : start]}")


def _split(parameters: str) -> list[str]:
    """Split at the commas that stand in no bracket and no comment."""
    parts, depth, position, begin = [], 0, 0, 0
    parameters = _without_line_comments(parameters)
    while position < len(parameters):
        if parameters.startswith("/*", position):
            position = parameters.index("*/", position) + 2
            continue
        character = parameters[position]
        depth += {"<": 1, "(": 1, ">": -1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append(parameters[begin:position])
            begin = position + 1
        position += 1
    parts.append(parameters[begin:])
    return [p.strip() for p in parts if p.strip()]


_LAYOUT = re.compile(r"(\w+)(?: leading (\w+))? \(([^)]*)\)(?:, (may be null))?")


def _parameter(where: str, text: str) -> Parameter:
    note = re.search(r"/\*(.*?)\*/", text, re.DOTALL)
    words = re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL).replace("*", " * ").split()
    name, type_words = words[-1], words[:-1]
    is_pointer = "*" in type_words
    c_type = " ".join(w for w in type_words if w not in ("*", "const", "__restrict__"))
    if not is_pointer:
        return Parameter(name, c_type)
    layout = _LAYOUT.fullmatch(" ".join(note[1].split())) if note else None
    if layout is None:
        raise KernelSourceError(
            f"{where}: pointer {name} needs its memory order and shape right after its name, such as "
            f"`{name} /* F (n_out, batch) */` or `{name} /* any (n), may be null */`; got "
            f"{'/*' + note[1] + '*/' if note else 'nothing'}."
        )
    return Parameter(
        name,
        c_type,
        is_pointer=True,
        is_const="const" in type_words,
        is_restrict="__restrict__" in type_words,
        may_be_null=layout[4] is not None,
        order=layout[1],
        leading=layout[2] or "",
        shape=tuple(d.strip() for d in layout[3].split(",") if d.strip()),
    )


def _check_parameters(where: str, template: tuple[str, ...], parameters: tuple[Parameter, ...]) -> None:
    scalars = {p.name for p in parameters if not p.is_pointer}
    orders = ("C", "F", "any", *template)
    for parameter in parameters:
        if parameter.is_pointer and parameter.order not in orders:
            raise KernelSourceError(
                f"{where}: the memory order of {parameter.name} is {parameter.order!r}; expected one of "
                f"{', '.join(orders)}."
            )
        if parameter.leading and (len(parameter.shape) != 2 or parameter.order == "any"):
            raise KernelSourceError(
                f"{where}: {parameter.name} has a leading dimension, so it needs two dimensions and order C or F."
            )
        named = [f for d in parameter.shape for f in d.replace(" ", "").split("*")]
        named += [parameter.leading] if parameter.leading else []
        for factor in named:
            if factor != "_" and not factor.isdigit() and factor not in scalars:
                raise KernelSourceError(
                    f"{where}: the shape of {parameter.name} names {factor}, which is none of its scalar parameters."
                )
