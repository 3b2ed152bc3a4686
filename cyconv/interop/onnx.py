"""ONNX: Conv, ConvTranspose and Col2Im for the reference evaluator, computed by cyconv.

    from onnx.reference import ReferenceEvaluator
    evaluator = ReferenceEvaluator(model, new_ops=cyconv.interop.onnx.operators())

The evaluator's own are written to be read. What cyconv does not compute (more than three spatial
axes, columns of integers or complex numbers) is left to them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cyconv.columns import col2im
from cyconv.functional import conv
from cyconv.transposed import conv_transpose_padded

try:
    from onnx.reference.op_run import OpRun
    from onnx.reference.ops import op_col2im, op_conv, op_conv_transpose
except ImportError as error:
    raise ImportError(
        "cyconv.interop.onnx needs the package onnx: pip install 'cyconv[onnx]'"
    ) from error

Array = NDArray[Any]
Ints = Sequence[int] | None

# What auto_pad and `padding` call the same.
AUTO_PADS = {"SAME_UPPER": "same", "SAME_LOWER": "same_lower", "VALID": "valid"}


def operators() -> list[type[OpRun]]:
    """Return the operators, for ``onnx.reference.ReferenceEvaluator(model, new_ops=...)``.

    Returns
    -------
    list of type
        Conv, ConvTranspose and Col2Im, as the evaluator wants them.

    Examples
    --------
    >>> import numpy as np
    >>> from onnx.parser import parse_model
    >>> from onnx.reference import ReferenceEvaluator
    >>> from cyconv.interop.onnx import operators
    >>> model = parse_model('''
    ...     <ir_version: 8, opset_import: ["" : 18]>
    ...     blur (float[1, 1, 3, 3] x, float[1, 1, 2, 2] w) => (float[1, 1, 2, 2] y) {
    ...         y = Conv(x, w)
    ...     }''')
    >>> x = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
    >>> w = np.ones((1, 1, 2, 2), np.float32)
    >>> ReferenceEvaluator(model, new_ops=operators()).run(None, {"x": x, "w": w})[0]
    array([[[[ 8., 12.],
             [20., 24.]]]], dtype=float32)
    """
    return [Conv, ConvTranspose, Col2Im]


class Conv(op_conv.Conv):
    def _run(
        self,
        X: Array,
        W: Array,
        B: Array | None = None,
        auto_pad: str | None = None,
        dilations: Ints = None,
        group: int | None = None,
        kernel_shape: Ints = None,
        pads: Ints = None,
        strides: Ints = None,
    ) -> tuple[Array]:
        rank = X.ndim - 2
        if rank > 3:
            return super()._run(X, W, B, auto_pad, dilations, group, kernel_shape, pads, strides)  # type: ignore[no-untyped-call, no-any-return]
        _check_kernel(kernel_shape, W)
        return _computed(
            conv,
            (X, W, B),
            stride=tuple(strides or (1,) * rank),
            padding=AUTO_PADS.get(auto_pad or "") or _pairs(pads, rank),
            dilation=tuple(dilations or (1,) * rank),
            groups=group or 1,
        )


class ConvTranspose(op_conv_transpose.ConvTranspose):
    def _run(
        self,
        X: Array,
        W: Array,
        B: Array | None = None,
        auto_pad: str | None = None,
        dilations: Ints = None,
        group: int | None = None,
        kernel_shape: Ints = None,
        output_padding: Ints = None,
        output_shape: Ints = None,
        pads: Ints = None,
        strides: Ints = None,
    ) -> tuple[Array]:
        rank = X.ndim - 2
        _check_kernel(kernel_shape, W)
        stride = tuple(strides or (1,) * rank)
        dilation = tuple(dilations or (1,) * rank)
        extra = tuple(output_padding or (0,) * rank)
        pairs = _pairs(None if auto_pad == "VALID" else pads, rank)
        same = auto_pad in ("SAME_UPPER", "SAME_LOWER")
        if output_shape or same:
            axes = zip(X.shape[2:], W.shape[2:], stride, dilation, extra, strict=True)
            full = [(n - 1) * s + (k - 1) * d + 1 + e for n, k, s, d, e in axes]
            wanted = output_shape or [n * s for n, s in zip(X.shape[2:], stride, strict=True)]
            wanted = wanted[-rank:]  # some models say the batch and the channels too
            ends = zip(full, wanted, strict=True)
            cuts = [_ends(*both, auto_pad == "SAME_UPPER") for both in ends]
            pairs = tuple(pair for pair, _ in cuts)
            extra = tuple(e + more for e, (_, more) in zip(extra, cuts, strict=True))
        options = stride, pairs, extra, dilation, group or 1, "channels_first", "auto"
        return _computed(conv_transpose_padded, (X, W, B), options=options)


class Col2Im(op_col2im.Col2Im):
    def _run(
        self,
        data: Array,
        image_shape: Array,
        block_shape: Array,
        dilations: Ints = None,
        pads: Ints = None,
        strides: Ints = None,
    ) -> tuple[Array]:
        rank = len(image_shape)
        if rank > 3 or data.dtype.kind in "biucSUO":
            return super()._run(data, image_shape, block_shape, dilations, pads, strides)  # type: ignore[no-untyped-call, no-any-return]
        return _computed(
            col2im,
            (data,),
            x_size=tuple(map(int, image_shape)),
            kernel_size=tuple(map(int, block_shape)),
            stride=tuple(strides or (1,) * rank),
            padding=_pairs(pads, rank),
            dilation=tuple(dilations or (1,) * rank),
        )


def _computed(
    function: Callable[..., Array], arrays: tuple[Array | None, ...], **options: Any
) -> tuple[Array]:
    """Call a function of cyconv; bfloat16, which NumPy does not know, is computed in float32."""
    assert arrays[0] is not None
    dtype = arrays[0].dtype
    if dtype.kind != "f":
        arrays = tuple(a if a is None else a.astype(np.float32) for a in arrays)
    return (function(*arrays, **options).astype(dtype, copy=False),)


def _check_kernel(kernel_shape: Ints, w: Array) -> None:
    if kernel_shape and tuple(kernel_shape) != w.shape[2:]:
        raise ValueError(f"kernel_shape must be that of W, {w.shape[2:]}; got {kernel_shape}")


def _pairs(pads: Ints, rank: int) -> tuple[tuple[int, int], ...]:
    """ONNX says all low pads before all high ones."""
    pads = pads or (0,) * (2 * rank)
    return tuple(zip(pads[:rank], pads[rank:], strict=True))


def _ends(full: int, wanted: int, upper: bool) -> tuple[tuple[int, int], int]:
    """The pads that cut `full` cells down to `wanted`, and how many lack at the high end instead.
    The odd one is cut off at the high end where `upper`, else at the low one."""
    total = max(0, full - wanted)
    small, large = total // 2, total - total // 2
    return (small, large) if upper else (large, small), max(0, wanted - full)
