"""scikit-learn estimators: networks that fit into pipelines, grid searches and everything else made for estimators.

Not imported with fcnn_gpu: scikit-learn takes longer to import than all of it.
"""

from ._convergence import UnfinishedFitWarning as UnfinishedFitWarning
from ._recipes import RECIPES as RECIPES
from ._recipes import Recipe as Recipe
from ._run import Run as Run
from ._samples import Samples as Samples
from ._samples import to_mean_one as to_mean_one
from ._tasks import Classification as Classification
from ._tasks import Regression as Regression
from .classifier import FCNNClassifier as FCNNClassifier
from .regressor import FCNNRegressor as FCNNRegressor
from .tabular import TabularClassifier as TabularClassifier
from .tabular import TabularRegressor as TabularRegressor
