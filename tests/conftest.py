"""Settings that hold for every test."""

import hypothesis
import numpy as np
import pytest
from builds import forget_plans

from cyconv import threads

# The same examples on every machine: a red build can be repeated at home.
# "few" is for kernels that check themselves, which are slow (tools/checks.py), and "traced" for
# `make coverage`.
for profile, examples in (("cyconv", 150), ("few", 15), ("traced", 2)):
    hypothesis.settings.register_profile(
        profile,
        deadline=None,
        derandomize=True,
        max_examples=examples,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
hypothesis.settings.load_profile("cyconv")


@pytest.fixture(autouse=True)
def plans_of_its_own():
    """Those of another test may be made of what that one has changed."""
    forget_plans()


@pytest.fixture
def rng():
    return np.random.default_rng(20)


@pytest.fixture(scope="module")
def as_in_a_region():
    """Kernels run where nobody is warned. (The fallback's products are BLAS's, which on 64-bit ARM
    was seen to report divisions by zero of lanes that are in no result.)"""
    with threads.quiet():
        yield
