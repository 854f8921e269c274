"""What a fitted estimator says of its network and its training, under the names of scikit-learn's MLPs."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .._types import HostArray
from ..layers import Dense
from ..model import Sequential
from ..training import History
from ._network import Network


class FittedAttributes:
    """Attributes that are read from the network and its history."""

    backend: Any
    early_stopping: bool
    _network: Network
    history_: History

    @property
    def model_(self) -> Sequential:
        """The fitted `Sequential`: its layers, `summary()` and `save(path)`."""
        check_is_fitted(self)
        return self._network.trainer(self.backend).model

    @property
    def coefs_(self) -> list[HostArray]:
        """Copies of the weights of each layer, (n_in, n_out): the transposes of `model_`'s W."""
        to_numpy = self.model_.ops.to_numpy
        return [to_numpy(layer.W).T.copy() for layer in self._dense]

    @property
    def intercepts_(self) -> list[HostArray]:
        """Copies of the biases of each layer, (n_out,). AttributeError with batch_norm, which has β in their place."""
        if self._network.design.batch_norm:
            raise AttributeError(
                f"{type(self).__name__} has no intercepts_ with batch_norm=True, whose shifts stand in the place of "
                "hidden layers' biases. Read model_.named_arrays()."
            )
        to_numpy = self.model_.ops.to_numpy
        return [to_numpy(layer.b)[:, 0].copy() for layer in self._dense]

    @property
    def n_layers_(self) -> int:
        """Layers of units, that of the inputs and that of the outputs included."""
        check_is_fitted(self)
        return len(self._network.design.hidden_layer_sizes) + 2

    @property
    def out_activation_(self) -> str:
        """What makes predictions of the last layer's outputs: "softmax", "logistic", "identity" or "exp"."""
        check_is_fitted(self)
        link = self._network.design.loss.link
        return "logistic" if link == "sigmoid" else link

    @property
    def loss_curve_(self) -> list[float]:
        """The data loss of each epoch, without penalties: `history_["loss"]`."""
        check_is_fitted(self)
        return self.history_["loss"]

    @property
    def loss_(self) -> float:
        """The last of `loss_curve_`."""
        return self.loss_curve_[-1]

    @property
    def best_loss_(self) -> float | None:
        """The smallest of `loss_curve_`; None with early_stopping, which goes by `best_validation_score_`."""
        curve = self.loss_curve_
        return None if self.early_stopping else min(curve)

    @property
    def validation_scores_(self) -> list[float] | None:
        """−val_loss of each epoch, so that greater is better; None where nothing was held out."""
        check_is_fitted(self)
        return [-value for value in self.history_["val_loss"]] if "val_loss" in self.history_.columns else None

    @property
    def best_validation_score_(self) -> float | None:
        """The greatest of `validation_scores_`, NaN left out; None where nothing was held out."""
        scores = self.validation_scores_
        return None if scores is None else max((s for s in scores if not np.isnan(s)), default=float("nan"))

    @property
    def _dense(self) -> list[Any]:
        return [layer for layer in self.model_.layers if isinstance(layer, Dense)]
