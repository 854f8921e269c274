"""pytabkit's RealMLP-TD and TabM, on PyTorch.

RealMLP-TD is there twice: the estimator that users call, and a compact module beside it that computes the same,
against which ours is compared. Its authors call it experimental, and say that its results are as good. Which of the two
takes less time depends on the machine: the estimator on an idle one.
"""

from __future__ import annotations

import io
import logging
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import softmax

from fcnn_gpu._types import HostArray

from ..splits import Split
from ..tables import categories
from .base import Estimator, Fitted, Model


class OfPyTorch(Model):
    """A model of pytabkit."""

    def load(self, n_threads: int) -> None:
        import pytabkit  # noqa: F401
        import torch

        torch.set_num_threads(n_threads)
        logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)


@dataclass(frozen=True)
class OfEstimator(OfPyTorch):
    """An estimator of pytabkit, by the beginning of its classes' names."""

    classes: str = ""

    def fit(self, part: Split, seed: int, n_threads: int) -> Fitted:
        import pytabkit

        make: Any = getattr(pytabkit, f"{self.classes}_{'Classifier' if part.n_classes else 'Regressor'}")
        estimator = make(device="cpu", random_state=seed, n_threads=n_threads)
        names = categories(part.X_train)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            estimator.fit(
                part.X_train, part.y_train, X_val=part.X_validation, y_val=part.y_validation, cat_col_names=names
            )
        return Estimator(estimator, 0)


class RealMLP(OfPyTorch):
    """`pytabkit.models.realmlp` with the settings of RealMLP-TD."""

    def fit(self, part: Split, seed: int, n_threads: int) -> Fitted:
        import torch
        from pytabkit.models.realmlp.model import RealMLPConfig
        from pytabkit.models.realmlp.train import fit

        X = part.X_known
        config = RealMLPConfig.td_class() if part.n_classes else RealMLPConfig.td_reg()
        y = torch.tensor(part.y_known, dtype=torch.long if part.n_classes else torch.float32)[:, None]
        sizes = [len(X[name].cat.categories) + 1 for name in categories(X)]
        n, rows = len(part.X_train), torch.arange(len(X))[None]
        network, told = fit(
            config, *_tensors(X), sizes, y, rows[:, :n], rows[:, n:], n_classes=part.n_classes, seed=seed
        )
        return FittedRealMLP(network, int(told["best_epochs"][0][0]), bool(part.n_classes))


@dataclass(frozen=True)
class FittedRealMLP:
    """Its network."""

    network: Any
    rounds: int
    has_classes: bool

    def predict(self, X: pd.DataFrame) -> HostArray:
        from pytabkit.models.realmlp.train import predict

        found: HostArray = predict(self.network, *_tensors(X))[0].numpy()
        return softmax(found.astype(np.float64), axis=1) if self.has_classes else found[:, 0]

    def n_bytes(self) -> int:
        """Of PyTorch's file of its parameters."""
        import torch

        file = io.BytesIO()
        torch.save(self.network.state_dict(), file)
        return file.getbuffer().nbytes


def _tensors(X: pd.DataFrame) -> tuple[Any, Any]:
    """Numbers, and categories from 1 on, 0 for a gap, as it wants them."""
    import torch

    names = categories(X)
    numbers = X.drop(columns=names).to_numpy(np.float32)
    codes = np.array([X[name].cat.codes.to_numpy(np.int64) + 1 for name in names], np.int64).reshape(len(names), len(X))
    return torch.tensor(numbers), torch.tensor(codes.T)


PYTABKIT: tuple[Model, ...] = (
    RealMLP("pytabkit RealMLP-TD", "pytabkit", "pytabkit", ("torch",), pace=1.4e-2),
    OfEstimator("pytabkit TabM", "pytabkit", "pytabkit", ("torch",), pace=5.5e-2, classes="TabM_D"),
    OfEstimator("pytabkit RealMLP-TD, estimator", "pytabkit", "pytabkit", ("torch",), pace=2e-2, classes="RealMLP_TD"),
)
