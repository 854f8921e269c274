"""Who takes part, by name, in the order of a run: what is compared is measured one after the other."""

from __future__ import annotations

from .base import Fitted as Fitted
from .base import Model as Model
from .ours import MLPS, OURS
from .pytabkit import PYTABKIT
from .trees import TREES

_ALL = {model.name: model for model in (*OURS, *PYTABKIT, *MLPS, *TREES)}
_FIRST = (
    "fcnn_gpu fast",
    "scikit-learn MLP",
    "fcnn_gpu FCNN",
    "fcnn_gpu FCNN equal",
    "scikit-learn MLP equal",
    "fcnn_gpu default",
    "pytabkit RealMLP-TD",
)
_LAST = ("fcnn_gpu best", "fcnn_gpu tabm", "pytabkit TabM", "pytabkit RealMLP-TD, estimator")

MODELS: dict[str, Model] = {
    name: _ALL[name] for name in (*_FIRST, *(name for name in _ALL if name not in _FIRST + _LAST), *_LAST)
}
