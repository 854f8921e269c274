"""Metrics: what a person reads off a trained model, computed on the host with scikit-learn's definitions.

A metric compares targets with the model's predictions after the loss's link: class probabilities, or values. It
takes part in no gradient; losses do (see losses/). Accuracy and the metrics of values are a few lines of NumPy;
scikit-learn, which takes a second to import, is imported when the first of the others is computed.
"""

from ._base import AVERAGES as AVERAGES
from ._base import METRICS as METRICS
from ._base import Average as Average
from ._base import FunctionMetric as FunctionMetric
from ._base import Metric as Metric
from ._base import MetricRegistry as MetricRegistry
from ._base import Task as Task
from ._base import measure as measure
from ._decisions import F1 as F1
from ._decisions import Accuracy as Accuracy
from ._decisions import BalancedAccuracy as BalancedAccuracy
from ._decisions import FBeta as FBeta
from ._decisions import MatthewsCorrelation as MatthewsCorrelation
from ._decisions import Precision as Precision
from ._decisions import Recall as Recall
from ._decisions import TopKAccuracy as TopKAccuracy
from ._probabilities import AveragePrecision as AveragePrecision
from ._probabilities import BrierScore as BrierScore
from ._probabilities import Calibration as Calibration
from ._probabilities import CalibrationError as CalibrationError
from ._probabilities import LogLoss as LogLoss
from ._probabilities import RocAUC as RocAUC
from ._probabilities import calibration as calibration
from ._quantiles import Coverage as Coverage
from ._quantiles import Pinball as Pinball
from ._reports import ClassScores as ClassScores
from ._reports import Report as Report
from ._reports import classification_report as classification_report
from ._reports import confusion_matrix as confusion_matrix
from ._reports import predicted_classes as predicted_classes
from ._values import R2 as R2
from ._values import ExplainedVariance as ExplainedVariance
from ._values import LogCoshError as LogCoshError
from ._values import MeanAbsoluteError as MeanAbsoluteError
from ._values import MeanAbsolutePercentageError as MeanAbsolutePercentageError
from ._values import MeanSquaredError as MeanSquaredError
from ._values import MedianAbsoluteError as MedianAbsoluteError
from ._values import RootMeanSquaredError as RootMeanSquaredError
