"""Kernels called directly: within protected memory, and with arguments that are wrong.

Compiled kernels have no bounds checks, so each checks what would lead it out of its arrays.
"""

import importlib
import time

import numpy as np
import pytest
from builds import DTYPES, each_build, each_compiled, each_dtype, kernels_of
from guards import can_protect, in_another_process, protected
from kernel_calls import half_calls, kernel_calls, others

# No call takes longer, refused or not (seconds of this process).
PATIENCE = 1.0
PAIRS = 150
REFUSALS = (TypeError, ValueError, MemoryError)


def every_call(build, dtype):
    """Each kernel of a build; those that do not depend on dtype come along."""
    module = importlib.import_module(f"cyconv.kernels.{'' if build == 'fallback' else '_'}{build}")
    calls = kernel_calls(kernels_of(build), dtype, whole=build != "fallback")
    return calls | half_calls(module)


def is_real(value):
    """Or the bits of a float16."""
    return isinstance(value, np.ndarray) and value.dtype.kind in "fu"


def next_to_pages(value):
    """A copy of an array that lies as they usually do, also of an empty one."""
    if is_real(value) and value.dtype.isnative and value.flags.c_contiguous:
        return protected(value, value.dtype)
    return value


def within_pages(call, start):
    """A copy of its arguments, next to memory that crashes whoever touches it."""
    return {
        name: protected(value, value.dtype, start) if is_real(value) and value.size else value
        for name, value in call.arguments.items()
    }


@each_dtype
@each_build
def test_all_of_each_result_is_filled(build, dtype):
    """In the fallback as well. (There is no Whole there.)"""
    calls = every_call(build, dtype)
    assert len(calls) == (24 if build == "fallback" else 26) + ("depthwise_spread" in calls)
    assert ("depthwise_spread" in calls) == (build in ("fallback", "avx2", "avx512"))
    for call in calls.values():
        call()
        for name in call.results:
            assert not np.isnan(call.arguments[name]).any()


def check_within_pages(build, dtype):
    for name, call in every_call(build, dtype).items():
        print(name, flush=True)
        call()
        for start in (False, True):
            arguments = within_pages(call, start)
            for result in call.results:
                arguments[result][...] = 0 if name in ("col2im", "float_to_half") else np.nan
            call(**arguments)
            for result in call.results:
                np.testing.assert_array_equal(arguments[result], call.arguments[result])


def changes_of(call):
    """Each argument by itself changed in each way; then some pairs of them."""
    single = [
        {name: next_to_pages(other)}
        for name, value in call.arguments.items()
        for other in others(name, value)
    ]
    yield from single
    rng = np.random.default_rng(0)
    for _ in range(PAIRS):
        first, second = (single[i] for i in rng.integers(len(single), size=2))
        huge = (np.size(value) > 2**30 for value in (*first.values(), *second.values()))
        if first.keys() != second.keys() and sum(huge) < 2:  # two that fit would be work for years
            yield first | second


def check_wrong_arguments(build, dtype):
    refused = done = 0
    for name, call in every_call(build, dtype).items():
        arguments = within_pages(call, start=False)
        for change in changes_of(call):
            print(name, *change, flush=True)
            begin = time.process_time()
            try:
                call(**{**arguments, **change})
            except REFUSALS:
                refused += 1
            else:
                done += 1
            assert time.process_time() - begin < PATIENCE
    print(refused, "refused,", done, "done")
    assert refused > 5 * done


def check_build(build):
    for each in DTYPES:
        check_within_pages(build, each)
    check_wrong_arguments(build, DTYPES[0])  # checks are the same for each dtype


@can_protect
@each_compiled
def test_nothing_is_touched_outside_of_arrays(build):
    """Whatever the arguments: what is not refused, as a larger pad need not be, is computed."""
    in_another_process("test_kernel_arguments", "check_build", build)


@each_compiled
def test_cells_are_whole_items_apart(build):
    """In a field of packed records they are not."""
    packed = np.zeros((6, 8), [("cell", np.float32), ("mark", np.int8)])["cell"]
    with pytest.raises(ValueError, match=r"^(a|the cells of a) must be"):
        kernels_of(build).turn(packed, np.zeros((8, 6), np.float32))


@each_compiled
def test_arrays_are_of_one_type(build):
    for a, to in ((np.float32, np.float64), (np.float64, np.float32)):
        with pytest.raises(ValueError, match=r"to must have items of [48] bytes"):
            kernels_of(build).turn(np.zeros((6, 8), a), np.zeros((8, 6), to))


@each_compiled
def test_arrays_have_as_many_axes_as_they_should(build):
    to = np.zeros((8, 6), np.float32)
    for a in (np.zeros(48, np.float32), np.zeros((6, 8, 1), np.float32)):
        with pytest.raises(ValueError, match=f"^a must have 2 axes, got {a.ndim}$"):
            kernels_of(build).turn(a, to)


@each_compiled
def test_tables_are_of_intp(build):
    axes = np.ones((3, 6), np.intp)
    assert kernels_of(build).depthwise_memory(axes, 1, 1, 4) >= 0
    size, other = axes.itemsize, np.int32 if axes.itemsize == 8 else np.int64
    for dtype, said in (
        (other, f"have items of {size} bytes"),
        (np.uintp, "be of signed integers"),
    ):
        with pytest.raises(ValueError, match=f"^axes must {said}"):
            kernels_of(build).depthwise_memory(axes.astype(dtype), 1, 1, 4)


@each_dtype
@each_compiled
def test_arrays_are_let_go(build, dtype):
    """Whether a call is done, or refused when it has taken hold of all but the last."""
    for call in every_call(build, dtype).values():
        arrays = [name for name, a in call.arguments.items() if isinstance(a, np.ndarray)]
        views = {name: memoryview(call.arguments[name]) for name in arrays}
        call(**views)
        with pytest.raises(REFUSALS):
            call(**{**views, arrays[-1]: bytearray()})
        for view in views.values():
            view.release()  # or else it would be a BufferError
