"""Every argument of every public function and layer, with all that can be wrong with it.

Each call raises ValueError or TypeError with the name of the argument, in milliseconds, before
anything large is allocated, and leaves all arrays as they were. What shapes fit is said by a
definition in a few lines (subjects.py); a call with others that do must succeed.
"""

import contextlib
import dataclasses
import gc
import re
import time
import tracemalloc

import bad_values
import numpy as np
import pytest
from calls import spoken
from subjects import subjects

# What a call that is refused may take: of this process, and of its memory.
SECONDS, BYTES = 0.05, 100_000
# Shapes of more cells than this are only refused, not computed with.
CELLS = 2**16
SUBJECTS = subjects()
OPTIONAL = ("b",)
# What a message may speak of where two arguments do not fit each other, and nobody knows which of
# them is wrong.
ALSO = {"x", "w", "stride", "padding", "dilation", "groups", "kernel_size", "weight"}


@pytest.fixture(autouse=True)
def measured():
    """Memory is traced, and none is collected in between, which takes its time."""
    gc.disable()
    tracemalloc.start()
    yield
    tracemalloc.stop()
    gc.enable()


def held(value):
    """What an array holds, if it is not one cell that says it is more."""
    if isinstance(value, np.ndarray) and value.size <= CELLS and not value.dtype.hasobject:
        return value.tobytes()
    return None


def assert_refused(subject, error, names, **changes):
    ((name, value),) = changes.items()
    tracemalloc.reset_peak()
    start, begin = tracemalloc.get_traced_memory()[0], time.process_time()
    try:
        subject(**changes)
    except Exception as found:
        caught = found
    else:
        pytest.fail(f"{name} = {value!r:.300} was taken")
    seconds, peak = time.process_time() - begin, tracemalloc.get_traced_memory()[1]
    message = str(caught)
    holds = {
        "is a " + error.__name__: type(caught) is error,
        "names it": any(re.search(spoken(other), message) for other in names),
        "shows it": not is_short(value, error) or name == "out" or repr(value) in message,
        "takes no memory": peak - start < BYTES,
        "takes no time": seconds < SECONDS,
    }
    if not all(holds.values()):
        pytest.fail(f"{name} = {value!r:.300}: {caught!r}, {holds}")


def is_short(value, error):
    return type(value) in (int, bool, float) or (type(value) is str and error is ValueError)


@contextlib.contextmanager
def nothing_changes(subject, values):
    arrays = [*subject.arguments.values(), *values, *subject.watched]
    before = [held(array) for array in arrays]
    yield
    assert [held(array) for array in arrays] == before


EACH = [(name, argument) for name, subject in SUBJECTS.items() for argument in subject.wrong]


@pytest.mark.parametrize(("name", "argument"), EACH)
def test_wrong_values(name, argument):
    subject = SUBJECTS[name]
    subject()
    with nothing_changes(subject, [value for value, _ in subject.wrong[argument]]):
        for value, error in subject.wrong[argument]:
            assert_refused(subject, error, {argument}, **{argument: value})


ARRAYS = [(name, argument) for name, subject in SUBJECTS.items() for argument in subject.arrays]


@pytest.mark.parametrize(("name", "argument"), ARRAYS)
def test_wrong_arrays(name, argument):
    """What is no array, has another dtype, or another shape."""
    subject = SUBJECTS[name]
    right = {
        other: value.shape if isinstance(value, np.ndarray) else value
        for other, value in subject.arguments.items()
        if other in subject.arrays
    }
    array = subject.arguments[argument]
    with nothing_changes(subject, ()):
        if is_array := isinstance(array, np.ndarray):
            for value, error in (*bad_values.array(), *bad_values.dtypes(array)):
                if value is not None or argument not in OPTIONAL:
                    assert_refused(subject, error, {argument}, **{argument: value})
        for shape in bad_values.shapes(right[argument]):
            value = np.broadcast_to(0.0, shape) if is_array else shape
            if not subject.fits({**right, argument: shape}):
                assert_refused(subject, ValueError, ALSO | right.keys(), **{argument: value})
            elif np.prod(shape, dtype=float) < CELLS:
                subject(**{argument: value})


@pytest.mark.parametrize("name", [name for name, argument in EACH if argument == "out"])
def test_out_shares_its_last_cell_with_an_input(name):
    subject = SUBJECTS[name]
    result = subject()
    for argument in subject.arrays:
        array = subject.arguments[argument]
        if isinstance(array, np.ndarray):
            memory = np.zeros(result.size + array.size)
            out = memory[: result.size].reshape(result.shape)
            inside = memory[result.size - 1 : -1].reshape(array.shape)
            arguments = {**subject.arguments, argument: inside}
            sharing = dataclasses.replace(subject, arguments=arguments)
            with nothing_changes(sharing, [memory]):
                assert_refused(sharing, ValueError, {"out"}, out=out)
            sharing(out=out.copy())
