"""Beyond the layer table: other ranks, and dilation, beside PyTorch; channels last and float16
beside themselves.

python -m benchmarks.beyond
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import cyconv

from .layers import BY_NAME, LAYERS, make_arrays
from .machine import cores, describe, warn_of_overrides
from .peers.base import Run
from .timing import Timing, compare, geomean

Sides = dict[str, Run]

# x, w and dilation; padded by half the kernel.
OTHERS = {
    "conv1d": ((16, 64, 16000), (128, 64, 9), 1),
    "conv3d": ((2, 32, 16, 56, 56), (64, 32, 3, 3, 3), 1),
    "conv2d, dilated by 2": ((8, 64, 56, 56), (64, 64, 3, 3), 2),
    "conv2d, dilated by 12": ((1, 2048, 33, 33), (256, 2048, 3, 3), 12),
}
HALVED = "vgg3_2"


def main() -> None:
    warn_of_overrides()
    threads = cores()
    cyconv.set_num_threads(threads)
    machine = describe(threads)
    print(f"{machine['cpu']}, {threads} threads, {machine['cyconv']}\n")
    print("PyTorch's time / cyconv's")
    for name, sides in others(threads):
        show(name, compare(sides, "cyconv"), "PyTorch")
    print("\nchannels_last / channels_first, forward")
    costs = [show(name, compare(sides, "first"), "last") for name, sides in formats()]
    print(f"{'geometric mean':35} {geomean(costs):.2f}")
    print("\nfloat16 / float32, forward")
    show(HALVED, compare(halves(), "float32"), "float16")


def show(name: str, timings: dict[str, Timing], other: str) -> float:
    times = "  ".join(f"{side} {t.seconds * 1e3:.3g} ms" for side, t in timings.items())
    print(f"{name:35} {timings[other].ratio:.2f}  {times}", flush=True)
    return timings[other].ratio


def others(threads: int) -> Iterator[tuple[str, Sides]]:
    import torch

    torch.set_num_threads(threads)
    for name, (x_shape, w_shape, dilation) in OTHERS.items():
        yield from both_passes(name, x_shape, w_shape, dilation)


def both_passes(
    name: str, x_shape: tuple[int, ...], w_shape: tuple[int, ...], dilation: int
) -> Iterator[tuple[str, Sides]]:
    """Forward, and a training step: forward, and the gradients of x, w and b."""
    import torch

    rng = np.random.default_rng(0)
    options = {"padding": w_shape[-1] // 2 * dilation, "dilation": dilation}
    x, w, b = (rng.standard_normal(n, np.float32) for n in (x_shape, w_shape, w_shape[0]))
    dy = rng.standard_normal(cyconv.conv(x, w, b, **options).shape, np.float32)
    function = getattr(torch.nn.functional, f"conv{len(w_shape) - 2}d")
    operands = [torch.from_numpy(a) for a in (x, w, b)]
    leaves = [a.clone().requires_grad_() for a in operands]
    their_dy = torch.from_numpy(dy)

    def our_step() -> None:
        _, cache = cyconv.conv_forward(x, w, b, **options)
        cyconv.conv_backward(dy, cache)

    def their_step() -> None:
        torch.autograd.grad(function(*leaves, **options), leaves, their_dy)

    yield (
        f"{name} forward",
        {
            "cyconv": Run(convolution(x, w, b, **options)),
            "PyTorch": Run(lambda: function(*operands, **options), torch.inference_mode),
        },
    )
    yield f"{name} training step", {"cyconv": Run(our_step), "PyTorch": Run(their_step)}


def formats() -> Iterator[tuple[str, Sides]]:
    """The layers of ResNet-50, the same numbers in either order."""
    for layer in LAYERS:
        if not layer.name.startswith("r50_"):
            continue
        arrays = make_arrays(layer)
        last = np.ascontiguousarray(np.moveaxis(arrays.x, 1, -1))
        options = {"stride": layer.stride, "padding": layer.padding, "groups": layer.groups}
        yield (
            layer.name,
            {
                name: Run(
                    convolution(x, arrays.w, arrays.b, data_format=f"channels_{name}", **options)
                )
                for name, x in (("first", arrays.x), ("last", last))
            },
        )


def halves() -> Sides:
    layer = BY_NAME[HALVED]
    arrays = make_arrays(layer)
    return {
        dtype: Run(
            convolution(
                *(a.astype(dtype) for a in (arrays.x, arrays.w, arrays.b)), padding=layer.padding
            )
        )
        for dtype in ("float32", "float16")
    }


def convolution(*arrays: np.ndarray, **options: Any) -> Any:
    return lambda: cyconv.conv(*arrays, **options)


if __name__ == "__main__":
    main()
