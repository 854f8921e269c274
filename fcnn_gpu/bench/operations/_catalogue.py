"""Every operation that is measured, in the order of a training step."""

from __future__ import annotations

from ._activations import ACTIVATIONS, DROPOUT, PARAMETRIC
from ._elementwise import ELEMENTWISE_PASSES
from ._losses import GATHERS, LOSSES
from ._normalization import NORMALIZATION
from ._operation import Operation
from ._products import PRODUCTS
from ._updates import CHECKS, UPDATES

OPERATIONS: dict[str, Operation] = {
    operation.name: operation
    for operation in (
        *GATHERS,
        *PRODUCTS,
        *ACTIVATIONS,
        *PARAMETRIC,
        *DROPOUT,
        *NORMALIZATION,
        *ELEMENTWISE_PASSES,
        *LOSSES,
        *CHECKS,
        *UPDATES,
    )
}
"""By name."""
