"""Models and numbers in files: read and written where they lie, or replaced whole."""

from ._blocks import BlockMatrix as BlockMatrix
from ._blocks import blocks_of_rows as blocks_of_rows
from ._blocks import rows_of_block as rows_of_block
from ._json import brief as brief
from ._json import read_json as read_json
from ._lock import is_at as is_at
from ._lock import try_to_lock as try_to_lock
from ._lock import unlock as unlock
from ._model_file import ModelFile as ModelFile
from ._model_file import ModelFileError as ModelFileError
from ._model_file import read_model as read_model
from ._model_file import write_model as write_model
from ._numbers import MappedFile as MappedFile
from ._numbers import NumberFile as NumberFile
from ._numbers import StorageError as StorageError
from ._numbers import is_mapped as is_mapped
from ._numbers import let_go_of_pages as let_go_of_pages
from ._numbers import place_in_file as place_in_file
from ._read_ahead import ReadAhead as ReadAhead
from ._replaced_together import check_replaceable as check_replaceable
from ._replaced_together import replaced_together as replaced_together
from ._replacement import atomic_replacement as atomic_replacement
from ._replacement import leftovers as leftovers
from ._replacement import write_atomically as write_atomically
from ._tensor_file import Tensors as Tensors
