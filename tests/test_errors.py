"""Integers, sequences and names that are right or nearly so; the rest is in test_bad_input.py."""

from fractions import Fraction

import numpy as np
import pytest
from calls import CROOKED, NAMES, PLAIN, assert_raises, calls

CONVOLUTIONS = ["conv", "conv_input_grad", "conv_weight_grad", "conv_forward", "conv_backward"]
# What is an integer or one integer an axis, with the smallest value it may have.
PER_AXIS = [
    (name, option, least)
    for name in NAMES
    for option, least in [("stride", 1), ("padding", 0), ("dilation", 1), ("kernel_size", 1)]
    if option in calls()[name].options
]
SCALARS = [*PER_AXIS, *((name, "groups", 1) for name in CONVOLUTIONS)]
SHAPES = [("conv_input_grad", "x_shape"), ("conv_weight_grad", "w_shape"), ("col2im", "x_size")]


class Index:
    """An integer by its __index__, and by nothing else."""

    def __init__(self, value):
        self.value = value

    def __index__(self):
        return self.value


@pytest.mark.parametrize("like", [float, np.float64, Fraction, bool, np.bool_, complex, bytes])
@pytest.mark.parametrize(("name", "option", "least"), SCALARS)
def test_equal_to_an_integer_that_was_right(name, option, least, like):
    """1.0 == 1 == True, with equal hashes: a cache must not take the one for the other."""
    call = calls(PLAIN)[name]
    wanted = call.results(**{option: least})
    assert_raises(TypeError, call, **{option: like(least)})
    if option != "groups":
        call(**{option: (least, least)})
        assert_raises(TypeError, call, **{option: (least, like(least))})
    for got, result in zip(call.results(**{option: least}), wanted, strict=True):
        np.testing.assert_array_equal(got, result)


@pytest.mark.parametrize("like", [float, np.float64, Fraction, str])
@pytest.mark.parametrize(("name", "option"), SHAPES)
def test_shapes_equal_to_one_that_was_right(name, option, like):
    call = calls()[name]
    shape = call.options[option]
    call()
    for axis in range(len(shape)):
        wrong = [*shape]
        wrong[axis] = like(shape[axis])
        assert_raises(TypeError, call, **{option: tuple(wrong)})


@pytest.mark.parametrize("like", [np.int64, np.uint8, np.array, Index])
@pytest.mark.parametrize(("name", "option", "least"), SCALARS)
def test_anything_with_an_index_is_an_integer(name, option, least, like):
    call = calls(PLAIN)[name]
    results = call.results(**{option: like(least)})
    for got, wanted in zip(results, call.results(), strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("like", [list, np.array, lambda value: [*map(np.int64, value)]])
@pytest.mark.parametrize("name", NAMES)
def test_sequences_of_integers(name, like):
    call = calls()[name]
    changes = {
        option: like(value)
        for option, value in call.options.items()
        if isinstance(value, tuple) and not isinstance(value[0], tuple)
    }
    for got, wanted in zip(call.results(**changes), call.results(), strict=True):
        np.testing.assert_array_equal(got, wanted)
    padding = [list(map(Index, pair)) for pair in call.options["padding"]]
    for got, wanted in zip(call.results(padding=padding), call.results(), strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_algorithm(name):
    call = calls()[name]
    for known in ("auto", "gemm"):
        call(algorithm=known)
    for unknown in ("magic", "", "GEMM"):
        assert_raises(ValueError, call, repr(unknown), algorithm=unknown)
    for wrong in (None, 1, b"gemm", ["gemm"]):
        assert_raises(TypeError, call, algorithm=wrong)


@pytest.mark.parametrize("option", ["output_padding", "kernel"])
@pytest.mark.parametrize("name", NAMES)
def test_options_that_do_not_exist(name, option):
    with pytest.raises(TypeError, match=option):
        calls()[name](**{option: "zeros"})


@pytest.mark.parametrize("option", ["padding_mode", "data_format"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_choices(name, option):
    call = calls()[name]
    known = {"padding_mode": "zeros", "data_format": "channels_first"}[option]
    call(**{option: known})
    for unknown in ("magic", "", known.upper()):
        assert_raises(ValueError, call, repr(unknown), repr(known), **{option: unknown})
    for wrong in (None, 1, known.encode(), [known]):
        assert_raises(TypeError, call, **{option: wrong})


@pytest.mark.parametrize("name", NAMES)
def test_causal_is_for_one_axis(name):
    assert_raises(ValueError, calls()[name], "'causal'", 2, padding="causal")


@pytest.mark.parametrize("name", NAMES)
def test_a_call_that_fails_spoils_nothing(name):
    call = calls(CROOKED)[name]
    wanted = call.results()
    for changes in ({"stride": 0}, {"padding": -1}, {"dilation": 1.0}, {"stride": (2.0, 1)}):
        with pytest.raises((TypeError, ValueError)):
            call(**changes)
    for got, result in zip(call.results(), wanted, strict=True):
        np.testing.assert_array_equal(got, result)
