"""Fully-connected neural networks, trained fast on CUDA GPUs and on any CPU, every gradient beside its equation.

>>> import fcnn_gpu as fcnn
>>> data = fcnn.datasets.load("digits")
>>> model = fcnn.Sequential([fcnn.Dense(32, activation="relu"), fcnn.Dense(10)], n_in=64, seed=0, backend="numpy")
>>> trainer = fcnn.Trainer(model, loss="cross_entropy", optimizer=fcnn.Adam(3e-3), metrics=["accuracy"])
>>> history = trainer.fit(data.X_train, data.y_train, epochs=20, batch_size=32)
>>> trainer.evaluate(data.X_test, data.y_test)["accuracy"] > 0.94
True
"""

from typing import TYPE_CHECKING

from . import _on_demand

__version__ = "0.1.0"

if TYPE_CHECKING:
    from . import activations as activations
    from . import backend as backend
    from . import callbacks as callbacks
    from . import data as data
    from . import datasets as datasets
    from . import doctor as doctor
    from . import estimators as estimators
    from . import explain as explain
    from . import files as files
    from . import gradient_check as gradient_check
    from . import initializers as initializers
    from . import large_matrix as large_matrix
    from . import layers as layers
    from . import losses as losses
    from . import memory as memory
    from . import metrics as metrics
    from . import model as model
    from . import optimizers as optimizers
    from . import placement as placement
    from . import regularizers as regularizers
    from . import report as report
    from . import reproducibility as reproducibility
    from . import schedules as schedules
    from . import tables as tables
    from . import training as training
    from .backend import BackendError as BackendError
    from .backend import autotune_report as autotune_report
    from .backend import set_autotune as set_autotune
    from .backend import set_backend as set_backend
    from .backend import set_threads as set_threads
    from .backend import threads as threads
    from .backend import to_numpy as to_numpy
    from .callbacks import Callback as Callback
    from .callbacks import EarlyStopping as EarlyStopping
    from .callbacks import ModelCheckpoint as ModelCheckpoint
    from .callbacks import ProgressBar as ProgressBar
    from .data import Signature as Signature
    from .datasets import DigitsWarning as DigitsWarning
    from .estimators import FCNNClassifier as FCNNClassifier
    from .estimators import FCNNRegressor as FCNNRegressor
    from .estimators import TabularClassifier as TabularClassifier
    from .estimators import TabularRegressor as TabularRegressor
    from .files import ModelFileError as ModelFileError
    from .files import StorageError as StorageError
    from .initializers import SymmetryWarning as SymmetryWarning
    from .large_matrix import MatmulPlan as MatmulPlan
    from .large_matrix import MatmulReport as MatmulReport
    from .large_matrix import Rates as Rates
    from .large_matrix import chunked_matmul as chunked_matmul
    from .large_matrix import plan_chunked_matmul as plan_chunked_matmul
    from .layers import PBLD as PBLD
    from .layers import Activation as Activation
    from .layers import AlphaDropout as AlphaDropout
    from .layers import BatchEnsemble as BatchEnsemble
    from .layers import BatchNorm as BatchNorm
    from .layers import Branches as Branches
    from .layers import Dense as Dense
    from .layers import DenseEnsemble as DenseEnsemble
    from .layers import Dropout as Dropout
    from .layers import Embedding as Embedding
    from .layers import GaussianNoise as GaussianNoise
    from .layers import GroupNorm as GroupNorm
    from .layers import Layer as Layer
    from .layers import LayerNorm as LayerNorm
    from .layers import Members as Members
    from .layers import ParametricActivation as ParametricActivation
    from .layers import PeriodicEmbedding as PeriodicEmbedding
    from .layers import PiecewiseLinearEmbedding as PiecewiseLinearEmbedding
    from .layers import PReLU as PReLU
    from .layers import Residual as Residual
    from .layers import RMSNorm as RMSNorm
    from .layers import Scale as Scale
    from .layers import piecewise_linear_bins as piecewise_linear_bins
    from .losses import MAE as MAE
    from .losses import MSE as MSE
    from .losses import BinaryCrossEntropy as BinaryCrossEntropy
    from .losses import CrossEntropy as CrossEntropy
    from .losses import EnsembleLoss as EnsembleLoss
    from .losses import Focal as Focal
    from .losses import Hinge as Hinge
    from .losses import Huber as Huber
    from .losses import KLDivergence as KLDivergence
    from .losses import LogCosh as LogCosh
    from .losses import Loss as Loss
    from .losses import Poisson as Poisson
    from .losses import Quantile as Quantile
    from .memory import OutOfMemoryError as OutOfMemoryError
    from .model import NonFiniteOutputError as NonFiniteOutputError
    from .model import Sequential as Sequential
    from .model import load as load
    from .optimizers import SGD as SGD
    from .optimizers import Adadelta as Adadelta
    from .optimizers import Adagrad as Adagrad
    from .optimizers import Adam as Adam
    from .optimizers import Adamax as Adamax
    from .optimizers import AdamW as AdamW
    from .optimizers import Lion as Lion
    from .optimizers import Muon as Muon
    from .optimizers import NAdam as NAdam
    from .optimizers import RAdam as RAdam
    from .optimizers import RMSprop as RMSprop
    from .placement import Storage as Storage
    from .reproducibility import ReproducibilityReport as ReproducibilityReport
    from .reproducibility import verify_reproducible as verify_reproducible
    from .training import LBFGS as LBFGS
    from .training import DivergenceError as DivergenceError
    from .training import DivergenceWarning as DivergenceWarning
    from .training import History as History
    from .training import Trainer as Trainer
    from .training import find_learning_rate as find_learning_rate
    from .training import fold_weights as fold_weights
    from .training import out_of_fold as out_of_fold
