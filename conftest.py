"""Hypothesis profiles (HYPOTHESIS_PROFILE=thorough for long runs), figures without a screen, one thread a worker.

Torch's random numbers are the same whichever tests ran before, and figures are closed.
"""

import os
import sys

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # workers of pytest-xdist share the cores

settings.register_profile(
    "ci", deadline=None, max_examples=20, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", deadline=None, max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(autouse=True)
def alike():
    """Start each test, and each example of a docstring, from the same state of what all of them share."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(int(os.environ.get("LINFA_TEST_SEED", "0")))
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
