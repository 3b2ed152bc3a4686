"""Every public function with valid arguments, for tables of tests that vary one of them."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from strategies import Case

import cyconv

# Non-square, asymmetric, strided, dilated and grouped: nothing agrees by accident.
CROOKED = Case((2, 4, 6, 7), (6, 2, 3, 2), (2, 1), ((1, 0), (2, 1)), (1, 2), groups=2)
# Every option is the plain int 1 or 0, and so is every size of the kernel.
PLAIN = Case((2, 4, 6, 7), (6, 4, 1, 1))


@dataclass(frozen=True)
class Call:
    """A function, and arguments that it takes."""

    function: Callable[..., Any]
    arrays: dict[str, np.ndarray]
    options: dict[str, Any]

    def __call__(self, **changes):
        return self.function(**{**self.arrays, **self.options, **changes})

    def results(self, **changes):
        """The arrays that come back, always as a list."""
        results = self(**changes)
        return list(results) if isinstance(results, tuple) else [results]


def calls(case=CROOKED, dtype=np.float64) -> dict[str, Call]:
    """Each function of the public face, called for one case."""
    x, w, b, dy = case.arrays(dtype)
    n, c = case.x_shape[:2]
    taps, positions = np.prod(case.kernel), np.prod(case.output)
    cols = np.random.default_rng(1).standard_normal((n, c * taps, positions)).astype(dtype)
    x_size, kernel = case.x_shape[2:], case.kernel
    lowering = {"kernel_size": kernel, **case.geometry}
    return {
        "conv": Call(cyconv.conv, {"x": x, "w": w, "b": b}, case.options),
        "conv_input_grad": Call(
            cyconv.conv_input_grad, {"dy": dy, "w": w}, {"x_shape": x.shape, **case.options}
        ),
        "conv_weight_grad": Call(
            cyconv.conv_weight_grad, {"dy": dy, "x": x}, {"w_shape": w.shape, **case.options}
        ),
        "conv_forward": Call(forward, {"X": x, "W": w, "b": b}, case.options),
        "conv_backward": Call(backward, {"dout": dy, "X": x, "W": w, "b": b}, case.options),
        "im2col": Call(cyconv.im2col, {"x": x}, lowering),
        "col2im": Call(cyconv.col2im, {"cols": cols}, {"x_size": x_size, **lowering}),
    }


def forward(X, W, b, **options):
    return cyconv.conv_forward(X, W, b, **options)[0]


def backward(dout, X, W, b, **options):
    return cyconv.conv_backward(dout, cyconv.conv_forward(X, W, b, **options)[1])


NAMES = list(calls())
ARGUMENTS = [(name, argument) for name, call in calls().items() for argument in call.arrays]


def spoken(argument):
    """A pattern of its name. The tutorial's functions may call X, W and dout as the others do."""
    other = {"X": "x", "W": "w", "dout": "dy"}.get(argument, argument)
    return rf"\b({argument}|{other})\b"


def assert_plain(result, dtype):
    """A new array as NumPy makes them, of this dtype."""
    assert type(result) is np.ndarray
    assert result.dtype == dtype
    assert result.dtype.isnative
    assert result.flags.c_contiguous
    assert result.flags.writeable
    assert result.flags.aligned


def assert_raises(error, call, *numbers, **changes):
    """The changed call fails; the message has the name of its first argument, and the numbers."""
    with pytest.raises(error, match=spoken(next(iter(changes)))) as caught:
        call(**changes)
    assert type(caught.value) is error
    message = str(caught.value)
    for number in numbers:
        assert re.search(rf"(?<!\d){re.escape(str(number))}(?!\d)", message), message
