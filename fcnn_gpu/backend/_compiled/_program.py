"""A program: calls put into phases, which threads go through together, and executed in C any number of times."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..._types import Array
from .._cores import threads
from ._call import KINDS, SAMPLES, SERIAL, SHARED, Access, Call, address_of, place_in
from ._library import Execution

_PART = 10_000.0
"""Nanoseconds of work for which another thread is asked. To wait for it takes a few hundred, and what it reads comes
from the other core's cache: the 9 µs of 64-64-64-10, forward and backward with 32 samples, became 15."""
_BLOCK = 512
"""Samples that a phase goes through its calls with at a time: what one call writes is in the cache for the next."""
_MANY = 2048
"""Samples from which on it does."""
_WIDE = 2**17
"""Weights beyond which it does not."""
_BUDGET = 20_000_000
"""Nanoseconds after which a program comes back between two times: then Python may see Ctrl-C."""


Place = tuple[int, int, int]
"""Where a program points into an array: a record, a word in it, and how many bytes from the array's beginning."""


class Program:
    """Calls in an order with the same results as theirs.

    A phase is what threads compute between two waits: calls that need nothing of each other, and calls by samples one
    after the other, for a thread keeps to its samples. What one thread computes alone comes between phases. Each call
    goes into the first phase that it may: which memory it and the calls before it read and write decides.
    """

    def __init__(self, calls: Sequence[Call]) -> None:
        self._library = calls[0].library
        self._calls = calls = without_separate_check(calls)
        places = phases_of(calls)
        self.phases: list[tuple[list[Call], list[Call]]] = []
        for number in range(min(places), max(places) + 1):
            inside = [call for call, place in zip(calls, places, strict=True) if place == number]
            by_kind = {kind: [call for call in inside if call.operation.kind == kind] for kind in KINDS}
            self.phases.append((by_kind[SHARED] + by_kind[SAMPLES], by_kind[SERIAL]))
        ordered = [call for shared, serial in self.phases for call in (*shared, *serial)]
        self._records = np.zeros((len(ordered), self._library.record_words), np.int64)
        for row, call in zip(self._records, ordered, strict=True):
            row[: len(call.words)] = call.words
        table, first = [], 0
        for shared, serial in self.phases:
            parts, blocks = _parts(shared), _blocks(shared)
            table.append((first, len(shared), len(serial), min(parts, blocks.n) if blocks.exact else parts, *blocks))
            first += len(shared) + len(serial)
        self._table = np.array(table, np.int64)
        self._most_parts = max(row[3] for row in table)
        records, phases = address_of(self._records), address_of(self._table)
        self._execution = Execution(self._library.level, records, phases, len(table), 0, 0, 1, 1, _BUDGET, 0)
        self._address = ctypes.addressof(self._execution)

    def run(self, n_times: int = 1, n_threads: int | None = None) -> None:
        """Execute it; between two times Python's signal handlers may run. `n_threads`: None takes `threads()`."""
        execution, library = self._execution, self._library
        scratch = library.scratch()
        if n_threads is None:
            n_threads = threads() if self._most_parts > 1 else 1
        execution.n_threads, execution.scratch = min(n_threads, self._most_parts), scratch.address
        while n_times > 0:
            execution.n_times = n_times
            n_times -= library.execute(self._address)

    def move(self, places: Sequence[Sequence[Place]], n_bytes: Sequence[int]) -> None:
        """From now on, after each time the program points so many bytes further on in these places."""
        moves = [(record, word - 1, n) for some, n in zip(places, n_bytes, strict=True) for record, word, _ in some]
        self._moves = np.array(moves, np.int64)
        self._execution.moves, self._execution.n_moves = address_of(self._moves), len(moves)

    def places_of(self, array: Array) -> list[Place]:
        """Where the program points into an array."""
        ordered = [call for shared, serial in self.phases for call in (*shared, *serial)]
        places = []
        for i, call in enumerate(ordered):
            for word, parameter in enumerate(call.operation.parameters, start=1):
                value = call.arguments[parameter.name]
                offset = place_in(array, value) if parameter.is_pointer and value is not None else None
                if offset is not None:
                    places.append((i, word, offset))
        return places

    def point(self, places: Sequence[Place], address: int) -> None:
        """Take another array, whose address this is, in the places of one (`places_of`)."""
        for record, word, offset in places:
            self._records[record, word] = address + offset


def _parts(calls: Sequence[Call]) -> int:
    """How many threads are worth their waiting."""
    parts = int(sum(call.work for call in calls) / _PART)
    return max(1, min(parts, *(call.batch for call in calls if call.batch), 256)) if calls else 1


class _Blocks(NamedTuple):
    """How many calls of a phase go by blocks of samples, how many blocks there are, and whether exactly so many."""

    n_calls: int
    n: int
    exact: bool


