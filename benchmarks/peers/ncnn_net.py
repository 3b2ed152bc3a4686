"""ncnn: one image at a time, weights transformed ahead; the engine to beat on single images."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..layers import Arrays, Layer
from .base import Peer, Prepared, Run


class Ncnn(Peer):
    """ncnn has no batch axis: a batch is a loop over its images."""

    name = "ncnn"
    modules = ("ncnn",)

    def prepare(self, layer: Layer, arrays: Arrays) -> Prepared:
        import ncnn

        net = ncnn.Net()
        net.opt.num_threads = self.threads
        net.opt.use_vulkan_compute = False
        # Float32 throughout: half precision would be a different computation.
        for option in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
            setattr(net.opt, f"use_{option}", False)
        # load_model_mem keeps a reference into these bytes, so the closure below keeps them alive.
        weights = b"\0\0\0\0" + arrays.w.tobytes() + arrays.b.tobytes()
        if net.load_param_mem(_param(layer)) != 0:
            raise RuntimeError(f"ncnn does not read its description of {layer.name}")
        net.load_model_mem(weights)

        def forward(_alive: bytes = weights) -> list[Any]:
            images = []
            for image in arrays.x:
                extractor = net.create_extractor()
                extractor.input("x", ncnn.Mat(image))
                images.append(extractor.extract("y")[1])
            return images

        return Prepared(
            Run(forward), to_numpy=lambda images: np.stack([np.array(image) for image in images])
        )


def _param(layer: Layer) -> str:
    """The network in ncnn's text format: an input and one convolution."""
    kind = "Convolution" if layer.groups == 1 else "ConvolutionDepthWise"
    settings = {
        0: layer.F,
        1: layer.kernel,
        3: layer.stride,
        4: layer.padding,
        5: 1,  # with bias
        6: int(np.prod(layer.w_shape)),
    }
    if layer.groups > 1:
        settings[7] = layer.groups
    fields = " ".join(f"{key}={value}" for key, value in settings.items())
    return f"7767517\n2 2\nInput in 0 1 x\n{kind} conv 1 1 x y {fields}\n"
