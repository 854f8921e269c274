"""Sequential, and beneath it the network: what it is made of, how it computes, and the memory that it computes in."""

from ._recompute import check_recompute as check_recompute
from ._saved import load as load
from ._shortage import release as release
from ._shortage import release_inference as release_inference
from ._workspace import BatchArrays as BatchArrays
from .sequential import Sequential as Sequential
