"""Who takes part: each library's model, made for a table, by its own defaults or with the settings that all share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from sklearn.neural_network import MLPClassifier, MLPRegressor

from fcnn_gpu.estimators import FCNNClassifier, FCNNRegressor

from .datasets import Task

Rules = Literal["equal", "default"]
"""Under which settings models are compared: those that all share, or each library's own."""

HIDDEN, RATE, LARGEST_BATCH = (100,), 1e-3, 200
"""Of the settings that all share: layers, Adam's learning rate, and the samples of a batch if there are as many."""


@dataclass(frozen=True)
class Job:
    """What a model is made for."""

    rules: Rules
    task: Task
    n_samples: int
    """To train on."""
    epochs: int
    """Of the settings that all share."""
    seed: int

    @property
    def batch_size(self) -> int:
        """Of the settings that all share."""
        return min(LARGEST_BATCH, self.n_samples)


class Model(Protocol):
    """A participant."""

    name: str
    version_of: str
    """The package whose version the report gives."""

    def make(self, job: Job) -> Any | None:
        """An estimator of scikit-learn's kind, unfitted; None where these rules have no meaning for it."""


class Ours:
    """FCNNClassifier and FCNNRegressor, compiled. Where all settings are equal, weights and biases start as scikit-learn's do."""

    name = version_of = "fcnn_gpu"

    def make(self, job: Job) -> Any:
        make = FCNNClassifier if job.task == "classification" else FCNNRegressor
        options: dict[str, Any] = {"random_state": job.seed, "backend": "cpu"}
        if job.rules == "equal":
            options |= {"epochs": job.epochs, "batch_size": job.batch_size, "learning_rate": RATE}
            options |= {"init": "xavier_uniform", "bias_init": "xavier_uniform"}
            return make(HIDDEN, "relu", optimizer="adam", l2=0.0, dropout=0.0, **options)
        return make(**options)


class ScikitLearn:
    """MLPClassifier and MLPRegressor. Where all settings are equal they stop for no tolerance, and have no penalty."""

    name = version_of = "scikit-learn"

    def make(self, job: Job) -> Any:
        make = MLPClassifier if job.task == "classification" else MLPRegressor
        options: dict[str, Any] = {"random_state": job.seed}
        if job.rules == "equal":
            options |= {"max_iter": job.epochs, "batch_size": job.batch_size, "learning_rate_init": RATE}
            options |= {"tol": 0.0, "n_iter_no_change": job.epochs + 1, "alpha": 0.0, "solver": "adam"}
            return make(hidden_layer_sizes=HIDDEN, activation="relu", **options)
        return make(**options)


MODELS: dict[str, Model] = {model.name: model for model in (Ours(), ScikitLearn())}
OURS, RIVAL = Ours.name, ScikitLearn.name
"""Who is compared with whom by the goals."""
