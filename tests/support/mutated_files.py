"""What must hold of a file that a fault has changed: refused by a typed error, or read for what it is.

`main` goes through mutants of one kind of file (`KINDS`) in a process of its own, whose memory is limited, and prints
what did not hold as JSON. Each mutant has a number, by which it comes back: `mutated_files.main("npz", 1, 417)`.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

import fcnn_gpu as fcnn
from fcnn_gpu import datasets
from tests.support.mutants import ANY_FILE, TEXT_FILE, mutant, resigned_json

MOST_SECONDS = 60
"""Processor time after which reading one small file counts as endless."""
_SPARE = 2**26
_BLOCK = 100
"""Mutants of one child."""
_TIMES_SIZE = 16


@dataclass(frozen=True)
class Case:
    """A mutant that lies in a folder: `path` is what is read; an error names `named` or what is in it."""

    path: Path
    size: int
    protected: bool
    """Whether a checksum protects what is read, so that it is what was written or an error."""


class Kind:
    """One kind of file: how a sound one is made, its mutants, and what reads it."""

    name: ClassVar[str]

    def prepare(self, folder: Path) -> None:
        """Make what the mutants are made from."""

    def make(self, seed: int, folder: Path) -> Case:
        """Write mutant number `seed`."""
        raise NotImplementedError

    def readers(self) -> dict[str, Callable[[Path], Any]]:
        """What reads it: each gives plain data and arrays."""
        raise NotImplementedError

    def sound(self, path: Path) -> bool:
        """Whether this is one of the values that were written."""
        return True


def _samples(seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(40, 3)).astype(np.float32), rng.integers(0, 3, 40)


_REFUSED = object()


def _value_or_refusal(read: Callable[[Path], Any], path: Path) -> Any:
    """What a sound file holds; `_REFUSED`, which equals nothing that is read, for a kind that is not taken."""
    try:
        return read(path)
    except datasets.DataFileError:
        return _REFUSED


def _network(seed: int) -> fcnn.Sequential:
    layers = [fcnn.Dense(6, activation="relu"), fcnn.BatchNorm(), fcnn.Residual([fcnn.Dense(4)]), fcnn.Dense(3)]
    model = fcnn.Sequential(layers, n_in=3, seed=seed, backend="numpy", input_scale=0.5)
    model.info = {"classes": ["cat", "dog", "émeu"], "features": ["a", "b", "c"], "n": 1.5, "deep": {"list": [1, None]}}
    model.link = "softmax"
    model.signature = fcnn.Signature(["a", "b", "c"], ["cat", "dog", "émeu"], input_range=(-2.5, 3.0))
    return model


def _arrays(model: fcnn.Sequential) -> dict[str, Any]:
    return {name: np.array(array) for name, array in model.named_arrays().items()}


class OneFile(Kind):
    """A kind whose content is one file's bytes."""

    suffix = ""
    mutations = ANY_FILE
    protected = False

    def content(self, seed: int) -> bytes:
        """A sound file; another for another seed."""
        raise NotImplementedError

    def prepare(self, folder: Path) -> None:
        self._content, self._other = self.content(0), self.content(1)
        path = folder / f"sound{self.suffix}"
        path.write_bytes(self._content)
        self.expected = {name: _value_or_refusal(read, path) for name, read in self.readers().items()}

    def make(self, seed: int, folder: Path) -> Case:
        content = mutant(seed, self._content, self._other, self.mutations)
        path = folder / f"mutant{self.suffix}"
        path.write_bytes(content)
        return Case(path, len(content), self.protected)


