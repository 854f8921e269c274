"""Losses: L = (1/batch) Σ_j w_j ℓ_j, their gradients, and the link from a network's raw outputs to predictions.

A loss takes logits (raw outputs) and owns the 1/batch. w_j are the per-sample weights, 1 unless given: the mean is over
the batch, not over the weights. Everything is computed in one fused pass per batch (backend/_ops/_loss.py).

In the explicit training loop::

    outputs = model.forward(X, training=True)
    value = loss.forward(outputs, y)        # L, an array of the device without dimensions
    model.backward(loss.backward())         # ∂L/∂outputs, (batch, n_outputs)
"""

from ._base import LOSSES as LOSSES
from ._base import VALUE_LINKS as VALUE_LINKS
from ._base import Loss as Loss
from ._classes import CrossEntropy as CrossEntropy
from ._classes import Focal as Focal
from ._classes import KLDivergence as KLDivergence
from ._ensemble import EnsembleLoss as EnsembleLoss
from ._outputs import MAE as MAE
from ._outputs import MSE as MSE
from ._outputs import BinaryCrossEntropy as BinaryCrossEntropy
from ._outputs import Hinge as Hinge
from ._outputs import Huber as Huber
from ._outputs import LogCosh as LogCosh
from ._outputs import Poisson as Poisson
from ._outputs import Quantile as Quantile
from ._targets import check_sample_weight as check_sample_weight
from ._targets import finite_weights as finite_weights
