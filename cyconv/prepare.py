"""Prepare: from shapes, dtypes and options to a plan, and from the caller's arrays to a result."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from cyconv import rows
from cyconv.adjoint import transposed_geometry
from cyconv.arguments import (
    check_b,
    check_dy,
    check_out,
    computed_in,
    native,
    result_dtype,
)
from cyconv.bias import add_bias
from cyconv.blocks import Blocks, make_blocks
from cyconv.form import Form, form_of, is_last
from cyconv.frozen import Packs
from cyconv.geometry import Geometry, geometry_and_pads
from cyconv.integers import choice
from cyconv.layout import channels_first
from cyconv.padding import PADDING_MODES, Border, border_of
from cyconv.plan import Plan, check_algorithm, plan
from cyconv.record import Record
from cyconv.rows import Rows
from cyconv.types import Array, DType

Shape = tuple[int, ...]
# Those of x and w, and that of b where y is computed, and of dy where a gradient is, or None.
Shapes = tuple[Shape, Shape, Shape | None]


class Prepared(Record):
    """A plan, with what is needed to read the caller's arrays and to return one of theirs."""

    plan: Plan
    # Of the result: that of the plan, but where float16 is computed in float32.
    dtype: DType
    # Of the arrays, with three spatial axes, and of the result.
    shapes: tuple[Shape, ...]
    out_shape: Shape
    # Of what the forward pass returns.
    y_shape: Shape
    # For small work on arrays of the very dtype that is computed in: one call does it all.
    whole: Callable[[tuple[Any, ...], Any], bool] | None
    # Where the arrays of images are not as algorithms take them.
    detour: Blocks | Rows | None
    # Whether images have their channels last.
    last: bool

    def run(
        self, arrays: tuple[Array | None, ...], out: Array | None, packs: Packs | None = None
    ) -> Array:
        """Compute into `out`, or into a new array; `packs` are those of w, a layer's."""
        if out is None:
            result = np.empty(self.out_shape, self.dtype)
            if self.whole is not None and self.whole(arrays, result):
                return result
            self._compute(arrays, result, packs)
            return result
        check_out(out, self.out_shape, self.dtype, arrays)
        result = np.asarray(out) if out.flags.aligned else np.empty(self.out_shape, self.dtype)
        self._compute(arrays, result, packs)
        if not out.flags.aligned:
            out[...] = result
        return out

    def _compute(
        self, arrays: tuple[Array | None, ...], result: Array, packs: Packs | None
    ) -> None:
        plan = self.plan
        if plan.geometry.batch == 0:
            result[...] = 0  # nothing, or a sum of nothing
            return
        images = result.reshape(self.shapes[-1])
        if self.detour is not None:
            self.detour.run(arrays, self.shapes, images, packs)
            return
        full: list[Array | None] = [
            a if a is None else native(a, plan.dtype).reshape(shape)
            for a, shape in zip(arrays, self.shapes, strict=False)
        ]
        if self.last:
            both = plan.pass_ == "weight_grad"
            full[: 1 + both] = [channels_first(a) for a in full[: 1 + both] if a is not None]
            images = images if both else channels_first(images)
        elif plan.whole is not None and plan.whole(tuple(full), images):
            return  # so that the bits do not depend on how arrays lie, or on `out`
        w = full[1]
        pack = () if packs is None or w is None else packs.of(plan, w)
        if len(full) == 3 and plan.pass_ == "input_grad":  # a transposed convolution's bias
            bias = full.pop()
            plan.run(plan, *full, images, *pack)
            add_bias(images, bias)
        else:
            plan.run(plan, *full, images, *pack)


def prepare(
    pass_: str,
    shapes: Shapes,
    options: tuple[Any, ...],
    names: tuple[str, ...],
    dtypes: tuple[DType | None, ...],
) -> Prepared:
    """Check everything that does not depend on the values of arrays, and make the plan.

    `options` are stride, padding, dilation, groups, padding_mode, data_format and algorithm, or,
    for a pass of ADJOINTS, stride, padding, output_padding, dilation, groups, data_format and
    algorithm; `names` and `dtypes` belong to the arrays.
    """
    if _PLAIN.issuperset(map(type, options)) or all(map(_is_key, options)):
        return _prepare_once(pass_, shapes, options, names, dtypes)
    return _prepare(pass_, shapes, options, names, dtypes)


