"""Products of matrices larger than memory: planned from budget, shapes and rates, computed tile by tile."""

from ._matmul import chunked_matmul as chunked_matmul
from ._matmul import plan_chunked_matmul as plan_chunked_matmul
from ._plan import MatmulPlan as MatmulPlan
from ._rates import Rates as Rates
from ._report import MatmulReport as MatmulReport
