"""L-BFGS: the optimizer that takes all samples at once, and searches along a line for the length of each step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from .._checks import check_integer, check_real
from ..backend import FlatParameters, Ops, StepControl
from ..optimizers import OPTIMIZERS, Course, Optimizer


@dataclass
class LBFGS(Optimizer):
    """θ ← θ − αHg over all samples: H ≈ (∇²)⁻¹ from the last steps, α by a line search on the objective.

    g is the gradient of loss + penalties, and an epoch of `Trainer.fit` is an iteration: one step, for which the line
    search may take several passes over the samples. SciPy's L-BFGS-B chooses the steps, in float64; the passes are the
    network's own, in its dtype and on its device. In float32 an objective has some seven digits, and the run ends where
    the line search can tell no lower one: dtype="float64" goes on to tighter tolerances.

    `history_size` steps make H. The run ends where no element of g is larger than `tol`, where the objective falls by
    less than 2.2·10⁻⁹ of itself, or after `max_evaluations` passes: `history.stopped_by` says which. There is no rate
    and no batch: `learning_rate` stays 1, and `batch_size`, `shuffle` and `drop_last` have no say. It suits small data
    and networks without dropout.

    Source: Liu & Nocedal (1989); Byrd, Lu, Nocedal & Zhu (1995), as in `scipy.optimize` and scikit-learn's
    solver="lbfgs", whose `tol` and `max_fun` are these. By name it is "lbfgs". It is not among `OPTIMIZERS`, whose
    updates are those of single steps, for the explicit loop too.

    >>> import fcnn_gpu as fcnn
    >>> X, y = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0, 1, 1, 0]
    >>> layers = [fcnn.Dense(8, activation="tanh"), fcnn.Dense(2)]
    >>> model = fcnn.Sequential(layers, n_in=2, seed=0, backend="numpy", dtype="float64")
    >>> history = fcnn.Trainer(model, optimizer=fcnn.LBFGS()).fit(X, y, epochs=100, progress=False)
    >>> model.predict_classes(X).tolist(), history.stopped_by
    ([0, 1, 1, 0], 'converged: no element of the gradient is larger than tol=0.0001')
    """

    name = "lbfgs"
    learning_rate: Any = 1.0
    history_size: int = 10
    tol: float = 1e-4
    max_evaluations: int = 15_000

    def _check(self) -> None:
        self.history_size = check_integer("LBFGS(history_size)", self.history_size, low=1)
        self.tol = check_real("LBFGS(tol)", self.tol, low=0.0)
        self.max_evaluations = check_integer("LBFGS(max_evaluations)", self.max_evaluations, low=1)
        if self.learning_rate != 1.0:
            raise ValueError(
                f"LBFGS has no learning_rate, because a line search finds the length of each step: got "
                f"{self.learning_rate!r}. Leave it out."
            )
        for setting in ("clip_norm", "clip_value", "rate_factors"):
            if getattr(self, setting) is not None:
                raise ValueError(
                    f"LBFGS({setting}) cannot be: the line search needs the gradient of the objective as it is. Leave "
                    "it out, or take Adam or SGD."
                )

    def step(self) -> None:
        """Raises TypeError: a step needs the objective at several points, which `Trainer.fit` computes."""
        raise TypeError(
            "LBFGS makes no step from one gradient alone, because it searches along a line. Train with "
            "Trainer(model, optimizer=LBFGS()).fit(...), or take another optimizer for a loop of your own."
        )

    @property
    def has_own_step(self) -> bool:
        return False

    def _reach(self, course: Course) -> float:
        return course.start

    def _update(self, ops: Ops, flat: FlatParameters, control: StepControl, state: dict[str, Any]) -> None:
        """Nothing: a pass leaves the parameters to the line search."""


def resolve_optimizer(spec: Any) -> Optimizer:
    """An optimizer by name or as it is, "lbfgs" included."""
    if spec is LBFGS or (isinstance(spec, str) and spec == LBFGS.name):
        return LBFGS()
    return OPTIMIZERS.resolve(spec)


def with_tolerance(optimizer: LBFGS, tol: float) -> LBFGS:
    """An unbound copy with another tolerance."""
    return replace(optimizer, tol=tol)
