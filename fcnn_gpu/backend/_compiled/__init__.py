"""The compiled operations of the CPU: building and loading their library, and the programs that are made of them."""

from ._build import BuildError as BuildError
from ._call import Call as Call
from ._call import address_of as address_of
from ._installation import NotCompiledError as NotCompiledError
from ._installation import build_in_checkout as build_in_checkout
from ._installation import load_library as load_library
from ._library import LEVEL_VARIABLE as LEVEL_VARIABLE
from ._library import Library as Library
from ._program import Place as Place
from ._program import Program as Program
from ._program import blocks_of_gradients as blocks_of_gradients
from ._program import samples_at_a_time as samples_at_a_time
