"""Fuzz the compiled kernels with wrong arguments: `make fuzz`.

Each input of libFuzzer is a convolution, and changes to the arguments that its kernels get: a
number in a table, an array's size, order or type. Whatever they get, kernels must refuse it with a
Python error or stay within the arrays; AddressSanitizer watches, since each array is copied to
memory that ends where it ends. A crash or a hang is reported by libFuzzer, with the input that led
to it: `make fuzz FUZZ=crash-...` runs that again.
"""

import sys
from types import SimpleNamespace

import atheris

with atheris.instrument_imports(include=["cyconv"]):
    import cyconv
    from cyconv import bias, kernels, prepare, threads, tiling
    from cyconv.algorithms import depthwise, direct, fused, nonfused
    from cyconv.plan import plan

import numpy as np

REFUSED = (ValueError, TypeError, MemoryError, OverflowError)
NUMBERS = [0, 1, -1, 2, 3, 5, 16, 4096, 2**31 - 1, 2**31, 2**62, 2**63 - 1, -(2**63)]
# Counters that threads share: where they say that others have begun, one waits for those.
COUNTERS = np.dtype(np.longlong).char


def exact(array):
    """A copy with the same strides, in memory that begins and ends with it."""
    reach = [(n - 1) * step for n, step in zip(array.shape, array.strides, strict=True)]
    if not array.size:
        return array.copy()
    low, high = sum(r for r in reach if r < 0), sum(r for r in reach if r > 0)
    memory = np.zeros(high - low + array.itemsize, np.uint8)
    copy = np.ndarray(array.shape, array.dtype, memory, -low, array.strides)
    copy[...] = array
    return copy


def resized(array, axis, size):
    """With another size of an axis, zero where there was nothing."""
    shape = list(array.shape)
    shape[axis] = size
    result = np.zeros(shape, array.dtype)
    part = tuple(slice(0, min(a, b)) for a, b in zip(array.shape, shape, strict=True))
    result[part] = array[part]
    return result


class Changes:
    """Decisions that come from the fuzzer's bytes."""

    def __init__(self, data):
        self.data = data

    def choose(self, options):
        return options[self.data.ConsumeIntInRange(0, len(options) - 1)]

    def number(self, value):
        """Another number: near this one, or far from any."""
        if self.data.ConsumeBool():
            return int(value) + self.data.ConsumeIntInRange(-3, 3)
        return self.choose(NUMBERS)

    def argument(self, value):
        if isinstance(value, np.ndarray):
            return self.array(exact(value))
        if isinstance(value, bool):
            return not value
        if isinstance(value, (int, np.integer)):
            return self.number(value)
        if isinstance(value, tuple):
            return self.arguments(value)
        return self.choose([value, None, 1])

    def array(self, array):
        what = self.data.ConsumeIntInRange(0, 9)
        if what < 6 and array.size and array.dtype.kind == "i":
            index = self.data.ConsumeIntInRange(0, array.size - 1)
            value = self.number(array.flat[index])
            if array.dtype.char != COUNTERS or value < 0:
                array.flat[index] = np.clip(value, -(2**63), 2**63 - 1)
        elif what == 6:
            return self.choose([None, 1, array.astype(np.int8), array[None], array.reshape(-1)])
        elif what == 7 and array.ndim:
            order = self.choose([array.T, array[::-1], array[..., ::-1], np.repeat(array, 2, -1)])
            return exact(order) if self.data.ConsumeBool() else exact(order[..., ::2])
        elif array.ndim:
            axis = self.data.ConsumeIntInRange(0, array.ndim - 1)
            size = array.shape[axis]
            return resized(array, axis, self.choose([0, 1, max(0, size - 1), size + 1, 2 * size]))
        return array

    def arguments(self, arguments):
        """Some of them changed, and the rest copied."""
        changed = [exact(a) if isinstance(a, np.ndarray) else a for a in arguments]
        for _ in range(self.data.ConsumeIntInRange(0, 2)):
            index = self.data.ConsumeIntInRange(0, len(changed) - 1)
            changed[index] = self.argument(changed[index])
        return tuple(changed)


class Probe:
    """A kernel that is first called with changed arguments, then as it should be."""

    def __init__(self, kernel, changes):
        self.kernel, self.changes = kernel, changes

    def __call__(self, *arguments):
        makes = isinstance(self.kernel, type)  # what a small convolution calls in its turn
        if self.changes.data.remaining_bytes():
            try:
                made = self.kernel(*self.changes.arguments(arguments))
                if makes:
                    made(*self.changes.arguments(self.changes.operands))
            except REFUSED:
                pass
        result = self.kernel(*arguments)
        return Probe(result, self.changes) if makes else result


