"""Every kernel with valid arguments, and all that can be wrong with each of them."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from fused_work import Fused, wide
from test_direct import Work, as_stored
from test_direct_grad import Grad

from cyconv.geometry import geometry

AS_IS = [1, 1, 1, 1, 0, 1]  # size, kernel, stride, dilation, low pad, output
COUNTERS = ("taken", "progress")
AXES = np.array([AS_IS, [5, 3, 1, 1, 1, 5], [6, 2, 2, 1, 0, 3]], np.intp)


@dataclass(frozen=True)
class KernelCall:
    """A kernel and arguments that it takes, by name and in order; `results` names those that it
    fills, with every cell."""

    kernel: Callable[..., Any]
    arguments: dict[str, Any]
    results: tuple[str, ...] = ()

    def __call__(self, **changes):
        arguments = {**self.arguments, **changes}
        for name in COUNTERS:  # from the start, if not said otherwise
            if name in arguments and arguments[name] is self.arguments[name]:
                arguments[name] = np.zeros_like(arguments[name])
        return self.kernel(*arguments.values())


def kernel_calls(run, dtype, whole=True) -> dict[str, KernelCall]:
    """Each kernel of a build. What is to be filled is NaN."""
    rng = np.random.default_rng(0)
    itemsize = np.dtype(dtype).itemsize

    def some(*shape):
        return rng.standard_normal(shape).astype(dtype)

    def unfilled(*shape):
        return np.full(shape, np.nan, dtype)

    def shared(arguments):
        """Of kernels that threads share: also whether they ring the bell."""
        return {**plain(arguments), "rings": False}

    def plain(arguments):
        """Without the guards around them."""
        return {
            name: array.copy() if isinstance(array, np.ndarray) else array
            for name, array in arguments.items()
        }

    x, dy, b = some(2, 4, 1, 5, 6), some(2, 6, 1, 5, 3), some(6)
    y, w, dw = unfilled(*dy.shape), some(6, 2, 1, 3, 2), unfilled(6, 2, 1, 3, 2)
    work, grad = Work(AXES, 2, 2, 2, 3), Grad(AXES, 2, 2, 2, 3)
    tasks = work.tasks(((), (2,), ()), (1,))
    memory = run.direct_memory(AXES, tasks, 2, 3, itemsize)
    steps = np.array(as_stored(work.w)[1], np.intp)
    pair = [AS_IS, [5, 3, 1, 1, 1, 5], [6, 2, 1, 1, 0, 4]]
    even, odd = np.array(pair, np.intp), np.array([*pair[:2], [6, 1, 1, 1, 0, 3]], np.intp)
    g = geometry((2, 3, 9, 10), (4, 3, 3, 3), 1, 1, 1, 1)  # of 18 tiles
    fused = Fused(2, 3, 4)
    filters = some(4, 3, 1, 3, 3)
    spread = geometry((2, 3, 9, 10), (3, 1, 3, 3), 2, 1, 1, 3)
    deep = Fused(2, 3, 4, (4, 5, 6), depth=2)
    where = {"axes": g.axes(), "first": 6}
    grads = shared(grad.arguments(run, dtype, parts=2, cuts=((), (2,), ()), points=(1,)))
    table = {
        "im2col": ({"x": x, "cols": unfilled(24, 30), "axes": AXES}, ("cols",)),
        "col2im": ({"cols": some(24, 30), "x": np.zeros_like(x), "axes": AXES}, ("x",)),
        "add_bias": ({"a": some(2, 4, 9), "b": some(4), "y": unfilled(2, 4, 9)}, ("y",)),
        "depthwise_forward": (
            {"x": x, "w": w, "b": b, "y": y, "axes": AXES, **shares([0, 1, 0, 2], [1, 2, 0, 2])},
            ("y",),
        ),
        "depthwise_pair": (
            {
                "x": x, "even_w": w, "odd_w": some(6, 2, 1, 3, 1), "y": unfilled(2, 6, 1, 5, 7),
                "even_axes": even, "odd_axes": odd,
            },
            ("y",),
        ),
        "depthwise_spreads": ({"axes": AXES, "itemsize": itemsize}, ()),
        "depthwise_weight_grad": (
            {"dy": dy, "x": x, "dw": dw, "axes": AXES, **shares([0, 2, 0, 1], [0, 2, 1, 2])},
            ("dw",),
        ),
        "sum_middle": (
            {
                "x": some(2, 70, 5), "sums": np.full((2, 5), np.nan),
                **shares([0, 1, 0, 5], [1, 2, 0, 2], [1, 2, 2, 5]),
            },
            ("sums",),
        ),
        "depthwise_memory": (
            {"axes": AXES, "channels": 2, "filters": 3, "itemsize": itemsize, "forward": True}, (),
        ),
        "direct_memory": (
            {"axes": AXES, "tasks": tasks, "channels": 2, "filters": 3, "itemsize": itemsize}, (),
        ),
        "direct": (
            {
                "x": x, "w": w.reshape(-1), "b": b, "y": y, "axes": AXES, "steps": steps,
                "groups": 2, "together": 1, "tasks": tasks, "taken": np.zeros(1, np.longlong),
                "memory": unfilled(memory), "rings": False,
            },
            ("y",),
        ),
        "direct_weight_grad": (grads, ("dw",)),
        "turn": ({"a": some(5, 19), "to": unfilled(19, 5)}, ("to",)),
        "winograd_input": (
            {"x": some(*g.x_shape), "u": unfilled(36, 12, 16), **where, "tap": 0}, ("u",),
        ),
        "winograd_output_grad": (
            {"dy": some(*g.y_shape), "d": unfilled(36, 12, 16), **where}, ("d",),
        ),
        "winograd_output": (
            {"m": some(36, 18, 16), "b": some(4), "y": unfilled(*g.y_shape), **where, "first": 0},
            ("y",),
        ),
        "winograd_weight_grad": (
            {"sums": some(36, 4, 16), "dw": unfilled(4, 3, 1, 3, 3), "stride": 1}, ("dw",),
        ),
        "winograd_filters": ({"w": filters, "v": unfilled(36, 3, wide(4)), "stride": 1}, ("v",)),
        "winograd_by_tiles": (shared(fused.by_tiles(dtype)), ("y",)),
        "winograd_by_filters": (shared(deep.by_filters(dtype, panel=16)), ("y",)),
        "winograd_sum_by_tiles": (shared(fused.sum_by_tiles(dtype)), ("dw",)),
        "winograd_sum_by_channels": (shared(deep.sum_by_channels(dtype)), ("dw",)),
    }  # fmt: skip
    if run.depthwise_spreads(spread.axes(), itemsize):
        table["depthwise_spread"] = (
            {
                "dy": some(*spread.y_shape), "w": some(*spread.w_shape),
                "dx": unfilled(*spread.x_shape), "axes": spread.axes(),
                **shares([0, 1, 0, 3], [1, 2, 0, 1], [1, 2, 1, 3]),
            },
            ("dx",),
        )  # fmt: skip
    calls = {name: KernelCall(getattr(run, name), *found) for name, found in table.items()}
    return calls | whole_calls(run, itemsize, some, unfilled) if whole else calls


def shares(*tasks: list[int]) -> dict[str, Any]:
    """All tasks of a table, none of them taken."""
    taken = np.zeros(1, np.longlong)
    return {"tasks": np.array(tasks, np.intp), "taken": taken, "rings": False}


def half_calls(module) -> dict[str, KernelCall]:
    """What does not depend on a dtype."""
    cells = np.linspace(-2, 2, 2 * 3 * 4 * 19, dtype=np.float32).reshape(2, 3, 1, 4, 19)
    halves, bits = cells.astype(np.float16).view(np.uint16), np.zeros(cells.shape, np.uint16)
    widen = {"halves": halves, "cells": np.full(cells.shape, np.nan, np.float32)}
    return {
        "half_to_float": KernelCall(module.half_to_float, widen, ("cells",)),
        "float_to_half": KernelCall(
            module.float_to_half, {"cells": cells, "halves": bits}, ("halves",)
        ),
    }


def whole_calls(run, itemsize, some, unfilled):
    """Those that are made first, then called with their arrays."""
    axes = np.array([AS_IS, [5, 3, 1, 1, 1, 5], [6, 2, 1, 1, 0, 5]], np.intp)
    x, w, b = some(2, 4, 1, 5, 6), some(6, 2, 1, 3, 2), some(6)
    y, dw = unfilled(2, 6, 1, 5, 5), unfilled(*w.shape)
    sizes = {"images": 2, "channels": 4, "filters": 6, "itemsize": itemsize}
    boxes = itertools.product(range(2), range(2), [(0, 1, 0, 5, 0, 5)])
    tasks = np.array([(n, group, *box, 0, 3) for n, group, box in boxes], np.intp)
    shares = np.array([(0, 0, 2), (0, 2, 4)], np.intp)
    by_group = tasks[[0, 2, 1, 3]]
    by_group[:, 9] = 2  # channels, where a forward task has filters
    blocks = np.array([(0, 0, 12), (1, 0, 12)], np.intp)

    def forward(x, w, b, y, *described):
        return run.Whole(*described)((x, w, b), y)

    def weight_grad(dy, x, dw, *described):
        return run.WholeWeightGrad(*described)((dy, x), dw)

    steps = np.array([12, 6, 36, 0, 6, 2, 1], np.intp)
    described = {"axes": axes, "steps": steps, "groups": 2, "together": 1}
    described |= {"tasks": tasks, "weights": w.size}
    summed = {
        "axes": axes, "groups": 2, "tasks": by_group, "shares": shares, "blocks": blocks,
        "columns": 16,
    }  # fmt: skip
    return {
        "Whole": KernelCall(
            forward, {"x": x, "w": w, "b": b, "y": y, **described, **sizes}, ("y",)
        ),
        "WholeWeightGrad": KernelCall(
            weight_grad, {"dy": some(*y.shape), "x": x, "dw": dw, **summed, **sizes}, ("dw",)
        ),
    }


NUMBERS = [-(2**63), -(2**40), -1, 0, 2**31, 2**40, 2**62, 2**63 - 1]


def others(name, value):
    """What may be wrong with an argument. (Counters may say that other threads are at work, for
    whom a kernel then waits, so their values stay.)"""
    if isinstance(value, bool):
        return []
    if isinstance(value, int):
        return [*NUMBERS, value - 1, value + 1, 1.5, None, "1"]
    wrong = [None, 1, value.tolist(), value[:-1], value[:0], value[..., None], value[::-1]]
    wrong += [value.astype(value.dtype.newbyteorder()), np.zeros(value.shape, complex)]
    wrong += [np.zeros(value.shape, np.int16)]
    if value.dtype.kind == "i":
        return wrong if name in COUNTERS else wrong + other_integers(value)
    wrong += [value.astype("f2"), np.asfortranarray(value), value.swapaxes(0, -1)]
    for axis in range(value.ndim if value.size else 0):
        last = value.shape[axis] - 1
        wrong += [np.delete(value, slice(n, None), axis) for n in (0, last)]
        wrong += [np.concatenate([value, value], axis)]
        shape = list(value.shape)
        shape[axis] = 2**40 // (value.size // shape[axis])
        wrong += [np.broadcast_to(value.take([0], axis), shape)]
    return wrong


def other_integers(array):
    wrong = [array[:, :-1].copy(), array.T, array.astype(np.int32)] if array.ndim > 1 else []
    ends = itertools.product(*({0, size - 1} for size in array.shape[:-1]), range(array.shape[-1]))
    for place, number in itertools.product(ends, (*NUMBERS, array.max() + 1)):
        other = array.copy()
        other[place] = number
        wrong.append(other)
    return wrong
