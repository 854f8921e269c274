"""scikit-learn's MLPClassifier: `partial_fit` over whole batches, `predict_proba` for inference."""

from __future__ import annotations

import numpy as np

from ..._types import HostArray
from ..settings import Settings
from ._base import BETA1, BETA2, EPS, LEARNING_RATE, Batches, Contestant, Library, Problem


class SklearnNet(Contestant):
    """MLPClassifier(solver="adam", alpha=0, shuffle=False).

    `partial_fit` goes through the samples that it is given in batches, once: one call makes all steps up to the end of
    the data set, which is its best public loop. Its forward pass is private, so inference is `predict_proba`, which
    checks its input and ends in a softmax. It adds ε to √v before the bias correction, not after it.
    """

    def __init__(self, problem: Problem) -> None:
        from sklearn.neural_network import MLPClassifier

        net = problem.net
        self._batch, self._n_batches = problem.batch, problem.n_batches
        self._initial = problem.initial_weights()
        self._X, self._y = problem.ordered_data()
        self._next = 0
        self._reads = Batches(problem.n_batches)
        self._model = MLPClassifier(
            net.hidden,
            activation=net.activation,
            solver="adam",
            alpha=0.0,
            batch_size=problem.batch,
            learning_rate_init=LEARNING_RATE,
            beta_1=BETA1,
            beta_2=BETA2,
            epsilon=EPS,
            shuffle=False,
            random_state=problem.seed,
        )
        self._model.partial_fit(self._X[: problem.batch], self._y[: problem.batch], classes=np.arange(net.n_out))
        self.reset()

    def train(self, n_steps: int) -> None:
        while n_steps:
            n = min(n_steps, self._n_batches - self._next)
            rows = slice(self._next * self._batch, (self._next + n) * self._batch)
            self._model.partial_fit(self._X[rows], self._y[rows])
            self._next = (self._next + n) % self._n_batches
            n_steps -= n

    def infer(self, n_batches: int) -> None:
        for _ in range(n_batches):
            start = self._reads.next() * self._batch
            self._model.predict_proba(self._X[start : start + self._batch])

    def outputs(self) -> HostArray:
        return np.log(self._model.predict_proba(self._X[: self._batch]))

    def weights(self) -> dict[str, HostArray]:
        W = {f"W{i}": coefficients.T.copy() for i, coefficients in enumerate(self._model.coefs_)}
        return W | {f"b{i}": intercepts.copy() for i, intercepts in enumerate(self._model.intercepts_)}

    def reset(self) -> None:
        for i, (coefficients, intercepts) in enumerate(zip(self._model.coefs_, self._model.intercepts_, strict=True)):
            coefficients[...] = self._initial[f"W{i}"].T
            intercepts[...] = self._initial[f"b{i}"]
        vars(self._model).pop("_optimizer", None)  # moments and step number: the next partial_fit makes them anew
        self._next = 0
        self._reads.restart()


class Sklearn(Library):
    key, name, module, package = "sklearn", "scikit-learn", "sklearn", "scikit-learn"

    def lacks(self, problem: Problem) -> str | None:
        if problem.gpu is not None:
            return "it computes on the CPU only"
        if problem.precision not in (None, "float32", "float64"):
            return "it computes in float32 and float64 only"
        if problem.net.batch_norm or problem.net.dropout:
            return "MLPClassifier has neither batch norm nor dropout"
        if problem.net.n_out < 3:
            return "for two classes MLPClassifier takes one output"
        return None

    def variants(self, problem: Problem, settings: Settings) -> dict[str, str | None]:
        return {"partial_fit": None}

    def build(self, problem: Problem, variant: str) -> SklearnNet:
        return SklearnNet(problem)
