"""scikit-learn estimators: networks that fit into pipelines, grid searches and everything else made for estimators.

Not imported with fcnn_gpu: scikit-learn takes longer to import than all of it.
"""

from ._convergence import UnfinishedFitWarning as UnfinishedFitWarning
from .classifier import FCNNClassifier as FCNNClassifier
from .regressor import FCNNRegressor as FCNNRegressor
from .tabular import TabularClassifier as TabularClassifier
from .tabular import TabularRegressor as TabularRegressor
