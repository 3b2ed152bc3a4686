"""Frozen: what a layer with fixed weights keeps of them, in the form that an algorithm wants.

    layer.freeze() -> packs on        layer(x) -> ... -> Prepared.run(arrays, out, packs)
                                                             -> algorithm(plan, x, w, b, y, pack)

An algorithm that has something to keep has a function `prepare`; the plan carries it. A pack
depends on the weights, on the stride (which is 1 where x leaves one output) and on whether there is
any depth, so there is one for each of these, and each algorithm, pass and dtype, whatever the size
of x. It is made when a convolution first needs it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

from cyconv import layout
from cyconv.types import Array, DType

if TYPE_CHECKING:
    from cyconv.plan import Plan


class Packs:
    """The packs of one weight array, which does not change as long as they are on.

    They belong to that array: whoever shares it, as a shallow copy of a layer does, shares them.
    Other copies (pickle, deepcopy) begin without any.
    """

    __slots__ = ("_kept",)

    def __init__(self, on: bool = False) -> None:
        self._kept: dict[Hashable, Array] | None = {} if on else None

    @property
    def on(self) -> bool:
        return self._kept is not None

    def switch(self, on: bool) -> None:
        """Off: all packs go. A call that is under way may finish with what it has, or put it where
        nobody looks any more."""
        if on != self.on:
            self._kept = {} if on else None

    def of(self, plan: Plan, w: Array) -> tuple[Array, ...]:
        """What the plan's algorithm takes beside the arrays: its pack, or nothing."""
        if self._kept is None or plan.prepare is None:
            return ()
        prepare = plan.prepare
        g = plan.geometry
        flat = g.size[0] == g.output[0] == 1
        key = plan.algorithm, plan.pass_, plan.dtype, g.stride, flat
        return (self._keep(key, lambda: prepare(plan, w)),)

    def cast(self, w: Array, dtype: DType) -> Array:
        """w in the dtype that is computed in, where that is not its own."""
        if w.dtype == dtype:
            return w
        return self._keep(dtype, lambda: layout.cast(w, dtype))

    def _keep(self, key: Hashable, make: Callable[[], Array]) -> Array:
        kept = self._kept
        if kept is None:  # switched off just now
            return make()
        pack = kept.get(key)
        if pack is None:
            with _making:
                pack = kept.get(key)
                if pack is None:
                    pack = kept[key] = make()
        return pack

    def __reduce__(self) -> tuple[type[Packs], tuple[bool]]:
        return Packs, (self.on,)


# One thread at a time makes a pack, on as many as it is worth. (Again, if a signal's handler calls
# the same layer in the meantime.)
_making = threading.RLock()


def _after_fork() -> None:
    """A child must not wait for a thread that it does not have."""
    global _making
    _making = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
