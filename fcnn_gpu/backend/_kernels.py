"""Launching the hand-written CUDA kernels: every argument checked against the kernel's own signature first.

A raw CUDA launch takes untyped addresses: a float64 array where the kernel reads float, a transposed view, two
swapped sizes all run and give wrong numbers. `Launcher.launch` refuses them on any machine, because it knows each
parameter's type, order and shape from the kernel's text (`_kernel_source`). What executes the kernel is a strategy,
a `Device`: `CudaDevice` through CuPy here, a CPU emulation of CUDA in the tests.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import math
import numbers
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from .._checks import suggest
from .._types import Array
from ._kernel_source import C_TYPES, DTYPE_NAMES, Instance, Kernel, Parameter, kernels, source

__all__ = ["ArchitectureError", "Argument", "CudaDevice", "Device", "KernelCompileError", "Launcher"]

COMPILE_OPTIONS = ("-std=c++17",)
"""Options every kernel is compiled with, by CuPy at run time and by the compiler check."""

_STATIC_SHARED_LIMIT = 48 * 1024  # bytes a block may use without asking the driver for more


class KernelCompileError(RuntimeError):
    """A kernel did not compile; the message ends with the compiler's log."""


class ArchitectureError(KernelCompileError):
    """The GPU is too old for a kernel instance, whose `// instances from sm_..:` says which ones are not."""


@dataclasses.dataclass(frozen=True)
class Argument:
    """A checked argument: a NumPy scalar of the exact type, a device array, or None for a null pointer."""

    parameter: Parameter
    value: Any


class Device(Protocol):
    """What executes kernels."""

    array_type: type
    """The array class whose memory this device can reach."""

    def address(self, array: Array) -> int:
        """The address of the array's first element."""

    def prepare(self, kernel: Kernel, instance: Instance) -> None:
        """Compile the instance, if it is not yet."""

    def run(
        self,
        kernel: Kernel,
        instance: Instance,
        grid: int,
        block: int,
        shared: int,
        arguments: Sequence[Argument],
    ) -> None:
        """Launch `grid` blocks of `block` threads with `shared` bytes of dynamic shared memory."""


class CudaDevice:
    """A CUDA GPU through CuPy: NVRTC compiles an instance at its first use; launches go to the current stream."""

    def __init__(self, module: Any = None) -> None:
        self._cupy = module if module is not None else importlib.import_module("cupy")
        self.array_type: type = self._cupy.ndarray
        self._functions: dict[tuple[int, str, Instance], Any] = {}

    def address(self, array: Array) -> int:
        return int(array.data.ptr)

    def prepare(self, kernel: Kernel, instance: Instance) -> None:
        self._function(kernel, instance)

    def resources(self, kernel: Kernel, instance: Instance) -> dict[str, int]:
        """What the driver says: registers and bytes of local memory of a thread, of static shared memory of a block."""
        function = self._function(kernel, instance)
        return {
            "registers": int(function.num_regs),
            "local_bytes": int(function.local_size_bytes),
            "shared_bytes": int(function.shared_size_bytes),
        }

    def _function(self, kernel: Kernel, instance: Instance) -> Any:
        key = (self._cupy.cuda.runtime.getDevice(), kernel.stem, instance)
        if key not in self._functions:
            if instance.first_architecture:
                self._check_architecture(kernel, instance)
            module = self._cupy.RawModule(
                code=_in_ascii(source(kernel.stem)),
                options=COMPILE_OPTIONS,
                name_expressions=(instance.expression,),
            )
            try:
                self._functions[key] = module.get_function(instance.expression)
            except self._cupy.cuda.compiler.CompileException as error:
                raise KernelCompileError(
                    f"NVRTC cannot compile {instance.expression} of kernels/{kernel.stem}.cu. If headers are missing, "
                    f"run `fcnn-gpu doctor`. The compiler says:\n{error}"
                ) from error
            except OSError as error:
                raise KernelCompileError(
                    f"{instance.expression} of kernels/{kernel.stem}.cu was compiled, but CuPy cannot keep it in its "
                    f"kernel cache ({error}). Free disk space there, or run: export CUPY_CACHE_DIR=<another folder>"
                ) from error
        return self._functions[key]

    def _check_architecture(self, kernel: Kernel, instance: Instance) -> None:
        architecture = int(self._cupy.cuda.Device().compute_capability)
        if architecture < instance.first_architecture:
            raise ArchitectureError(
                f"{instance.expression} (kernels/{kernel.stem}.cu) needs a GPU of architecture "
                f"sm_{instance.first_architecture} or later, and this one is sm_{architecture}."
            )

    def run(
        self,
        kernel: Kernel,
        instance: Instance,
        grid: int,
        block: int,
        shared: int,
        arguments: Sequence[Argument],
    ) -> None:
        function = self._function(kernel, instance)
        if shared > _STATIC_SHARED_LIMIT:
            function.max_dynamic_shared_size_bytes = shared
        values = tuple(np.uint64(0) if a.value is None else a.value for a in arguments)
        function((grid,), (block,), values, shared_mem=shared)


