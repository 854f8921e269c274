"""What a network does with its inputs: one sample's passes with all numbers, and what its inputs have part in."""

from ._copy import copy_of as copy_of
from ._loss import loss_of as loss_of
from ._loss import targets_of as targets_of
from .attribution import METHODS as METHODS
from .attribution import Attributions as Attributions
from .attribution import attribute as attribute
from .explanation import Explanation as Explanation
from .explanation import LayerPass as LayerPass
from .explanation import Updated as Updated
from .explanation import explain as explain
from .permutation import Importances as Importances
from .permutation import permutation_importance as permutation_importance
from .permutation import scores_lost as scores_lost