def convolution(data):
    """The shapes of x, w and y of a small one, and options."""
    algorithm = ["auto", "gemm", "direct", "winograd"][data.ConsumeIntInRange(0, 3)]

    def small(most):
        return data.ConsumeIntInRange(1, most)

    rank = 1 + small(2) if algorithm == "winograd" else small(3)
    groups = 1 if algorithm == "winograd" else small(4)
    axes = [(small(3), small(3), small(2)) for _ in range(rank)]
    if algorithm == "winograd":
        plane = [(3, 1, 1), (4, 1, 1), (3, 2, 1)][small(3) - 1]
        axes = [*((k, 1, d) for k, _, d in axes[:-2]), plane, plane]
    pads = [(small(3) - 1, small(3) - 1) for _ in axes]
    least = 2 if algorithm == "winograd" else 0  # with one output there is no stride
    size = [
        max(1, d * (k - 1) + 1 + (s - 1) * least - sum(pad)) + small(20) - 1
        for (k, s, d), pad in zip(axes, pads, strict=True)
    ]
    kernel, stride, dilation = zip(*axes, strict=True)
    channels = small(20)
    x_shape = (small(3), groups * channels, *size)
    options = {"stride": stride, "padding": tuple(pads), "dilation": dilation, "groups": groups}
    w_shape = (groups * small(20), channels, *kernel)
    output = (
        (n + sum(pad) - d * (k - 1) - 1) // s + 1
        for n, pad, (k, s, d) in zip(size, pads, axes, strict=True)
    )
    y_shape = (x_shape[0], w_shape[0], *output)
    return x_shape, w_shape, y_shape, options | {"algorithm": algorithm}


def fuzz(data):
    data = atheris.FuzzedDataProvider(data)
    build = BUILDS[data.ConsumeIntInRange(0, len(BUILDS) - 1)]
    dtype = np.dtype([np.float32, np.float64][data.ConsumeBool()])
    frozen, last = data.ConsumeBool(), data.ConsumeBool()
    for module, name, usual in SETTINGS:  # cut small, or not
        setattr(module, name, (type(usual)(1e-9) or 1) if data.ConsumeBool() else usual)
    x_shape, w_shape, y_shape, options = convolution(data)
    changes = Changes(data)
    kernels.VECTOR = build != "portable"
    kernels.run = SimpleNamespace(
        **{name: Probe(kernel, changes) for name, kernel in vars(COMPILED[build]).items()}
    )
    plan.cache_clear()
    prepare._prepare_once.cache_clear()
    rank = len(w_shape) - 2
    x, w, b, y = (np.ones(shape, dtype) for shape in (x_shape, w_shape, w_shape[0], y_shape))
    for function, arrays, out in (
        (cyconv.conv, (x, w, b), y),
        (lambda dy, w, **o: cyconv.conv_input_grad(dy, w, x_shape, **o), (y, w), x),
        (lambda dy, x, **o: cyconv.conv_weight_grad(dy, x, w_shape, **o), (y, x), w),
    ):
        changes.operands = arrays, np.zeros_like(out)
        function(*arrays, **options)
    if last:
        x, y = (np.ascontiguousarray(np.moveaxis(a, 1, -1)) for a in (x, y))
        cyconv.conv(x, w, b, **options, data_format="channels_last")
        cyconv.conv_weight_grad(y, x, w_shape, **options, data_format="channels_last")
    bias.bias_grad(y, rank, last)
    if frozen and not last:
        kind = (cyconv.Conv1D, cyconv.Conv2D, cyconv.Conv3D)[rank - 1]
        layer = kind(x_shape[1], w_shape[0], w_shape[2:], **options, dtype=dtype)
        layer.freeze()(x)
    kernel = w_shape[2:]
    numbers = {name: options[name] for name in ("stride", "padding", "dilation")}
    if not last and options["groups"] == 1:
        cols = cyconv.im2col(x, kernel, **numbers)
        cyconv.col2im(cols, x_shape[2:], kernel, **numbers)


COMPILED = {
    name: kernels.kernels_of(__import__(f"cyconv.kernels._{name}", fromlist=["_"]))
    for name in kernels.loadable()
}
BUILDS = list(COMPILED)
SETTINGS = [
    (module, name, getattr(module, name))
    for module, name in (
        (tiling, "PIECE_WORK"),
        (threads, "SMALL"),
        (depthwise, "TASK_SECONDS"),
        (direct, "MANY_WEIGHTS"),
        (direct, "TOGETHER"),
        (nonfused, "SHARE_SECONDS"),
        (fused, "SHARE_SECONDS"),
        (fused, "FEW_TILES"),
        (fused, "MANY_WEIGHTS"),
        (fused, "LARGE_SUM"),
        (fused, "CHUNK_BYTES"),
        (nonfused, "FEW_TILES"),
        (nonfused, "MANY_WEIGHTS"),
        (nonfused, "LARGE_SUM"),
        (nonfused, "FEW_SUM"),
    )
]

if __name__ == "__main__":
    assert BUILDS, "there are no compiled kernels"
    print(f"fuzzing {', '.join(BUILDS)} of {cyconv.__file__}")
    cyconv.set_num_threads(1)
    atheris.Setup(sys.argv, fuzz)
    atheris.Fuzz()
