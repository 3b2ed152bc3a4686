"""cyconv itself, through the functions its users call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from ..layers import Arrays, Layer
from .base import Peer, Prepared, Run


class Cyconv(Peer):
    """By default as users call it; or one `algorithm`, and then named after it."""

    name = "cyconv"
    modules = ("cyconv",)
    dtypes = (np.float32, np.float64)
    trains = True

    def __init__(self, threads: int, algorithm: str | None = None) -> None:
        super().__init__()
        self.threads = threads
        self.options: dict[str, Any] = {}
        if algorithm is not None:
            self.name = algorithm
            self.options["algorithm"] = algorithm
            self.refusals = (ValueError,)

    def prepare(self, layer: Layer, arrays: Arrays) -> Prepared:
        import cyconv

        x, w, b, dy = arrays.x, arrays.w, arrays.b, arrays.dy
        options = {
            "stride": layer.stride,
            "padding": layer.padding,
            "groups": layer.groups,
            **self.options,
        }

        def train_step() -> tuple[Any, ...]:
            y, cache = cyconv.conv_forward(x, w, b, **options)
            return (y, *cyconv.conv_backward(dy, cache))

        forward = partial(cyconv.conv, x, w, b, **options)
        inside = partial(limited, self.threads)
        return Prepared(Run(forward, inside), Run(train_step, inside))


class FrozenLayer(Cyconv):
    """cyconv as one who runs a finished network calls it: a layer with weights loaded and frozen.

    It stands in cyconv's place, under its name.
    """

    trains = False

    def prepare(self, layer: Layer, arrays: Arrays) -> Prepared:
        import cyconv

        frozen = cyconv.Conv2D(
            *(layer.C, layer.F, layer.kernel, layer.stride, layer.padding),
            groups=layer.groups,
            dtype=arrays.w.dtype,
            **self.options,
        )
        frozen.load_state_dict({"weight": arrays.w, "bias": arrays.b})
        frozen.freeze()
        return Prepared(Run(partial(frozen, arrays.x), partial(limited, self.threads)))


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """Hold cyconv to a number of threads for a block: the block after it may want another."""
    import cyconv

    before = cyconv.get_num_threads()
    cyconv.set_num_threads(threads)
    try:
        yield
    finally:
        cyconv.set_num_threads(before)