def _in_ascii(text: str) -> str:
    """The comments' other characters by their numbers: CuPy writes the text to a file in whatever the locale encodes.

    >>> _in_ascii("β ← 1")
    '\\\\u03b2 \\\\u2190 1'
    """
    return text.encode("ascii", "backslashreplace").decode("ascii")


@dataclasses.dataclass(frozen=True)
class _Plan:
    """A kernel instance with its parameters' types resolved."""

    kernel: Kernel
    instance: Instance
    dtypes: tuple[np.dtype[Any] | str, ...]  # a name where NumPy has no such dtype (bfloat16)
    orders: tuple[str, ...]


class Launcher:
    """Checks arguments and launches kernels on one device.

    Args:
        device: what executes the kernels.
        block: threads per block where a kernel does not fix it, a multiple of 32 up to 1024.
        max_blocks: the largest grid. Every kernel loops over what its grid does not cover, so any value is right.
    """

    def __init__(self, device: Device, *, block: int = 256, max_blocks: int = 65_536) -> None:
        self.device = device
        self.block = _checked_block("Launcher", block)
        if max_blocks < 1:
            raise ValueError(f"Launcher expects max_blocks of at least 1, got {max_blocks}.")
        self.max_blocks = max_blocks
        self._per_thread = threading.local()
        self._plan = functools.lru_cache(maxsize=None)(_make_plan)

    @contextmanager
    def keeping(self, arrays: list[Any]) -> Iterator[None]:
        """Within, the arrays that this thread launches kernels on are added to the list: a graph must keep them."""
        before = getattr(self._per_thread, "kept", None)
        self._per_thread.kept = arrays
        try:
            yield
        finally:
            self._per_thread.kept = before

    def keep(self, *arrays: Any) -> None:
        """Let a graph that is being recorded keep arrays that something other than a launch works on."""
        kept = getattr(self._per_thread, "kept", None)
        if kept is not None:
            kept.extend(arrays)

    def prepare(self, stem: str, kernel: str, template: Sequence[Any]) -> None:
        """Compile an instance now, so that its first launch does not (warm-up before a graph is captured)."""
        plan = self._plan(stem, kernel, _hashable(template))
        self.device.prepare(plan.kernel, plan.instance)

    @staticmethod
    def constant(stem: str, name: str | int) -> int:
        """The value of an enumerator that kernels/<stem>.cu knows, such as RELU; a number is returned as it is."""
        known = dict(next(iter(kernels(stem).values())).enumerators)
        if isinstance(name, str):
            if name not in known:
                raise ValueError(f"kernels/{stem}.cu knows no constant {name!r}. {suggest(name.upper(), known)}")
            return known[name]
        return name

    def launch(
        self,
        stem: str,
        kernel: str,
        template: Sequence[Any],
        arguments: Sequence[Any],
        *,
        threads: int | None = None,
        blocks: int | None = None,
        block: int | None = None,
        shared: int = 0,
    ) -> None:
        """Launch `kernel` of kernels/<stem>.cu.

        Args:
            stem: the kernel's file.
            kernel: its name.
            template: template arguments: dtypes or C types, enumerators (name or number), integers, booleans.
            arguments: one per parameter: arrays of the device, Python or NumPy numbers, None for a null pointer.
            threads: work items, one thread each. Give either this or `blocks`; zero launches nothing.
            blocks: work items, one block each.
            block: threads per block instead of the launcher's.
            shared: dynamic shared memory in bytes.

        Raises:
            ValueError, TypeError: an argument does not fit its parameter, or the instance does not exist. The
                message names the kernel and the parameter, what was expected and what came.
            KernelCompileError: the compiler refused the kernel.
        """
        plan = self._plan(stem, kernel, _hashable(template))
        where = f"Kernel {plan.instance.expression} ({stem}.cu)"
        checked = self._checked(where, plan, arguments)
        n_threads = self._block(where, plan.kernel, block)
        if (threads is None) == (blocks is None):
            raise TypeError(f"{where}: give either threads= or blocks=, got threads={threads!r}, blocks={blocks!r}.")
        work: Any = threads if threads is not None else blocks
        if isinstance(work, bool) or not isinstance(work, numbers.Integral) or int(work) < 0:
            raise ValueError(f"{where}: threads or blocks must be an integer of at least 0, got {work!r}.")
        grid = -(-int(work) // n_threads) if threads is not None else int(work)
        if grid:
            kept = getattr(self._per_thread, "kept", None)
            if kept is not None:
                kept.extend(a.value for a in checked if isinstance(a.value, self.device.array_type))
            self.device.run(plan.kernel, plan.instance, min(grid, self.max_blocks), n_threads, int(shared), checked)

    def _block(self, where: str, kernel: Kernel, asked: int | None) -> int:
        if asked is None:
            return kernel.block or min(self.block, kernel.largest_block)
        size = _checked_block(where, asked)
        if size != (kernel.block or size) or size > kernel.largest_block:
            limit = "only" if kernel.block else "at most"
            raise ValueError(f"{where} works with blocks of {limit} {kernel.largest_block} threads, got block={size}.")
        return size

    def _checked(self, where: str, plan: _Plan, arguments: Sequence[Any]) -> list[Argument]:
        parameters = plan.kernel.parameters
        if len(arguments) != len(parameters):
            raise TypeError(
                f"{where} takes {len(parameters)} arguments ({', '.join(p.name for p in parameters)}), "
                f"got {len(arguments)}."
            )
        values: list[Any] = list(arguments)
        sizes: dict[str, int] = {}
        for i, (parameter, dtype) in enumerate(zip(parameters, plan.dtypes, strict=True)):
            if not parameter.is_pointer:
                assert isinstance(dtype, np.dtype)
                values[i] = _checked_scalar(f"{where}: {parameter.name}", dtype, values[i])
                if dtype.kind in "iu":
                    sizes[parameter.name] = int(values[i])
        for parameter, dtype, order, value in zip(parameters, plan.dtypes, plan.orders, values, strict=True):
            if parameter.is_pointer:
                self._check_array(f"{where}: {parameter.name}", parameter, dtype, order, value, sizes)
        self._check_overlap(where, parameters, values)
        return [Argument(p, v) for p, v in zip(parameters, values, strict=True)]

    def _check_array(
        self,
        who: str,
        parameter: Parameter,
        dtype: np.dtype[Any] | str,
        order: str,
        value: Any,
        sizes: dict[str, int],
    ) -> None:
        if value is None:
            if parameter.may_be_null:
                return
            expected = _expected(parameter, dtype, order)
            raise TypeError(f"{who} expects a {expected}, got None. Only parameters marked `may be null` take None.")
        is_ours = isinstance(value, self.device.array_type)
        if not is_ours:
            expected = _expected(parameter, dtype, order)
            raise TypeError(
                f"{who} expects a {self.device.array_type.__module__.partition('.')[0]} array ({expected}), "
                f"got {type(value).__module__}.{type(value).__name__}: {value!r:.60}."
            )
        if value.dtype.name != dtype if isinstance(dtype, str) else value.dtype != dtype:
            raise TypeError(f"{who} expects a {_expected(parameter, dtype, order)}, got dtype {value.dtype}.")
        shape = tuple(_extent(d, sizes) for d in parameter.shape)
        _check_shape(who, parameter, order, shape, value)
        if parameter.leading:
            _check_leading(who, order, value, parameter.leading, sizes[parameter.leading])
        else:
            flags = value.flags
            contiguous = {"C": flags.c_contiguous, "F": flags.f_contiguous}
            if not contiguous.get(order, flags.c_contiguous or flags.f_contiguous):
                expected = _expected(parameter, dtype, order)
                raise ValueError(
                    f"{who} expects a contiguous {expected}, got shape {value.shape} with strides {value.strides}. "
                    "A kernel sees the address only, not the strides: pass a contiguous array."
                )
        if not parameter.is_const and isinstance(value, np.ndarray) and not value.flags.writeable:
            raise ValueError(f"{who} is written by the kernel, got a read-only array.")

    def _check_overlap(self, where: str, parameters: Sequence[Parameter], values: Sequence[Any]) -> None:
        extents = []
        for parameter, value in zip(parameters, values, strict=True):
            if parameter.is_pointer and value is not None and value.size:
                begin = self.device.address(value)
                length = sum((n - 1) * s for n, s in zip(value.shape, value.strides, strict=True))
                extents.append((begin, begin + length + value.dtype.itemsize, parameter))
        extents.sort(key=lambda e: e[0])
        for i, (_, end, first) in enumerate(extents):
            for begin, _, second in extents[i + 1 :]:
                if begin >= end:
                    break
                written = not (first.is_const and second.is_const)
                if written and (first.is_restrict or second.is_restrict):
                    raise ValueError(
                        f"{where}: {first.name} and {second.name} overlap in memory, but the kernel declares "
                        f"{first.name if first.is_restrict else second.name} as __restrict__. Pass separate arrays."
                    )


def _make_plan(stem: str, kernel: str, template: tuple[Any, ...]) -> _Plan:
    known = kernels(stem)
    if kernel not in known:
        raise ValueError(f"kernels/{stem}.cu has no kernel {kernel!r}. {suggest(kernel, known)}")
    found = known[kernel]
    instance = found.instance(template)
    values = dict(zip(found.template, instance.arguments, strict=True))
    dtypes: list[np.dtype[Any] | str] = []
    orders = []
    for parameter in found.parameters:
        c_type = parameter.resolved(values)
        name = DTYPE_NAMES.get(c_type)
        if name is None or (not parameter.is_pointer and c_type in ("__half", "__nv_bfloat16")):
            raise TypeError(
                f"Kernel {instance.expression} ({stem}.cu): parameter {parameter.name} has type {c_type}, which the "
                f"launcher cannot pass{' by value' if name else ''}. Known types: {', '.join(C_TYPES.values())}."
            )
        dtypes.append(name if name == "bfloat16" else np.dtype(name))
        order = values.get(parameter.order, parameter.order)
        orders.append({"C_ORDER": "C", "F_ORDER": "F"}.get(order, order))
    return _Plan(found, instance, tuple(dtypes), tuple(orders))


def _hashable(template: Sequence[Any]) -> tuple[Any, ...]:
    # np.float32 and np.dtype("float32") are equal but hash apart; 1 and True hash alike but mean different instances.
    return tuple(
        a if isinstance(a, str) else str(int(a)) if isinstance(a, int) and not isinstance(a, bool) else _name(a)
        for a in template
    )


def _name(argument: Any) -> str:
    return str(argument).lower() if isinstance(argument, bool) else np.dtype(argument).name


def _checked_block(who: str, block: Any) -> int:
    if isinstance(block, bool) or not isinstance(block, numbers.Integral):
        raise TypeError(f"{who}: the block size is an integer, got {block!r}.")
    size = int(block)
    if not 32 <= size <= 1024 or size % 32:
        raise ValueError(f"{who}: the block size is a multiple of 32 from 32 to 1024, got {size}.")
    return size


def _checked_scalar(who: str, dtype: np.dtype[Any], value: Any) -> Any:
    if dtype.kind == "f":
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
            raise TypeError(f"{who} expects a number ({dtype}), got {_described(value)}.")
        # A device kernel gets the nearest value of its type; a finite number must not turn into infinity on the way.
        if math.isfinite(value) and abs(float(value)) > float(np.finfo(dtype).max):
            raise ValueError(f"{who} expects a {dtype}, and {value!r} is beyond its largest value.")
        return dtype.type(value)
    if dtype.kind == "b":
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(f"{who} expects True or False, got {_described(value)}.")
        return np.bool_(value)
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{who} expects an integer ({dtype}), got {_described(value)}.")
    limits = np.iinfo(dtype)
    if not limits.min <= int(value) <= limits.max:
        raise ValueError(f"{who} expects an {dtype} from {limits.min} to {limits.max}, got {value}.")
    return dtype.type(int(value))


def _described(value: Any) -> str:
    if getattr(value, "shape", ()):
        return f"a {value.dtype} array of shape {value.shape}"
    return f"{value!r} ({type(value).__name__})"


def _expected(parameter: Parameter, dtype: np.dtype[Any] | str, order: str) -> str:
    return f"{dtype} array of order {order}, shape ({', '.join(parameter.shape)})"


def _extent(dimension: str, sizes: dict[str, int]) -> int | None:
    if dimension == "_":
        return None
    return math.prod(int(f) if f.isdigit() else sizes[f] for f in dimension.replace(" ", "").split("*"))


def _check_shape(who: str, parameter: Parameter, order: str, shape: tuple[int | None, ...], value: Array) -> None:
    declared = f"({', '.join(parameter.shape)})"
    if len(shape) == 1:
        if shape[0] is not None and value.size != shape[0]:
            raise ValueError(f"{who} expects {shape[0]} elements {declared}, got shape {value.shape}.")
        return
    fits = len(value.shape) == len(shape) and all(s is None or s == v for s, v in zip(shape, value.shape, strict=True))
    if order == "any" and None not in shape:
        fits = value.size == math.prod(s for s in shape if s is not None)
    if not fits:
        spelled = ", ".join("any" if s is None else str(s) for s in shape)
        raise ValueError(f"{who} expects shape {declared} = ({spelled}), got {value.shape}.")


def _check_leading(who: str, order: str, value: Array, name: str, leading: int) -> None:
    fast = 1 if order == "C" else 0
    extent, item = value.shape[fast], value.dtype.itemsize
    strides_fit = value.size == 0 or (
        (extent <= 1 or value.strides[fast] == item)
        and (value.shape[1 - fast] <= 1 or value.strides[1 - fast] == leading * item)
    )
    if leading < extent or not strides_fit:
        raise ValueError(
            f"{who} expects order {order} with {name}={leading} elements from one {'row' if fast else 'column'} to the "
            f"next, got shape {value.shape} with strides {value.strides} bytes ({item} bytes an element)."
        )