class ModelFiles(OneFile):
    """A saved model. Half of the mutants have a right checksum over other metadata or another header."""

    name = "model"
    suffix = ".safetensors"

    def content(self, seed: int) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "m"
            _network(seed).save(path)
            return path.read_bytes()

    def make(self, seed: int, folder: Path) -> Case:
        path = folder / f"mutant{self.suffix}"
        if seed % 2:
            content = mutant(seed, self._content, self._other)
            path.write_bytes(content)
            return Case(path, len(content), True)
        return Case(path, self._resigned(seed // 2, path), False)

    def _resigned(self, seed: int, path: Path) -> int:
        """Another architecture, info, signature or header, under its own checksum where one can be had."""
        from fcnn_gpu.files._tensor_file import checksum

        n = int.from_bytes(self._content[:8], "little")
        header, data = json.loads(self._content[8 : 8 + n]), self._content[8 + n :]
        metadata, what = (
            header.pop("__metadata__"),
            ("architecture", "info", "header", "signature", "architecture")[seed % 5],
        )
        arrays = {name: np.frombuffer(data, np.uint8)[slice(*entry["data_offsets"])] for name, entry in header.items()}
        if what == "header":
            text = resigned_json(seed, {"__metadata__": metadata} | header).encode()
        else:
            metadata[what] = resigned_json(seed, json.loads(metadata[what]))
            with contextlib.suppress(UnicodeEncodeError):
                metadata["crc32"] = checksum(metadata, arrays)
            text = json.dumps({"__metadata__": metadata} | header).encode()
        content = len(text).to_bytes(8, "little") + text + data
        path.write_bytes(content)
        return len(content)

    def readers(self) -> dict[str, Callable[[Path], Any]]:
        return {"load": self._load}

    def _load(self, path: Path) -> Any:
        model = fcnn.load(path, backend="numpy")
        outputs = model.predict(np.ones((2, model.n_in), np.float32))
        assert outputs.shape == (2, model.n_out)
        model.save(path.with_name("again"))
        said = {"config": model.config(), "info": model.info, "signature": model.signature.plain()}
        return said | _arrays(model)


class NpyFiles(OneFile):
    """A .npy file, which has no checksum: what is read is of the size that its header says."""

    name = "npy"
    suffix = ".npy"

    def content(self, seed: int) -> bytes:
        file = io.BytesIO()
        np.save(file, _samples(seed)[0])
        return file.getvalue()

    def readers(self) -> dict[str, Callable[[Path], Any]]:
        return {
            "read_features": datasets.read_features,
            "open_npy": lambda path: _all(datasets.open_npy(path)),
        }


class ArchiveFiles(OneFile):
    """.npz files: members have a CRC, stored or compressed in whatever way."""

    suffix = ".npz"
    protected = True
    how: ClassVar[int]

    def content(self, seed: int) -> bytes:
        X, y = _samples(seed)
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", self.how) as archive:
            for name, array in (("X", X), ("y", y), ("unused", X[:5])):
                member = io.BytesIO()
                np.save(member, array)
                archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue(), self.how)
        return file.getvalue()

    def readers(self) -> dict[str, Callable[[Path], Any]]:
        return {
            "load": lambda path: _dataset(datasets.load(path, test_fraction=0)),
            "read_features": datasets.read_features,
            "open_npz": lambda path: _all(datasets.open_npz(path)),
        }


class StoredArchives(ArchiveFiles):
    name = "npz-stored"
    how = zipfile.ZIP_STORED


class DeflatedArchives(ArchiveFiles):
    name = "npz-deflated"
    how = zipfile.ZIP_DEFLATED


class Bzip2Archives(ArchiveFiles):
    name = "npz-bzip2"
    how = zipfile.ZIP_BZIP2


class LzmaArchives(ArchiveFiles):
    name = "npz-lzma"
    how = zipfile.ZIP_LZMA


class IdxFiles(OneFile):
    """An IDX file, which has no checksum."""

    name = "idx"
    suffix = ".idx"

    def content(self, seed: int) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"images{self.suffix}"
            datasets.write_idx(path, (_samples(seed)[0] * 50).astype(np.int16))
            return path.read_bytes()

    def readers(self) -> dict[str, Callable[[Path], Any]]:
        return {"read_idx": datasets.read_idx, "read_features": datasets.read_features}


class CompressedIdxFiles(IdxFiles):
    """gzip has a CRC."""

    name = "idx-gz"
    suffix = ".idx.gz"
    protected = True

    def content(self, seed: int) -> bytes:
        return gzip.compress(IdxFiles.content(IdxFiles(), seed), mtime=0)


class CsvFiles(OneFile):
    """Text, which has no checksum."""

    name = "csv"
    suffix = ".csv"
    mutations = TEXT_FILE
    delimiter = ","

    def content(self, seed: int) -> bytes:
        X, y = _samples(seed)
        lines = [self.delimiter.join(["width", "height", '"how, much"', "label"])]
        lines += [
            self.delimiter.join([*(f"{x:.4g}" for x in row), f'"{"abc"[label]} é"'])
            for row, label in zip(X, y, strict=True)
        ]
        return "\n".join([*lines, ""]).encode()

    def readers(self) -> dict[str, Callable[[Path], Any]]:
        return {
            "load": lambda path: _dataset(datasets.load(path, test_fraction=0)),
            "read_features": lambda path: datasets.read_features(path, drop="label"),
            "open_csv": lambda path: _all(datasets.open_csv(path)),
        }


class TsvFiles(CsvFiles):
    name = "tsv"
    suffix = ".tsv"
    delimiter = "\t"


class ParquetFiles(OneFile):
    """pyarrow writes no checksums of its own accord."""

    name = "parquet"
    suffix = ".parquet"

    def content(self, seed: int) -> bytes:
        import pyarrow
        import pyarrow.parquet

        X, y = _samples(seed)
        file = io.BytesIO()
        table = pyarrow.table({"a": X[:, 0], "b": X[:, 1], "name é": X[:, 2], "label": y})
        pyarrow.parquet.write_table(table, file, row_group_size=15)
        return file.getvalue()

    def readers(self) -> dict[str, Callable[[Path], Any]]:
        return {"open_parquet": lambda path: _all(datasets.open_parquet(path, "label"))}


class Folders(Kind):
    """The folder of a network whose weights lie on disk, with one file changed, or two exchanged."""

    name = "folder"

    def prepare(self, folder: Path) -> None:
        self._sound = folder / "sound"
        first = fcnn.Dense(16, activation="relu", placement="disk")
        second = fcnn.Dense(16, placement="disk")
        layers = [first, second, fcnn.BatchNorm(), fcnn.Dense(3)]
        model = fcnn.Sequential(layers, n_in=16, seed=1, backend="numpy", storage=self._sound)
        rng = np.random.default_rng(0)
        X, y = rng.normal(size=(32, 16)).astype(np.float32), rng.integers(0, 3, 32)
        fcnn.Trainer(model, "cross_entropy", fcnn.Adam(0.01)).fit(X, y, epochs=2, batch_size=16, progress=False)
        model.close()
        self._names = sorted(path.name for path in self._sound.iterdir() if path.name != "lock")
        self.expected = {"load": self._load(self._sound)}

    def make(self, seed: int, folder: Path) -> Case:
        path = folder / "mutant"
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(self._sound, path)
        rng = random.Random(seed)
        name, other = rng.choice(["network.state", *self._names]), rng.choice(self._names)
        content = (self._sound / name).read_bytes()
        if name == "network.state" and rng.random() < 0.6:
            return Case(path, self._resigned(seed, path / name, content), False)
        if name != other and rng.random() < 0.2:  # exchanged
            (path / name).write_bytes((self._sound / other).read_bytes())
            (path / other).write_bytes(content)
        else:
            (path / name).write_bytes(mutant(seed, content, (self._sound / other).read_bytes()))
        return Case(path, sum(file.stat().st_size for file in path.iterdir()), True)

    def _resigned(self, seed: int, path: Path, content: bytes) -> int:
        """Another head of the record, under its own checksum."""
        import zlib

        line, _, rest = content.partition(b"\n")
        start = line.index(b"{")  # what stands before is the checksum of what follows
        text = resigned_json(seed, json.loads(line[start:])).encode()
        path.write_bytes(b"%08x " % zlib.crc32(text, zlib.crc32(rest)) + text + b"\n" + rest)
        return sum(file.stat().st_size for file in path.parent.iterdir())

    def readers(self) -> dict[str, Callable[[Path], Any]]:
        return {"load": self._load}

    def _load(self, path: Path) -> Any:
        model = fcnn.load(path, backend="numpy")
        try:
            model.predict(np.ones((2, model.n_in), np.float32))
            adam = fcnn.Adam(0.01).bind(model)
            moments = {f"moments {name}": np.array(array) for name, array in adam.whole_state.items()}
            step = int(adam.control.step[0])
            return {"config": model.config(), "info": model.info, "step": step} | moments | _arrays(model)
        finally:
            model.close()


def _kinds(base: type[Kind]) -> Iterator[type[Kind]]:
    for cls in base.__subclasses__():
        if "name" in vars(cls):
            yield cls
        yield from _kinds(cls)


KINDS = {kind.name: kind for kind in _kinds(Kind)}


def _all(source: datasets.BlockSource) -> Any:
    """All that a source gives, block after block."""
    pieces = [piece for block in range(len(source.block_sizes)) for piece in source.read(block)]
    assert sum(len(piece[0]) for piece in pieces) == len(source)
    return [np.concatenate([piece[i] for piece in pieces]) for i in range(2) if pieces[0][i] is not None]


def _dataset(data: datasets.Dataset) -> Any:
    return [data.X_train, data.y_train, data.X_test, data.y_test, data.class_names]


def same(a: Any, b: Any) -> bool:
    """Whether two values of a reader are equal, bit for bit."""
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return bool(type(a) is type(b) and (a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))))


