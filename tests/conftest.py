"""Settings that hold for every test."""

import hypothesis
import numpy as np
import pytest

# The same examples on every machine: a red build can be repeated at home.
hypothesis.settings.register_profile(
    "cyconv",
    deadline=None,
    derandomize=True,
    max_examples=150,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile(  # for `make coverage`
    "traced", parent=hypothesis.settings.get_profile("cyconv"), max_examples=2
)
hypothesis.settings.load_profile("cyconv")


@pytest.fixture
def rng():
    return np.random.default_rng(20)
