"""float16 to float32 and back: the kernels of each build, and the copies that use them."""

import importlib

import numpy as np
import pytest
from builds import each_build, each_compiled, refused
from guards import (
    apart,
    assert_untouched,
    can_protect,
    in_another_process,
    output,
    packed,
    protected,
    spread,
)

from cyconv import layout
from cyconv.kernels import fallback

HALVES = np.arange(65536, dtype=np.uint16).view(np.float16)


def module_of(build):
    return fallback if build == "fallback" else importlib.import_module(f"cyconv.kernels._{build}")


def widen(build, halves, cells):
    with np.errstate(invalid="ignore"):  # of the fallback: signalling NaNs
        module_of(build).half_to_float(halves.view(np.uint16), cells)


def narrow(build, cells, halves):
    with np.errstate(over="ignore", invalid="ignore"):  # of the fallback
        module_of(build).float_to_half(cells, halves.view(np.uint16))


def assert_same(got, wanted):
    """To the bit, but that any NaN will do."""
    assert got.dtype == wanted.dtype
    np.testing.assert_array_equal(got, wanted)
    numbers = ~np.isnan(wanted)
    np.testing.assert_array_equal(np.signbit(got)[numbers], np.signbit(wanted)[numbers])


def row(array):
    return array.reshape(1, 1, 1, 1, -1)


@each_build
def test_all_halves(build):
    cells = output((1, 1, 1, 1, HALVES.size), np.float32)
    widen(build, row(HALVES), cells)
    with np.errstate(invalid="ignore"):  # of signalling NaNs
        assert_same(cells, row(HALVES.astype(np.float32)))
    back = output(cells.shape, np.float16)
    narrow(build, cells, back)
    assert_same(back, row(HALVES))


def rounding_cases():
    """Every number that is a half or lies in the middle of two, and the floats on both sides of it;
    what is too large or too small; and any bits."""
    exact = np.unique(HALVES[np.isfinite(HALVES)].astype(np.float64))
    far = [0, 65519.99, 65520, 65536, 1e30, 2.0**-25, 2.0**-26, 1e-40, 1e-45, np.inf, np.nan]
    edges = np.concatenate([exact, (exact[1:] + exact[:-1]) / 2, far, np.negative(far)])
    edges = edges.astype(np.float32)
    up, down = (np.nextafter(edges, np.float32(end)) for end in (np.inf, -np.inf))
    rng = np.random.default_rng(5)
    return np.concatenate([edges, up, down, rng.integers(0, 2**32, 99_991, np.uint32).view("f4")])


@each_build
def test_rounding(build):
    cells = rounding_cases()
    halves = output((1, 1, 1, 1, cells.size), np.float16)
    narrow(build, row(cells), halves)
    with np.errstate(over="ignore", invalid="ignore"):
        assert_same(halves, row(cells.astype(np.float16)))


@each_build
def test_any_rows(build, rng):
    """Of any length, which end where they end; in arrays of which only they are contiguous."""
    for length in range(36):
        halves = rng.standard_normal((2, 1, 2, 3, length)).astype(np.float16)
        cells = halves.astype(np.float32)
        for arrange in (packed, apart, spread):
            wide, narrowed = output(cells.shape, "f4", arrange), output(cells.shape, "f2", arrange)
            widen(build, arrange(halves), wide)
            narrow(build, arrange(cells), narrowed)
            assert_same(wide, cells)
            assert_same(narrowed, halves)
            assert_untouched(wide)
            assert_untouched(narrowed)


def check_nothing_outside(build):
    for length in range(1, 36):
        for start in (False, True):
            halves = protected(row(np.full(length, 1.5)), np.float16, start)
            cells = protected(row(np.zeros(length)), np.float32, start)
            widen(build, halves, cells)
            assert (cells == 1.5).all()
            halves[...] = 0
            narrow(build, cells, halves)
            assert (halves == 1.5).all()


@can_protect
@each_compiled
def test_nothing_is_touched_outside_of_arrays(build):
    in_another_process("test_half", "check_nothing_outside", build)


@each_compiled
def test_shapes_are_checked(build):
    """Cheap checks, in compiled code: a wrong call must not reach foreign memory."""
    halves, cells = np.ones((2, 3, 1, 4, 5), np.float16), np.ones((2, 3, 1, 4, 5), np.float32)
    for cut in (np.s_[:1], np.s_[:, :2], np.s_[:, :, :, :3], np.s_[..., :4], np.s_[..., ::-1]):
        for wrong in (halves[cut], cells), (halves, cells[cut]):
            assert refused(widen, build, *wrong)
            assert refused(narrow, build, *wrong[::-1])


ARRANGED = {
    "contiguous": np.array,
    "channels last": lambda a: a.transpose(0, 2, 3, 4, 1).copy().transpose(0, 4, 1, 2, 3),
    "rows": spread,
    "columns apart": lambda a: np.repeat(a, 2, -1)[..., ::2],
    "other byte order": lambda a: a.astype(a.dtype.newbyteorder()),
}


@pytest.mark.parametrize("target", ARRANGED)
@pytest.mark.parametrize("source", ARRANGED)
def test_copies(source, target, rng):
    """However the two lie, in one task and in many."""
    for shape in (2, 3, 1, 5, 7), (3, 40, 2, 31, 33):
        halves = rng.standard_normal(shape).astype(np.float16)
        for dtypes in ("f2", "f4"), ("f4", "f2"), ("f4", "f4"):
            given, wanted = halves.astype(dtypes[0]), halves.astype(dtypes[1])
            got = ARRANGED[target](np.zeros_like(wanted))
            layout.copy(got, ARRANGED[source](given))
            np.testing.assert_array_equal(got, wanted)


def test_an_unaligned_copy(rng):
    halves = rng.standard_normal((1, 2, 1, 3, 9)).astype(np.float16)
    memory = np.zeros(halves.nbytes + 1, np.uint8)
    unaligned = memory[1:].view(np.float16).reshape(halves.shape)
    unaligned[...] = halves
    cells = np.zeros(halves.shape, np.float32)
    layout.copy(cells, unaligned)
    np.testing.assert_array_equal(cells, halves)