_PLAIN = frozenset((int, str))


def _is_key(option: Any) -> bool:
    """Whether equal options mean the same: True and 1.0 are equal to 1, but are no integers."""
    kind = type(option)
    return kind in _PLAIN or (kind is tuple and all(map(_is_key, option)))


# The passes of a transposed convolution, and those of the convolution that it is adjoint to.
# "transpose_padded" is a forward pass whose padding may be pairs.
ADJOINTS = {
    "transpose": "input_grad",
    "transpose_padded": "input_grad",
    "transpose_input_grad": "forward",
    "transpose_weight_grad": "weight_grad",
}
_FORWARD = ("forward", "transpose", "transpose_padded")


def _prepare(
    pass_: str,
    shapes: Shapes,
    options: tuple[Any, ...],
    names: tuple[str, ...],
    dtypes: tuple[DType | None, ...],
) -> Prepared:
    x_shape, w_shape, other = shapes
    dtype = result_dtype(names, dtypes)
    *_, data_format, algorithm = options
    check_algorithm(algorithm)
    last = is_last(data_format)
    border = None
    if pass_ in ADJOINTS:
        stride, padding, extra, dilation, groups, *_ = options
        pairs = pass_ == "transpose_padded"
        g = transposed_geometry(
            x_shape, w_shape, stride, padding, extra, dilation, groups, last, pairs
        )
    else:
        stride, padding, dilation, groups, mode, *_ = options
        choice("padding_mode", mode, PADDING_MODES)
        x_name = "x_shape" if pass_ == "input_grad" else "x"
        w_name = "w_shape" if pass_ == "weight_grad" else "w"
        numbers = stride, padding, dilation, groups
        g, pads = geometry_and_pads(x_shape, w_shape, *numbers, x_name, w_name, last)
        border = border_of(mode, pads, g, x_name)
    form = form_of(x_shape, w_shape, last)
    core = ADJOINTS.get(pass_, pass_)
    x, y = form.write(g.x_shape), form.write(g.y_shape)
    results = {"forward": y, "input_grad": x, "weight_grad": w_shape}
    y_shape = x if pass_ in ADJOINTS else y
    if other is not None:
        if pass_ in _FORWARD:
            check_b(other, g.channels if pass_ in ADJOINTS else g.filters)
        else:
            check_dy("dy", other, y_shape)
    np.empty(results[core], dtype)  # where there is no memory, there need be no plan either
    made, detour = _plan(g, border, last, dtype, core, algorithm)
    plain = detour is None and not last and all(d is None or d == dtype for d in dtypes)
    return Prepared(
        plan=made,
        dtype=dtype,
        shapes=_shapes(g, form, core),
        out_shape=results[core],
        y_shape=y_shape,
        whole=made.whole if plain else None,
        detour=detour,
        last=last,
    )


_prepare_once = lru_cache(maxsize=4096)(_prepare)


def _shapes(g: Geometry, form: Form, core: str) -> tuple[Shape, ...]:
    """The shapes of the arrays of a pass, and of its result, with three spatial axes."""
    x, y = form.stored(g.x_shape), form.stored(g.y_shape)
    if core == "forward":
        return x, g.w_shape, (g.filters,), y
    if core == "input_grad":
        return y, g.w_shape, (g.channels,), x
    return y, x, g.w_shape


def _plan(
    g: Geometry, border: Border | None, last: bool, dtype: DType, core: str, algorithm: str
) -> tuple[Plan, Blocks | Rows | None]:
    inner = computed_in(dtype)
    if g.batch and last and inner == dtype and border is None and rows.serves(g, algorithm):
        made = plan(g, dtype, core, algorithm)
        return made, Rows(plan=made)
    made = plan(g, inner, core, algorithm)
    if last and made.takes_last and inner == dtype and border is None:
        return made, None
    if g.batch and (last or border is not None or inner != dtype):
        detour = make_blocks(g, border, last, inner, core, algorithm)
        return detour.plans[0], detour
    return made, None
