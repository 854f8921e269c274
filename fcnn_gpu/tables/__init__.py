"""Tables as people have them: read whatever holds them, and made the numbers that a network learns from.

`read` takes files and DataFrames as they are, the kinds of the columns are inferred (and shown, and overruled), and
`TablePreparation`, fitted on the training part, makes numbers of them that are saved with the model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._on_demand import on_demand
from ._column import Column as Column
from ._from_frames import MissingReaderError as MissingReaderError
from ._read import TABLE_SUFFIXES as TABLE_SUFFIXES
from ._read import is_table_file as is_table_file
from ._read import read as read
from .kinds import ColumnKind as ColumnKind
from .kinds import TableError as TableError
from .kinds import infer_kinds as infer_kinds
from .leaks import find_leaks as find_leaks
from .table import Table as Table
from .table import is_table as is_table
from .targets import Targets as Targets

if TYPE_CHECKING:
    from .preparation import TablePreparation as TablePreparation
else:  # and with it scikit-learn, which takes longer to import than all of fcnn_gpu
    __getattr__, __dir__ = on_demand(__name__, {"preparation": "TablePreparation"})
