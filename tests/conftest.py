"""Settings that hold for every test."""

import hypothesis
import numpy as np
import pytest

# The same examples on every machine: a red build can be repeated at home.
# "few" is for kernels that check themselves, which are slow (tools/checks.py).
for profile, examples in (("cyconv", 150), ("few", 15)):
    hypothesis.settings.register_profile(
        profile,
        deadline=None,
        derandomize=True,
        max_examples=examples,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
hypothesis.settings.load_profile("cyconv")


@pytest.fixture
def rng():
    return np.random.default_rng(20)
