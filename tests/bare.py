"""The kernels of an installed wheel by themselves: `python bare.py`, with nothing else installed.

For processors that NumPy has no wheels for. Each build is loaded, and makes the columns of a small
image, and the convolution of it in place, as plain loops do; all numbers are small integers, so
each result is exact.
"""

import importlib.machinery
import importlib.util
import itertools
import math
from pathlib import Path

# An image of 2 x 3 x 6 x 7, 5 filters of 3 x 3, one cell of padding.
N, C, H, W, F = 2, 3, 6, 7, 5
TAPS = list(itertools.product(range(C), range(3), range(3)))
PLACES = list(itertools.product(range(N), range(H), range(W)))
# For each axis: size, kernel, stride, dilation, padding before, output.
AXES = [1, 1, 1, 1, 0, 1, H, 3, 1, 1, 1, H, W, 3, 1, 1, 1, W]
# In w, from a filter, channel, group, and tap along each axis to the next, and the first tap.
STEPS = [9 * C, 9, 9 * C * F, 0, 9, 3, 1]
# All of an image each: image, group, box of the output, filters.
TASKS = [0, 0, 0, 1, 0, H, 0, W, 0, F, 1, 0, 0, 1, 0, H, 0, W, 0, F]


def array(code, shape, items=None):
    """Memory of that type and shape, as NumPy's arrays are."""
    count = math.prod(shape)
    flat = memoryview(bytearray(count * memoryview(b"").cast(code).itemsize)).cast(code)
    for i in range(count if items else 0):
        flat[i] = items[i]
    return flat.cast("B").cast(code, shape)


def items(view):
    return view.cast("B").cast(view.format).tolist()


def check(kernels, code):
    x = [i * 7 % 11 - 5 for i in range(N * C * H * W)]
    w = [i * 5 % 7 - 3 for i in range(F * len(TAPS))]
    b = list(range(F))

    def cell(tap, place):
        (c, i, j), (n, h, v) = tap, place
        row, column = h + i - 1, v + j - 1
        inside = 0 <= row < H and 0 <= column < W
        return x[((n * C + c) * H + row) * W + column] if inside else 0

    image, axes = array(code, [N, C, 1, H, W], x), array("l", [3, 6], AXES)
    columns = [[cell(tap, place) for place in PLACES] for tap in TAPS]
    if hasattr(kernels, "im2col"):
        cols = array(code, [len(TAPS), len(PLACES)])
        kernels.im2col(image, cols, axes)
        assert cols.tolist() == columns
    steps, tasks = array("l", [7], STEPS), array("l", [2, 10], TASKS)
    memory = kernels.direct_memory(axes, tasks, C, F, image.itemsize)
    y, taken, scratch = array(code, [N, F, 1, H, W]), array("q", [1]), array(code, [memory])
    filters, bias = array(code, [len(w)], w), array(code, [F], b)
    kernels.direct(image, filters, bias, y, axes, steps, 1, C, tasks, taken, scratch)
    assert items(y) == [
        b[f] + sum(w[f * len(TAPS) + k] * columns[k][p] for k in range(len(TAPS)))
        for n in range(N)
        for f in range(F)
        for p in range(n * H * W, (n + 1) * H * W)
    ]


def main():
    (package,) = importlib.util.find_spec("cyconv").submodule_search_locations
    suffixes = tuple(importlib.machinery.EXTENSION_SUFFIXES)
    found = [p for p in Path(package, "kernels").iterdir() if p.name.endswith(suffixes)]
    assert found, "no compiled kernels are installed"
    found.sort(key=lambda path: "_portable" not in path.name)  # it knows what the processor has
    level = 0
    for path in found:
        name = path.name.partition(".")[0]
        if {"_avx2": 1, "_avx512": 2}.get(name, 0) > level:
            print(name, "needs another processor")
            continue
        spec = importlib.util.spec_from_file_location(f"cyconv.kernels.{name}", path)
        kernels = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(kernels)
        if name == "_portable":
            level = kernels.vector_level()
        for code in "fd":
            check(kernels, code)
        print(name, "passed")


if __name__ == "__main__":
    main()
