"""What `fcnn-gpu bench` measures and how: see benchmarks/README.md for the method."""

from .nets import STANDARD_CASES as STANDARD_CASES
from .nets import Case as Case
from .nets import Net as Net
from .results import CaseResult as CaseResult
from .results import Ceilings as Ceilings
from .results import Report as Report
from .rounds import time_case as time_case
from .settings import Settings as Settings
