"""Layers: forward and backward side by side, each equation next to the call that computes it.

A layer owns its parameters (views of the model's flat buffers) and computes into the arrays of a `cache`, which the
model's workspace made once for this batch size. dQ is ∂L/∂Q and has Q's shape; `backward` may overwrite the gradient
that it is given.
"""

from ._base import LAYERS as LAYERS
from ._base import BatchPart as BatchPart
from ._base import Binding as Binding
from ._base import Layer as Layer
from ._base import Parameter as Parameter
from ._base import Plan as Plan
from ._bins import piecewise_linear_bins as piecewise_linear_bins
from ._columns import category_columns as category_columns
from ._hidden import hidden_weights as hidden_weights
from ._member_units import member_blocks as member_blocks
from ._member_units import member_units as member_units
from ._member_units import shared_by_members as shared_by_members
from ._stack import backward_layer as backward_layer
from ._stack import backward_layers as backward_layers
from ._stack import build_layers as build_layers
from ._stack import first_learned as first_learned
from ._stack import resolve_layers as resolve_layers
from .activation import Activation as Activation
from .branches import Branches as Branches
from .branches import last_layers as last_layers
from .dense import Dense as Dense
from .dropout import AlphaDropout as AlphaDropout
from .dropout import Dropout as Dropout
from .embedding import Embedding as Embedding
from .ensemble import BatchEnsemble as BatchEnsemble
from .ensemble import DenseEnsemble as DenseEnsemble
from .ensemble import Members as Members
from .noise import GaussianNoise as GaussianNoise
from .normalization import BatchNorm as BatchNorm
from .normalization import GroupNorm as GroupNorm
from .normalization import LayerNorm as LayerNorm
from .normalization import RMSNorm as RMSNorm
from .number_embedding import PBLD as PBLD
from .number_embedding import PeriodicEmbedding as PeriodicEmbedding
from .number_embedding import PiecewiseLinearEmbedding as PiecewiseLinearEmbedding
from .parametric import ParametricActivation as ParametricActivation
from .parametric import PReLU as PReLU
from .parametric import Scale as Scale
from .residual import Residual as Residual
