"""Trainer, and beneath it a run: its steps, epochs, evaluation and history."""

from typing import TYPE_CHECKING

from .._figures import PictureError as PictureError
from .._figures import drawing as drawing
from .._figures import make_figure as make_figure
from .._figures import saved as saved
from .._on_demand import on_demand
from ._baseline import DivergenceWarning as DivergenceWarning
from ._baseline import loss_of_constant as loss_of_constant
from ._diagnosis import DivergenceError as DivergenceError
from ._evaluation import EvaluationData as EvaluationData
from ._evaluation import Evaluator as Evaluator
from ._interrupt import interruptible as interruptible
from ._plots import plot_confusion_matrix as plot_confusion_matrix
from ._plots import plot_histories as plot_histories
from ._plots import plot_history as plot_history
from ._scores import try_metrics as try_metrics
from ._step import TrainingStep as TrainingStep
from .folds import deal_folds as deal_folds
from .folds import fold_weights as fold_weights
from .folds import out_of_fold as out_of_fold
from .history import History as History
from .history import column_names as column_names
from .lbfgs import LBFGS as LBFGS
from .lbfgs import resolve_optimizer as resolve_optimizer
from .lbfgs import with_tolerance as with_tolerance
from .own_units import OwnUnits as OwnUnits
from .own_units import degrees_of as degrees_of
from .own_units import units_of as units_of
from .trainer import Trainer as Trainer

if TYPE_CHECKING:
    from ._rehearsal import memory_report as memory_report
    from .learning_rate_finder import LearningRateCurve as LearningRateCurve
    from .learning_rate_finder import find_learning_rate as find_learning_rate
else:
    _NAMES = {"_rehearsal": "memory_report", "learning_rate_finder": "LearningRateCurve find_learning_rate"}
    __getattr__, __dir__ = on_demand(__name__, _NAMES)
