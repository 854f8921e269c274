"""How much memory something takes, and what is said when it runs out."""

from ._report import KINDS as KINDS
from ._report import MemoryReport as MemoryReport
from ._report import human as human
from ._shortage import OutOfMemoryError as OutOfMemoryError
from ._shortage import describe_shortage as describe_shortage
from ._shortage import describe_use as describe_use
from ._shortage import explains_out_of_memory as explains_out_of_memory
from ._shortage import forget_frames as forget_frames
from ._shortage import is_out_of_memory as is_out_of_memory
