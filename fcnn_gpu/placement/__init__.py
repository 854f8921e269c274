"""Weights that do not fit on the device: on the host or on disk, streaming through in row tiles."""

from typing import TYPE_CHECKING

from .._on_demand import on_demand
from ._build import Placement as Placement
from ._matrix import LazyMatrix as LazyMatrix
from ._matrix import StoredMatrix as StoredMatrix
from ._matrix import assign_array as assign_array
from ._matrix import copy_array as copy_array
from ._matrix import is_finite as is_finite
from ._network import StoredWeights as StoredWeights
from ._opened import OpenedFolder as OpenedFolder
from ._opened import holds_network as holds_network
from ._opened import open_folder as open_folder
from ._plan import MemoryLimitError as MemoryLimitError
from ._storage import Storage as Storage
from ._storage import resolve_storage as resolve_storage
from ._typed import storage_errors as storage_errors
from ._weight import FactoredGradient as FactoredGradient

if TYPE_CHECKING:
    from ._shadow import shadow_stored as shadow_stored
else:
    __getattr__, __dir__ = on_demand(__name__, {"_shadow": "shadow_stored"})
