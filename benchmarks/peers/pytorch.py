"""PyTorch, eager, in both of its memory layouts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..layers import Arrays, Layer
from .base import Peer, Prepared, Run


class TorchChannelsFirst(Peer):
    """Contiguous NCHW tensors, which is what arrays from NumPy become."""

    name = "PyTorch NCHW"
    modules = ("torch",)
    dtypes = (np.float32, np.float64)
    trains = True
    memory_format = "contiguous_format"

    def set_threads(self, n: int) -> None:
        import torch

        super().set_threads(n)
        torch.set_num_threads(n)

    def prepare(self, layer: Layer, arrays: Arrays) -> Prepared:
        import torch

        layout = getattr(torch, self.memory_format)
        x, w, dy = (
            torch.from_numpy(a).contiguous(memory_format=layout)
            for a in (arrays.x, arrays.w, arrays.dy)
        )
        b = torch.from_numpy(arrays.b)
        # Leaves of their own: the forward pass is timed on tensors that ask for no gradient.
        leaves = [t.detach().requires_grad_() for t in (x, w, b)]
        geometry = (layer.stride, layer.padding, 1, layer.groups)
        conv2d: Callable[..., Any] = torch.nn.functional.conv2d

        def forward() -> Any:
            return conv2d(x, w, b, *geometry)

        def train_step() -> tuple[Any, ...]:
            for leaf in leaves:
                leaf.grad = None
            y = conv2d(*leaves, *geometry)
            y.backward(dy)
            return (y, *(leaf.grad for leaf in leaves))

        # Entering inference mode at each call would cost a microsecond that PyTorch need not pay.
        return Prepared(
            Run(forward, torch.inference_mode),
            Run(train_step),
            to_numpy=lambda tensor: tensor.detach().numpy(),
        )


class TorchChannelsLast(TorchChannelsFirst):
    """Tensors kept in NHWC order from the start, as PyTorch recommends on CPUs."""

    name = "PyTorch channels_last"
    memory_format = "channels_last"
