"""Description: the plan of a convolution, for people to read.

It is no second calculation. The plan is the one that the functions run, from the same cache, and
each algorithm says itself what it goes through, by the numbers with which it asks for memory.
"""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cyconv import kernels
from cyconv.algorithms import direct, small
from cyconv.blocks import Blocks
from cyconv.integers import choice, shape
from cyconv.outline import Outline, counted, made_of
from cyconv.prepare import ADJOINTS, Prepared, prepare
from cyconv.rows import Rows
from cyconv.tiling import length
from cyconv.types import DType

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

Shape = tuple[int, ...]

# The arrays that each pass takes, as its function names them, the result, and what it is called.
PASSES = {
    "forward": (("x", "w", "b"), "y", "convolution"),
    "input_grad": (("dy", "w"), "dx", "input gradient of a convolution"),
    "weight_grad": (("dy", "x"), "dw", "weight gradient of a convolution"),
    "transpose": (("x", "w"), "y", "transposed convolution"),
    "transpose_input_grad": (("dy", "w"), "dx", "input gradient of a transposed convolution"),
    "transpose_weight_grad": (("x", "dy"), "dw", "weight gradient of a transposed convolution"),
}

# What `prepare` takes, in its order, with the defaults of the functions.
OPTIONS: dict[str, Any] = {
    "stride": 1,
    "padding": 0,
    "dilation": 1,
    "groups": 1,
    "padding_mode": "zeros",
    "data_format": "channels_first",
    "algorithm": "auto",
}
TRANSPOSED_OPTIONS: dict[str, Any] = {
    "stride": 1,
    "padding": 0,
    "output_padding": 0,
    "dilation": 1,
    "groups": 1,
    "data_format": "channels_first",
    "algorithm": "auto",
}


class Description(NamedTuple):
    """How one pass of a convolution is computed here, and what it takes.

    Attributes
    ----------
    pass_ : str
        Which pass.
    x_shape, w_shape, y_shape : tuple of int
        The shapes of the input, the filters, and of what the forward pass returns.
    output_shape, dtype : tuple of int, dtype
        Of the array that this pass returns.
    computed_in : dtype
        In which it is computed: that, but for float16.
    algorithm : str
        Which of the `algorithm` option's names computes.
    module : str
        Which module of ``cyconv.algorithms`` (or ``cyconv.rows``) that is.
    method : str
        What it does, in a few words.
    build : str
        The build of the kernels ("avx512", "avx2", "neon", "portable"), or "numpy".
    vector : bool
        Whether it has vector instructions: the fast road.
    conversion : str
        Which arrays go through memory in another form first, and by how many images at a time;
        empty where none do.
    tiles : str
        What the work is cut into (each block of images, where there are several).
    tasks, threads : int
        How many parts are handed out, and to how many threads, as many as are set now.
    multiply_adds : int
        Those of the definition, whatever the algorithm saves; padded cells count.
    bytes_moved : int
        The bytes of the arrays that are read and of the one that is returned, each once: the least
        that passes between memory and processor.
    extra_memory : int
        The bytes of all workspaces and copies at their peak, beside those arrays. Threads keep
        workspaces for the next call. Not counted are the tables of kernels (a few numbers a tap),
        what BLAS keeps, what is rounded up to whole pages, and what a caller's arrays cost that are
        not C-contiguous; and on the NumPy fallback, NumPy's own temporaries.
    """

    pass_: str
    x_shape: Shape
    w_shape: Shape
    y_shape: Shape
    output_shape: Shape
    dtype: DType
    computed_in: DType
    algorithm: str
    module: str
    method: str
    build: str
    vector: bool
    conversion: str
    tiles: str
    tasks: int
    threads: int
    multiply_adds: int
    bytes_moved: int
    extra_memory: int

    def __repr__(self) -> str:
        taken, result, title = PASSES[self.pass_]
        shapes = _shapes_by_name(self.x_shape, self.w_shape, self.y_shape)
        inner = "" if self.computed_in == self.dtype else f", computed in {self.computed_in}"
        same = self.algorithm == self.module
        name = self.algorithm if same else f"{self.algorithm} ({self.module})"
        road = "the fast road" if self.vector else "the plain road"
        lines = {
            **{name: str(shapes[name]) for name in taken if name in shapes},
            result: f"{self.output_shape} {self.dtype}{inner}",
            "algorithm": f"{name}: {self.method}",
            "build": f"{self.build}, {road}",
            "conversion": self.conversion,
            "tiles": self.tiles,
            "threads": f"{self.threads} for {counted(self.tasks, 'task')}",
            "multiply-adds": f"{self.multiply_adds:,}",
            "bytes moved": _bytes(self.bytes_moved),
            "extra memory": _bytes(self.extra_memory),
        }
        rows = (f"  {name:<13}  {text}" for name, text in lines.items() if text)
        return "\n".join((title, *rows))


