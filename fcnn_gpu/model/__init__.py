"""Sequential, and beneath it the network: what it is made of, how it computes, and the memory that it computes in."""

from ._finite import NonFiniteOutputError as NonFiniteOutputError
from ._finite import check_outputs as check_outputs
from ._out_of_memory import release as release
from ._out_of_memory import release_inference as release_inference
from ._recompute import check_recompute as check_recompute
from ._save_and_load import load as load
from ._standardize import Standardization as Standardization
from ._standardize import fold_features as fold_features
from ._standardize import fold_targets as fold_targets
from ._workspace import BatchArrays as BatchArrays
from .sequential import Sequential as Sequential
from .sequential import rebuild as rebuild
