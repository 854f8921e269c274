"""What people hang on a training run.

A callback is told of the run's events in this order: `on_train_begin`, then per epoch `on_epoch_begin`, `on_step`
(after every `every_steps` steps, of those that have it) and `on_tick` (several times a second, with the device's losses
fetched), `on_epoch_end` (with the epoch's record of the history),
and at last `on_train_end`, which also comes after an interrupt or an error. Setting `trainer.stop_reason` ends the run
after the epoch.
"""

from __future__ import annotations

from .._on_demand import own_names
from ._base import Callback, History, Trainer, WatchedTrainer, check_callbacks, has_step_hook
from ._epochs_table import clock, epochs_table, epochs_text
from ._last_word import check_last_word
from ._progress import progress_display, progress_of_verbose
from .checkpoint import ModelCheckpoint
from .early_stopping import EarlyStopping
from .epoch_lines import EpochLines
from .gradient_flow import GradientFlow, GradientFlowWarning
from .keep_best import KeepBest
from .loggers import CSVLogger, JSONLinesLogger
from .mlflow import MLflow
from .notebook import NotebookProgress
from .optuna_pruning import OptunaPruning
from .progress_bar import ProgressBar
from .tensorboard import TensorBoard
from .time_limit import Deadline, TimeLimit
from .wandb import WandB
from .weight_averaging import EMA, SWA, update_batch_norm

__dir__ = own_names(__name__)
__all__ = [
    "CSVLogger",
    "Callback",
    "Deadline",
    "EMA",
    "EarlyStopping",
    "EpochLines",
    "GradientFlow",
    "GradientFlowWarning",
    "History",
    "JSONLinesLogger",
    "KeepBest",
    "MLflow",
    "ModelCheckpoint",
    "NotebookProgress",
    "OptunaPruning",
    "ProgressBar",
    "SWA",
    "TensorBoard",
    "TimeLimit",
    "Trainer",
    "WandB",
    "WatchedTrainer",
    "check_callbacks",
    "check_last_word",
    "clock",
    "epochs_table",
    "epochs_text",
    "has_step_hook",
    "progress_display",
    "progress_of_verbose",
    "update_batch_norm",
]
