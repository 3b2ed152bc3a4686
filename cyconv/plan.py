"""Plan: which algorithm computes a pass of a convolution, over which tiles. Made once, kept.

The choice is data: a table of (algorithm, condition); the first whose condition holds computes.
"""

from collections.abc import Callable
from functools import lru_cache
from types import ModuleType
from typing import Any

from cyconv import kernels
from cyconv.algorithms import depthwise, direct, lowering, pointwise, small, strided, winograd
from cyconv.geometry import Geometry
from cyconv.record import Record
from cyconv.types import Array, DType

Condition = Callable[[Geometry, str, int], bool]


def _serves(module: ModuleType) -> Condition:
    """Where the algorithm can be asked for at all."""
    serves: Callable[[Geometry], bool] = module.serves
    return lambda g, pass_, itemsize: serves(g)


def _compiled(pays: Condition) -> Condition:
    """Where it pays with compiled kernels; NumPy's cost more than the products they save."""
    return lambda g, pass_, itemsize: kernels.BUILD is not None and pays(g, pass_, itemsize)


# What `algorithm` may ask for, and who answers, best first. The numbers behind each condition are
# with the algorithm.
TABLE: dict[str, tuple[tuple[ModuleType, Condition], ...]] = {
    "auto": (
        (depthwise, _compiled(depthwise.pays)),
        (winograd, _compiled(winograd.pays)),
        (strided, _compiled(strided.pays)),
        (direct, _compiled(direct.pays)),
        (small, small.pays),
        (pointwise, _serves(pointwise)),
        (lowering, _serves(lowering)),
    ),
    "gemm": (
        (small, small.pays),
        (pointwise, _serves(pointwise)),
        (lowering, _serves(lowering)),
    ),
    "direct": (
        (depthwise, depthwise.pays),
        (direct, _serves(direct)),
    ),
    "winograd": ((winograd, _serves(winograd)), (strided, _serves(strided))),
}

# A cautious estimate of the multiply-adds a second of one core, to judge what is worth sharing; and
# of Winograd in compiled kernels, which skips three of four, by the bytes of an item. (On the fast
# road layers of 0.15 ms and less took two threads 1.2 to 1.5 times as long as one, from 0.2 ms on
# 0.9 times.)
MULTIPLY_ADDS = 2e10
WINOGRAD_MULTIPLY_ADDS = {4: 8e10, 8: 4e10}


class Plan(Record):
    """How one pass ("forward", "input_grad", "weight_grad") of a convolution is computed."""

    geometry: Geometry
    dtype: DType
    pass_: str
    algorithm: ModuleType
    tiles: Any
    seconds: float
    # The algorithm's function for this pass, called with the plan and the arrays.
    run: Callable[..., None]
    # For fixed weights (`cyconv.frozen`): from the plan and w to what `run` also takes after its
    # arrays; None where the algorithm keeps nothing.
    prepare: "Callable[[Plan, Array], Array] | None"
    # For small work, a function of the tuple of arrays and the result that does all of it, or does
    # nothing and returns False.
    whole: Callable[[tuple[Any, ...], Any], bool] | None
    # Whether `run` also takes images with their channels last, as views (n, c, d, h, w).
    takes_last: bool


@lru_cache(maxsize=1024)
def plan(geometry: Geometry, dtype: DType, pass_: str, algorithm: str) -> Plan:
    """Choose and prepare; `algorithm` is a name of the table."""
    itemsize = dtype.itemsize
    ways = (way for way, holds in TABLE[algorithm] if holds(geometry, pass_, itemsize))
    chosen = next(ways, None)
    if chosen is None:
        raise ValueError(
            f"algorithm {algorithm!r} cannot serve this convolution: kernel {geometry.kernel}, "
            f"stride {geometry.stride}, dilation {geometry.dilation}, groups {geometry.groups}"
        )
    tiles: Any = chosen.tiles(geometry, itemsize, pass_) if geometry.batch else ()
    whole = tiles if chosen is small else None
    if geometry.multiply_adds <= direct.SMALL and (
        chosen is direct
        or (chosen is depthwise and bool(tiles) and depthwise.is_one_call(geometry, pass_, tiles))
    ):
        whole = direct.whole(geometry, itemsize, pass_, tiles)
    speed = MULTIPLY_ADDS
    if kernels.BUILD is not None and chosen in (winograd, strided):
        speed = WINOGRAD_MULTIPLY_ADDS[itemsize]
    return Plan(
        geometry=geometry,
        dtype=dtype,
        pass_=pass_,
        algorithm=chosen,
        tiles=tiles,
        seconds=geometry.multiply_adds / speed,
        run=getattr(chosen, pass_),
        prepare=None if pass_ == "weight_grad" else getattr(chosen, "prepare", None),
        whole=whole,
        takes_last=chosen is direct or (chosen is winograd and kernels.BUILD is not None),
    )


def check_algorithm(algorithm: Any) -> str:
    """Return the name of an algorithm, or say which there are."""
    if not isinstance(algorithm, str):
        raise TypeError(f"algorithm must be a string, not {algorithm!r}")
    if algorithm not in TABLE:
        names = ", ".join(map(repr, TABLE))
        raise ValueError(f"algorithm must be one of {names}, got {algorithm!r}")
    return algorithm
