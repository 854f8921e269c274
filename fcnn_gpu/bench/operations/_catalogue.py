"""Every operation that is measured, in the order of a training step."""

from __future__ import annotations

from ._activations import ACTIVATIONS, DROPOUT
from ._losses import CROSS_ENTROPY, GATHER
from ._normalization import NORMALIZATION
from ._operation import Operation
from ._products import PRODUCTS
from ._updates import UPDATES

OPERATIONS: dict[str, Operation] = {
    operation.name: operation
    for operation in (GATHER, *PRODUCTS, *ACTIVATIONS, *DROPOUT, *NORMALIZATION, CROSS_ENTROPY, *UPDATES)
}
"""By name."""
