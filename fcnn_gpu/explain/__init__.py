"""What a network does with its inputs: one sample's passes with all numbers, and what its inputs have part in."""

from .explanation import Explanation as Explanation
from .explanation import LayerPass as LayerPass
from .explanation import Updated as Updated
from .explanation import explain as explain
