"""The command line: `fcnn-gpu train`, `evaluate`, `predict`, `explain`, `report`, `bench` and `doctor`."""

from ._app import app as app
from ._app import main as main
from ._app import run as run