def _blocks(calls: Sequence[Call]) -> _Blocks:
    by_samples = [call for call in calls if call.operation.kind == SAMPLES]
    exact = [_exact_blocks(call) for call in by_samples if _exact_blocks(call)]
    batch = max((call.batch for call in by_samples), default=0)
    if exact:
        return _Blocks(len(by_samples), exact[0], True)
    if batch < _MANY or len(by_samples) < 2 or any(map(_is_wide, by_samples)):
        return _Blocks(0, 0, False)
    return _Blocks(len(by_samples), -(-batch // _BLOCK), False)


def _exact_blocks(call: Call) -> int:
    """The number of blocks of samples that the call's sums are made of; 0 for none."""
    return int(call.arguments["n_blocks"]) if call.operation.kind == SAMPLES and "n_blocks" in call.arguments else 0


def samples_at_a_time(batch: int) -> int:
    """How many of a batch a phase takes through its calls before it takes the next."""
    return batch if batch < _MANY else _BLOCK


def _is_wide(call: Call) -> bool:
    """Whether a product by samples has so many weights that packing them for each block takes long."""
    return call.name == "product_of_samples" and call.arguments["k"] * call.arguments["n"] > _WIDE


def blocks_of_gradients(batch: int) -> int:
    """Of how many sums, each over a block of samples, one over all of a batch is made; 1 for a batch of few.

    So many that 2, 4, 8 or 16 threads have equally many, and that each has a few hundred samples.
    """
    return 1 if batch < _MANY else 16 * -(-batch // (16 * _BLOCK))


def phases_of(calls: Sequence[Call]) -> list[int]:
    """The number of the phase of each call, −1 for what comes before the first."""
    places: list[int] = []
    known = _Accesses()
    by_blocks: dict[int, int] = {}
    wide: set[int] = set()
    for call in calls:
        place = -1 if call.operation.kind == SERIAL else 0
        for access in call.accesses:
            for i in known.conflicts(access):
                waits = call.operation.kind != SERIAL and not known.same_rows(i, call, access)
                place = max(place, places[i] + waits)
        exact = _exact_blocks(call)
        if exact:
            while place in wide or by_blocks.get(place, exact) != exact:
                place += 1
            by_blocks[place] = exact
        elif _is_wide(call):
            while place in by_blocks:
                place += 1
            wide.add(place)
        places.append(place)
        known.add(call)
    return places


class _Accesses:
    """What calls so far have read and written, to be asked which of them an access must come after."""

    def __init__(self) -> None:
        self._of: list[tuple[Call, list[Access]]] = []
        self._table = np.zeros((64, 4), np.int64)
        self._owner = np.zeros(64, np.int64)
        self._n = 0

    def add(self, call: Call) -> None:
        for access in call.accesses:
            if self._n == len(self._owner):
                self._table = np.concatenate([self._table, np.zeros_like(self._table)])
                self._owner = np.concatenate([self._owner, np.zeros_like(self._owner)])
            self._table[self._n] = access.start, access.stop, access.writes, access.any_order
            self._owner[self._n] = len(self._of)
            self._n += 1
        self._of.append((call, call.accesses))

    def conflicts(self, access: Access) -> list[int]:
        """The numbers of the calls that write what this reads, or read or write what this writes, in a fixed order."""
        table = self._table[: self._n]
        overlap = (table[:, 0] < access.stop) & (table[:, 1] > access.start)
        if not access.writes:
            overlap &= table[:, 2] != 0
        if access.any_order:
            overlap &= table[:, 3] == 0
        return sorted({*self._owner[: self._n][overlap].tolist()})

    def same_rows(self, i: int, call: Call, access: Access) -> bool:
        """Whether call i and `call` go by the same samples, and touch these bytes only in rows of their own."""
        before, accesses = self._of[i]
        if not (before.operation.kind == call.operation.kind == SAMPLES and before.batch == call.batch):
            return False
        touching = [x for x in accesses if x.start < access.stop and x.stop > access.start]
        return all(
            x.row_bytes and x.start == access.start and x.row_bytes == access.row_bytes
            for x in touching
            if x.writes or access.writes
        )


def without_separate_check(calls: Sequence[Call]) -> Sequence[Call]:
    """The calls without `check_gradients`, where what computes the gradients can look at them on the way.

    That is so where the calls before it write all of the gradients in operations that have a place for the finding.
    """
    at = next((i for i, call in enumerate(calls) if call.name == "check_gradients"), None)
    if at is None:
        return calls
    check = calls[at]
    gradients, unsound = check.arguments["gradients"], check.arguments["unsound"]
    start, stop = check.accesses[0].start, check.accesses[0].stop
    writers: dict[tuple[int, int], Call] = {}
    for call in calls[:at]:
        for access in call.accesses:
            if access.writes and access.start < stop and access.stop > start:
                place = access.start, access.stop
                whole = not call.arguments.get("accumulate") and not call.arguments.get("epilogue")  # STORE is 0
                if "unsound" not in call.arguments or not whole or place in writers:
                    return calls
                writers[place] = call
    reached = start
    for first, last in sorted(writers):
        if first != reached:
            return calls
        reached = last
    if reached != stop or gradients.size == 0:
        return calls
    checking = {id(call): writers_checking(call, unsound) for call in writers.values()}
    return [checking.get(id(call), call) for call in calls if call is not check]


def writers_checking(call: Call, unsound: Array) -> Call:
    """The call, looking at what it writes."""
    arguments = call.arguments | {"unsound": unsound}
    if "epilogue" in arguments:
        arguments["epilogue"] = call.library.epilogues["CHECK"]
    return Call(call.library, call.operation, call.dtype, arguments)
