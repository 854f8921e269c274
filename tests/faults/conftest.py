"""How many faults the tests of this folder inject, and which."""

from __future__ import annotations

import pytest

from tests.support.faults import Faults


@pytest.fixture
def faults(request: pytest.FixtureRequest) -> Faults:
    """What --faults and --faults-seed say."""
    return Faults(request.config.getoption("--faults"), request.config.getoption("--faults-seed"))
