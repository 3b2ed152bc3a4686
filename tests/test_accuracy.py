"""What docs/accuracy.md promises of float32 and of bits."""

import hashlib
import itertools
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import reference
from strategies import Case

import cyconv
from cyconv.algorithms import depthwise, direct, winograd
from cyconv.geometry import geometry
from cyconv.plan import plan

BOUND = {np.float32: 5e-6, np.float64: 1e-14}  # of the largest value

# Long sums of each kind: over channels, over positions, over images.
CASES = {
    "winograd": Case((2, 256, 16, 16), (64, 256, 3, 3), padding=1),
    "winograd, by filters": Case((1, 512, 12, 13), (64, 512, 3, 3), padding=1),
    "direct": Case((1, 512, 9, 9), (16, 512, 5, 5)),
    "first layer": Case((1, 3, 112, 112), (16, 3, 7, 7), 2, 3),
    "pointwise": Case((1, 1024, 14, 14), (32, 1024, 1, 1)),
    "depthwise": Case((2, 4, 80, 80), (4, 1, 3, 3), 1, 1, groups=4),
    "groups": Case((2, 32, 28, 28), (32, 8, 3, 3), 1, 1, groups=4),
    "line": Case((1, 4, 60_000), (8, 4, 5), padding=2),
    "many images": Case((400, 3, 8, 8), (12, 3, 3, 3)),
}
LARGE = {
    **{
        f"{c} channels": Case((2, c, size, size), (c, c, 3, 3), padding=1)
        for c, size in ((16, 224), (32, 112), (64, 56), (128, 28), (256, 14), (512, 14))
    },
    "1024 channels": Case((1, 1024, 14, 14), (256, 1024, 3, 3), padding=1),
    "2048 channels": Case((1, 2048, 14, 14), (256, 2048, 3, 3), padding=1),
    "2048 filters": Case((1, 256, 14, 14), (2048, 256, 3, 3), padding=1),
    "256 channels, few filters": Case((6, 256, 16, 16), (16, 256, 3, 3), padding=1),
    "5x5": Case((1, 1024, 14, 14), (64, 1024, 5, 5), padding=2),
    "pointwise": Case((4, 2048, 14, 14), (512, 2048, 1, 1)),
    "first layer": Case((8, 3, 224, 224), (64, 3, 7, 7), 2, 3),
    "first layer, 3x3": Case((8, 3, 224, 224), (64, 3, 3, 3), padding=1),
    "11x11": Case((8, 3, 227, 227), (96, 3, 11, 11), 4),
    "depthwise": Case((8, 32, 224, 224), (32, 1, 3, 3), 1, 1, groups=32),
    "groups": Case((8, 128, 56, 56), (128, 4, 3, 3), 1, 1, groups=32),
    "line": Case((2, 8, 400_000), (16, 8, 9), padding=4),
    "depthwise line": Case((2, 8, 400_000), (8, 1, 9), padding=4, groups=8),
    "volume": Case((2, 16, 40, 40, 40), (16, 16, 3, 3, 3), padding=1),
}


def normal(case, dtype=np.float32):
    return case.arrays(dtype)


def positive(case, dtype=np.float32):
    """Nothing cancels, so that partial sums grow as long as the sum does."""
    rng = np.random.default_rng(case.seed)
    return [rng.random(shape).astype(dtype) for shape in case.shapes]


def errors_of(case, arrays, **options):
    """Of y, dx and dw, relative to their largest value."""
    x, w, b, dy = arrays
    for name, arguments in (
        ("conv", (x, w, b)),
        ("conv_input_grad", (dy, w, x.shape)),
        ("conv_weight_grad", (dy, x, w.shape)),
    ):
        got = getattr(cyconv, name)(*arguments, **case.options, **options)
        wanted = getattr(reference, name)(*arguments, **case.options)
        yield name, abs(got - wanted).max() / abs(wanted).max()


@pytest.mark.parametrize("case", CASES)
def test_error_of_auto(case):
    """Of values that cancel and that do not, and in float64 as well."""
    case = CASES[case]
    for values, dtype in ((normal, np.float32), (positive, np.float32), (normal, np.float64)):
        for name, error in errors_of(case, values(case, dtype)):
            assert error <= BOUND[dtype], (name, values.__name__, dtype)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("values", [normal, positive])
@pytest.mark.parametrize("case", LARGE)
def test_float32_error_of_auto_on_large_layers(case, values, seed):
    case = replace(LARGE[case], seed=seed)
    for name, error in errors_of(case, values(case)):
        assert error <= BOUND[np.float32], name


@pytest.mark.parametrize("channels", [30, 256, 512])
def test_channels_that_repeat_each_other(channels):
    """Then their rounding errors do too, and add up: a bound of its own, for Winograd."""
    rng = np.random.default_rng(channels)
    for size, padding, algorithm in itertools.product(
        (1, 2, 6), (1, 2), ("gemm", "direct", "winograd")
    ):
        x = np.repeat(rng.integers(1, 9, (8, 1, size, size)), channels, 1).astype(np.float32)
        w = np.repeat(rng.integers(-8, 9, (8, 1, 3, 3)), channels, 1).astype(np.float32)
        y = cyconv.conv(x, w, padding=padding, algorithm=algorithm)
        wanted = reference.conv(x.astype(float), w.astype(float), padding=padding)
        magnitudes = reference.conv(abs(x).astype(float), abs(w).astype(float), padding=padding)
        bound = 6e-5 if algorithm == "winograd" else 5e-6
        assert abs(y - wanted).max() <= bound * magnitudes.max()


def test_the_cases_are_of_each_algorithm():
    """On the fast road, that is."""
    found = set()
    for case in CASES.values():
        g = geometry(case.x_shape, case.w_shape, case.stride, case.padding, 1, case.groups)
        for pass_ in ("forward", "input_grad", "weight_grad"):
            found.add(plan(g, np.dtype(np.float32), pass_, "auto").algorithm)
    if cyconv.kernels.VECTOR:
        assert {winograd, direct, depthwise} <= found


def bits():
    """Of all passes, by several algorithms."""
    digest = hashlib.sha256()
    for name in ("winograd", "direct", "groups"):
        case = CASES[name]
        x, w, b, dy = case.arrays(np.float32)
        for algorithm in ("auto", "gemm"):
            options = {**case.options, "algorithm": algorithm}
            digest.update(cyconv.conv(x, w, b, **options))
            digest.update(cyconv.conv_input_grad(dy, w, x.shape, **options))
            digest.update(cyconv.conv_weight_grad(dy, x, w.shape, **options))
    return digest.hexdigest()


def test_the_same_bits_in_another_process():
    """With another number of threads, and memory elsewhere."""
    program = f"import sys; sys.path[:] = {sys.path!r}; import test_accuracy as t, cyconv; "
    program += "cyconv.set_num_threads(8); print(t.bits())"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == bits()
