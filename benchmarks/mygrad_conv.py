"""mygrad's conv_nd, and cyconv's conv in its place: `python -m benchmarks.mygrad_conv`.

One step is what a user of mygrad does: make the graph, convolve, and go back to x and w.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import mygrad
import numpy as np
from mygrad.nnet import conv_nd

import cyconv
from cyconv.interop.mygrad import conv

from .layers import BY_NAME, Arrays, Layer, make_arrays
from .machine import warn_of_overrides
from .peers.base import Run
from .reference import relative_error
from .timing import Effort, compare, geomean

# What mygrad does in seconds, not minutes, and whose strides come out even.
LAYERS = ["lenet1", "cifar", "r50_56_1x1a", "r50_14_3x3", "r50_7_3x3"]
BATCH = 8
EFFORT = Effort(rounds=3, most=5, block=0.2, budget=10)


def main() -> None:
    warn_of_overrides()
    print(f"{cyconv.get_num_threads()} threads, {BATCH} images, float32; ms a step\n")
    print("| layer | mygrad conv_nd | cyconv | times |\n|---|--:|--:|--:|")
    ratios = []
    for name in LAYERS:
        mine, theirs = measure(BY_NAME[name].batch(BATCH))
        ratios.append(theirs / mine)
        print(f"| {name} | {theirs * 1e3:.1f} | {mine * 1e3:.2f} | {ratios[-1]:.0f} |", flush=True)
    print(f"| **geometric mean** | | | **{geomean(ratios):.0f}** |")


def measure(layer: Layer) -> tuple[float, float]:
    """Seconds a step, by cyconv and by mygrad's own."""
    arrays = make_arrays(layer)
    steps = {
        "cyconv": partial(step, conv, layer, arrays),
        "mygrad": partial(step, conv_nd, layer, arrays),
    }
    for ours, theirs in zip(steps["cyconv"](), steps["mygrad"](), strict=True):
        assert relative_error(ours, theirs.astype(np.float64)) < 1e-4, layer
    found = compare({name: Run(call) for name, call in steps.items()}, "cyconv", EFFORT)
    return found["cyconv"].seconds, found["mygrad"].seconds


def step(function: Callable[..., Any], layer: Layer, arrays: Arrays) -> tuple[np.ndarray, ...]:
    """Forward and backward: y, and the gradients of x and w."""
    x, w = mygrad.tensor(arrays.x, copy=False), mygrad.tensor(arrays.w, copy=False)
    y = function(x, w, stride=layer.stride, padding=layer.padding)
    y.backward(arrays.dy)
    return y.data, x.grad, w.grad


if __name__ == "__main__":
    main()
