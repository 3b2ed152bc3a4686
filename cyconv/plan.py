"""Plan: which algorithm computes a pass of a convolution, over which tiles. Made once, kept.

The choice is data: for each pass, a table of (algorithm, condition), the first that holds winning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np

from cyconv import threads
from cyconv.algorithms import lowering, pointwise
from cyconv.geometry import Geometry

# What `algorithm` may ask for, and the modules that can answer, best first.
ALGORITHMS: dict[str, tuple[ModuleType, ...]] = {
    "auto": (pointwise, lowering),
    "gemm": (pointwise, lowering),
}

# A cautious estimate of the multiply-adds a second of one core, to judge what is worth sharing.
MULTIPLY_ADDS = 2e10


@dataclass(frozen=True, slots=True)
class Plan:
    """How one pass ("forward", "input_grad", "weight_grad") of a convolution is computed."""

    geometry: Geometry
    dtype: np.dtype[Any]
    pass_: str
    algorithm: ModuleType
    tiles: Any
    seconds: float
    large_products: bool

    @property
    def run(self) -> Callable[..., None]:
        """The algorithm's function for this pass; called with the plan and the arrays."""
        function: Callable[..., None] = getattr(self.algorithm, self.pass_)
        return function


@lru_cache(maxsize=1024)
def plan(geometry: Geometry, dtype: np.dtype[Any], pass_: str, algorithm: str) -> Plan:
    """Choose and prepare; `algorithm` is "auto" or the name of a way to compute."""
    chosen = next(way for way in ALGORITHMS[algorithm] if way.serves(geometry))
    return Plan(
        geometry=geometry,
        dtype=dtype,
        pass_=pass_,
        algorithm=chosen,
        tiles=chosen.tiles(geometry, dtype.itemsize, pass_) if geometry.batch else (),
        seconds=geometry.multiply_adds / MULTIPLY_ADDS,
        large_products=geometry.multiply_adds > threads.SMALL_PRODUCT,
    )


def check_algorithm(algorithm: Any) -> str:
    """Return the name of an algorithm, or say which there are."""
    if not isinstance(algorithm, str):
        raise TypeError(f"algorithm must be a string, not {algorithm!r}")
    if algorithm not in ALGORITHMS:
        names = ", ".join(map(repr, ALGORITHMS))
        raise ValueError(f"algorithm must be one of {names}, got {algorithm!r}")
    return algorithm
