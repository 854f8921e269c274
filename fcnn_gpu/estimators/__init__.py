"""scikit-learn estimators: networks that fit into pipelines, grid searches and everything else made for estimators.

Not imported with fcnn_gpu: scikit-learn takes longer to import than all of it.
"""

from ._bag import Bag as Bag
from ._bag import Member as Member
from ._bag import train_folds as train_folds
from ._bag import train_one as train_one
from ._convergence import TargetScaleWarning as TargetScaleWarning
from ._convergence import UnfinishedFitWarning as UnfinishedFitWarning
from ._folds import folds_of as folds_of
from ._recipes import FOLDS as FOLDS
from ._recipes import RECIPES as RECIPES
from ._recipes import Recipe as Recipe
from ._run import Run as Run
from ._samples import Samples as Samples
from ._samples import to_mean_one as to_mean_one
from ._tasks import Classification as Classification
from ._tasks import Regression as Regression
from ._threshold import THRESHOLD_METRICS as THRESHOLD_METRICS
from ._threshold import best_threshold as best_threshold
from .classifier import FCNNClassifier as FCNNClassifier
from .regressor import FCNNRegressor as FCNNRegressor
from .tabular import TabularClassifier as TabularClassifier
from .tabular import TabularRegressor as TabularRegressor