def fault_of_error(error: BaseException, path: Path) -> str | None:
    """What is wrong with an error that refuses a file: its type, or that it does not name the file."""
    typed = isinstance(error, OSError) or (isinstance(error, ValueError) and type(error).__module__.startswith("fcnn"))
    shown = f"{type(error).__name__}: {str(error)[:300]}"
    if not typed:
        return f"leaks {shown}"
    try:
        str(error).encode()
    except UnicodeEncodeError:
        return f"cannot be shown: {shown!r}"
    if str(path) not in str(error) and str(path) not in str(getattr(error, "filename", "")):
        return f"does not name the file: {shown}"
    if len(str(error)) > 20_000:
        return f"says {len(str(error))} characters: {shown}"
    return None


class _Endless(BaseException):
    pass


def _peak() -> int:
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def _try(kind: Any, name: str, read: Callable[[Path], Any], case: Case) -> str | None:
    """What does not hold of one reader and one mutant."""
    with open("/proc/self/clear_refs", "w", encoding="ascii") as refs:
        refs.write("5")  # the peak begins anew
    before = _peak()
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    fault: str | None = None
    try:
        found = read(case.path)
        if case.protected and not same(found, kind.expected[name]):
            fault = "accepted, and is not what was written"
        del found
    except _Endless:
        fault = f"took more than {MOST_SECONDS} s"
    except BaseException as error:
        fault = fault_of_error(error, case.path)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    used = _peak() - before
    if fault is None and used > _TIMES_SIZE * case.size + _SPARE:
        fault = f"took {used / 2**20:.0f} MiB for a file of {case.size:,} bytes"
    return fault


