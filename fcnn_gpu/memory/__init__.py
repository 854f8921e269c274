"""How much memory something takes, and what is said when it runs out."""

from ._out_of_memory import OutOfMemoryError as OutOfMemoryError
from ._out_of_memory import describe_shortage as describe_shortage
from ._out_of_memory import describe_use as describe_use
from ._out_of_memory import explains_out_of_memory as explains_out_of_memory
from ._out_of_memory import forget_frames as forget_frames
from ._out_of_memory import is_out_of_memory as is_out_of_memory
from ._report import KINDS as KINDS
from ._report import MemoryReport as MemoryReport
from ._report import human as human