def describe(
    x_shape: Iterable[int],
    w_shape: Iterable[int],
    dtype: "DTypeLike" = np.float32,
    pass_: str = "forward",
    **options: Any,
) -> Description:
    """Say how a convolution would be computed here: the plan itself, without running it.

    Parameters
    ----------
    x_shape, w_shape : tuple of int
        The shapes of the input and the filters.
    dtype : dtype
        That of the arrays.
    pass_ : str
        "forward", "input_grad" or "weight_grad", the passes of `conv`, `conv_input_grad` and
        `conv_weight_grad`; or "transpose", "transpose_input_grad" or "transpose_weight_grad", those
        of `conv_transpose`.
    **options
        Those of the function: stride, padding, dilation, groups, data_format and algorithm, and
        padding_mode or, of a transposed convolution, output_padding.

    Returns
    -------
    Description
        Its ``repr`` is for reading; its attributes are the same as numbers. See
        ``help(cyconv.description.Description)`` for what each counts.

    Raises
    ------
    TypeError, ValueError
        As the function would with arrays of these shapes, and for a pass or an option that there
        is not.

    Examples
    --------
    >>> import cyconv
    >>> cyconv.describe((8, 3, 32, 32), (16, 3, 5, 5), padding=2, algorithm="gemm")
    ... # doctest: +ELLIPSIS
    convolution
      x              (8, 3, 32, 32)
      w              (16, 3, 5, 5)
      y              (8, 16, 32, 32) float32
      algorithm      gemm (lowering): im2col by tiles, and matrix products
      build          ...
      tiles          4 tiles of up to 2,048 positions
      threads        ... for 4 tasks
      multiply-adds  9,830,400
      bytes moved    627,392 (613 KiB)
      extra memory   ...
    >>> cyconv.describe((8, 3, 32, 32), (16, 3, 5, 5), pass_="input_grad").output_shape
    (8, 3, 32, 32)
    """
    names, *_ = PASSES[choice("pass_", pass_, PASSES)]
    defaults = TRANSPOSED_OPTIONS if pass_ in ADJOINTS else OPTIONS
    for name in options:
        if name not in defaults:
            raise TypeError(
                f"describe() got an unexpected keyword argument {name!r}; "
                f"for pass_={pass_!r} it takes {', '.join(defaults)}"
            )
    kind = _dtype(dtype)
    shapes = shape("x_shape", x_shape), shape("w_shape", w_shape)
    chosen = defaults | options
    dtypes = tuple(None if name == "b" else kind for name in names)
    made = prepare(pass_, (*shapes, None), tuple(chosen.values()), names, dtypes)
    outline = _outline(made)
    by_name = _shapes_by_name(*shapes, made.y_shape)
    items = sum(math.prod(by_name[name]) for name in names if name in by_name)
    return Description(
        pass_=pass_,
        x_shape=shapes[0],
        w_shape=shapes[1],
        y_shape=made.y_shape,
        output_shape=made.out_shape,
        dtype=made.dtype,
        computed_in=made.plan.dtype,
        algorithm=outline.name,
        module=outline.module,
        method=outline.method,
        build=kernels.BUILD or "numpy",
        vector=kernels.VECTOR,
        conversion=_conversion(made, kind),
        tiles=outline.tiles,
        tasks=outline.tasks,
        threads=outline.threads,
        multiply_adds=_multiply_adds(made),
        bytes_moved=items * kind.itemsize + math.prod(made.out_shape) * made.dtype.itemsize,
        extra_memory=outline.items * made.plan.dtype.itemsize + _converted_bytes(made, kind, items),
    )


def _dtype(dtype: "DTypeLike") -> DType:
    try:
        if dtype is not None:  # which NumPy takes for float64
            return np.dtype(dtype)
    except TypeError:
        pass
    raise TypeError(f"dtype must be that of an array, not {dtype!r}")


def _shapes_by_name(x: Shape, w: Shape, y: Shape) -> dict[str, Shape]:
    return {"x": x, "dx": x, "w": w, "dw": w, "y": y, "dy": y}


def _outline(made: Prepared) -> Outline:
    """That of what `Prepared.run` runs; of several blocks of images, the one that takes most."""
    plan, detour = made.plan, made.detour
    if plan.geometry.batch == 0:
        return Outline(
            name="none",
            module="none",
            method="there are no images",
            tiles="none",
            tasks=0,
            threads=1,
            shared=0,
            own=0,
        )
    if isinstance(detour, Rows):
        return detour.outline()
    if isinstance(detour, Blocks):
        different = {id(part): part for part in detour.plans}.values()
        outlines: list[Outline] = [part.algorithm.outline(part) for part in different]
        return max(outlines, key=lambda outline: outline.items)
    once = plan.whole is not None and plan.algorithm is not small and not made.last
    if once or plan.algorithm is direct:
        return direct.outline(plan, once, made.last)
    outline: Outline = plan.algorithm.outline(plan)
    return outline


def _multiply_adds(made: Prepared) -> int:
    plans = made.detour.plans if isinstance(made.detour, Blocks) else (made.plan,)
    return sum(plan.geometry.multiply_adds for plan in plans)


def _converted_bytes(made: Prepared, dtype: DType, items: int) -> int:
    """What conversions of the arrays take, of so many items in all."""
    if isinstance(made.detour, Blocks):
        return made.detour.nbytes(dtype, made.dtype)
    inner = made.plan.dtype
    return items * inner.itemsize if dtype != inner and made.plan.geometry.batch else 0


def _conversion(made: Prepared, dtype: DType) -> str:
    detour, inner = made.detour, made.plan.dtype
    if made.plan.geometry.batch == 0:
        return ""
    copied = [f"{dtype} to {inner}"] if dtype != inner else []
    if not isinstance(detour, Blocks):
        return ", ".join(copied)
    if detour.x.last and not detour.x.takes_last:
        copied.insert(0, "channels last to first")
    if detour.x.border is not None:
        copied.append(f"padding_mode {detour.x.border.mode!r}")
    images = max(map(length, detour.parts))
    return f"{', '.join(copied)}; {made_of(len(detour.parts), 'block', images, 'image')}"


def _bytes(number: int) -> str:
    """A number of bytes, for people too."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if number >= unit:
            return f"{number:,} ({number / unit:.3g} {name})"
    return f"{number:,}"