def _one(kind: Any, seed: int, folder: Path) -> list[dict[str, Any]]:
    """What does not hold of one mutant."""
    faults = []
    for name, read in kind.readers().items():
        fault = _try(kind, name, read, kind.make(seed, folder))
        if fault is not None:
            faults.append({"mutant": seed, "reader": name, "fault": fault.replace(str(folder), "")})
    return faults


def _block(kind: Any, seeds: range, folder: Path) -> tuple[list[dict[str, Any]], int]:
    """Those of some mutants, in a child; and how many have been tried. A library may end the whole process."""
    said = folder / "said"
    said.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        with said.open("w", encoding="utf-8") as file:
            for seed in seeds:
                file.write(json.dumps(_one(kind, seed, folder)) + "\n")
                file.flush()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    found = [json.loads(line) for line in said.read_text(encoding="utf-8").splitlines()]
    faults = [fault for one in found for fault in one]
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return faults, len(seeds)
    how = f"ends the process: {signal.Signals(-code).name if code < 0 else f'exit status {code}'}"
    return [*faults, {"mutant": seeds[len(found)], "reader": "any", "fault": how}], len(found) + 1


def main(kind_name: str, count: int, first: int) -> None:
    """Go through `count` mutants from number `first` on and print what did not hold, as JSON."""

    def endless(*_: object) -> None:
        raise _Endless

    signal.signal(signal.SIGPROF, endless)
    warnings.simplefilter("ignore")
    kind: Any = KINDS[kind_name]()
    faults: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        kind.prepare(Path(folder))
        at, end = first, first + count
        while at < end:
            found, tried = _block(kind, range(at, min(end, at + _BLOCK)), Path(folder))
            faults += found
            at += tried
    print("\n" + json.dumps(faults))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
