"""What an engine must offer to be timed: a name, and a convolution prepared for one layer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np

from ..layers import Arrays, Layer

Mode = Literal["forward", "train"]


@dataclass(frozen=True)
class Run:
    """What is timed: a call without arguments, and what surrounds a block of such calls."""

    call: Callable[[], Any]
    inside: Callable[[], AbstractContextManager[Any]] = nullcontext


@dataclass(frozen=True)
class Prepared:
    """One layer in an engine's own terms: operands converted, weights where it wants them.

    `forward` returns y and `train` returns (y, dx, dw, db), in the engine's own arrays, so that
    conversion is not timed; only the check before timing needs `to_numpy`.
    """

    forward: Run
    train: Run | None = None
    to_numpy: Callable[[Any], np.ndarray] = np.asarray

    def run(self, mode: Mode) -> Run:
        run = self.forward if mode == "forward" else self.train
        if run is None:
            raise ValueError("this engine does not train")
        return run


class Peer:
    """An engine. Subclasses set the names and say how a layer is prepared."""

    name: str
    modules: tuple[str, ...]
    dtypes: tuple[type, ...] = (np.float32,)
    trains: bool = False
    # Slow ones are timed where they are cheap: a run of theirs must not take the whole evening.
    most_macs: float = float("inf")
    # What it raises on a layer it cannot serve.
    refusals: tuple[type[Exception], ...] = ()

    def __init__(self) -> None:
        self.threads = 1

    def available(self) -> bool:
        return all(find_spec(module) is not None for module in self.modules)

    def set_threads(self, n: int) -> None:
        """Every engine is held to the same number; what is prepared afterwards obeys it."""
        self.threads = n

    def supports(self, layer: Layer, dtype: type) -> bool:
        return dtype in self.dtypes and layer.macs <= self.most_macs

    def prepare(self, layer: Layer, arrays: Arrays) -> Prepared:
        raise NotImplementedError
