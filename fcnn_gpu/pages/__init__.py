"""What pages have in common: the shell and its style sheet, pictures, and numbers."""

from ._number import number as number
from ._page import fragment as fragment
from ._page import page as page
from ._picture import picture as picture
from ._style import N_COLOURS as N_COLOURS