else:
    _NAMES = {
        "": "activations backend callbacks data datasets doctor estimators explain files gradient_check initializers "
        "large_matrix layers losses memory metrics model optimizers placement regularizers report reproducibility "
        "schedules tables training",
        "backend": "BackendError autotune_report set_autotune set_backend set_threads threads to_numpy",
        "callbacks": "Callback EarlyStopping ModelCheckpoint ProgressBar",
        "data": "Signature",
        "datasets": "DigitsWarning",
        "estimators": "FCNNClassifier FCNNRegressor TabularClassifier TabularRegressor",
        "files": "ModelFileError StorageError",
        "initializers": "SymmetryWarning",
        "large_matrix": "MatmulPlan MatmulReport Rates chunked_matmul plan_chunked_matmul",
        "layers": "PBLD Activation AlphaDropout BatchEnsemble BatchNorm Branches Dense DenseEnsemble Dropout "
        "Embedding GaussianNoise GroupNorm Layer LayerNorm Members ParametricActivation PeriodicEmbedding "
        "PiecewiseLinearEmbedding PReLU Residual RMSNorm Scale piecewise_linear_bins",
        "losses": "MAE MSE BinaryCrossEntropy CrossEntropy EnsembleLoss Focal Hinge Huber KLDivergence LogCosh Loss "
        "Poisson Quantile",
        "memory": "OutOfMemoryError",
        "model": "NonFiniteOutputError Sequential load",
        "optimizers": "SGD Adadelta Adagrad Adam AdamW Adamax Lion Muon NAdam RAdam RMSprop",
        "placement": "Storage",
        "reproducibility": "ReproducibilityReport verify_reproducible",
        "training": "LBFGS DivergenceError DivergenceWarning History Trainer find_learning_rate fold_weights "
        "out_of_fold",
    }
    __getattr__, __dir__ = _on_demand.on_demand(__name__, _NAMES)
    __all__ = [  # but the estimators: scikit-learn takes longer to import than all of this
        name for room, names in _NAMES.items() if room != "estimators" for name in names.split() if name != "estimators"
    ]
