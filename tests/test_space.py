"""Any options, in every build: against the definition, to the bit where sums are exact.

What runs by default is a small part; `make soak` draws over 20,000 cases, new ones each time.
"""

import os

import numpy as np
import pytest
from builds import BUILDS, computing_with
from hypothesis import given, settings
from space import trials

import cyconv
from cyconv import blocks, threads, tiling
from cyconv.algorithms import depthwise, fused, nonfused

# Everything is cut small and shared among threads, however little it is.
SMALL = [
    (threads, "SMALL", 0),
    (blocks, "BLOCK_BYTES", 1),
    (tiling, "PIECE_WORK", 1000),
    (depthwise, "TASK_SECONDS", 1e-9),
    (nonfused, "SHARE_SECONDS", 1e-9),
    (fused, "SHARE_SECONDS", 1e-9),
]
# How far off normally distributed values may be, and Winograd, relative to the largest sum of
# magnitudes: in float16 that is the rounding of x, w and y; else docs/accuracy.md. Where values
# repeat each other, errors add up.
CLOSE = {np.float16: 2e-3, np.float32: 5e-6, np.float64: 1e-14}
REPEATED = {np.float16: 2e-3, np.float32: 2e-5, np.float64: 4e-14}
REPEATED_IN_WINOGRAD = {np.float16: 2e-3, np.float32: 6e-5, np.float64: 1.2e-13}
WAYS = [(build, small) for build in BUILDS for small in (False, True)]
CASES = int(os.environ.get("CYCONV_SOAK", "24000"))


@pytest.fixture(
    params=WAYS, scope="module", ids=lambda way: f"{way[0]}{', cut small' if way[1] else ''}"
)
def way(request):
    """A build, and whether work is cut small."""
    build, small = request.param
    before = cyconv.get_num_threads()
    with computing_with(build) as patch:
        for setting in SMALL if small else ():
            patch.setattr(*setting)
        yield request.param
    cyconv.set_num_threads(before)


def check(trial):
    """As defined, to the bit where sums are exact, else near; and the same bits on one thread."""
    cyconv.set_num_threads(trial.threads)
    results = trial.results()
    exact = not (trial.normal or trial.may_be_winograd)
    largest = [0] * 4 if exact else [abs(a).max(initial=0) for a in trial.wanted(of=abs)]
    checks = zip(results, trial.wanted(), largest, trial.result_dtypes, strict=False)
    for i, (got, wanted, scale, dtype) in enumerate(checks):
        assert got.dtype == dtype
        assert got.shape == wanted.shape
        if exact:
            with np.errstate(over="ignore"):
                np.testing.assert_array_equal(got, wanted.astype(dtype), err_msg=f"result {i}")
        else:
            near = CLOSE
            if any("broadcast" in layout for layout in trial.layouts):
                near = REPEATED_IN_WINOGRAD if trial.may_be_winograd else REPEATED
            error = abs(got - wanted).max(initial=0)
            bound = near[trial.dtype.type if trial.layer else dtype.type] * scale
            assert error <= bound, f"result {i}: off by {error / scale:.1e}"
    if trial.normal and trial.threads > 1:
        cyconv.set_num_threads(1)
        for got, alone in zip(results, trial.results(), strict=True):
            assert got.tobytes() == alone.tobytes()


@settings(max_examples=15)
@given(trial=trials())
def test_any_options(way, trial):
    check(trial)


@pytest.mark.soak
@settings(max_examples=-(-CASES // len(WAYS)), derandomize=False, print_blob=True)
@given(trial=trials())
def test_many_options(way, trial):
    check(trial)


def check_alone(way, trial):
    """Each image gives the same bits alone and in a batch, where docs/accuracy.md promises it."""
    build, _ = way
    if trial.algorithm == "winograd" and build in ("portable", "fallback"):
        return
    cyconv.set_num_threads(trial.threads)
    together = trial.results()[:2]
    for image in range(len(together[0]) if trial.batched else 0):
        for one, all_of_them in zip(trial.results(image), together, strict=False):
            assert one[0].tobytes() == all_of_them[image].tobytes()


PROMISED = trials(["direct", "winograd"])


@settings(max_examples=6)
@given(trial=PROMISED)
def test_an_image_alone(way, trial):
    check_alone(way, trial)


@pytest.mark.soak
@settings(max_examples=-(-CASES // len(WAYS) // 8), derandomize=False, print_blob=True)
@given(trial=PROMISED)
def test_many_images_alone(way, trial):
    check_alone(way, trial)
