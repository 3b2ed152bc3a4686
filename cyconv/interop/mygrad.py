"""mygrad: conv as an operation of its graph.

    >>> import mygrad as mg
    >>> from cyconv.interop.mygrad import conv
    >>> x = mg.tensor([[[1.0, 2.0, 3.0, 4.0]]])
    >>> w = mg.tensor([[[1.0, -1.0]]])
    >>> loss = (conv(x, w, stride=2) ** 2).sum()
    >>> loss
    Tensor(2.)
    >>> loss.backward()
    >>> w.grad
    array([[[ -8., -12.]]])

mygrad's own, `mygrad.nnet.conv_nd`, has stride, padding (ints) and dilation, and wants strides that
come out even. ``python -m benchmarks.mygrad_conv`` times one beside the other.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

import cyconv

try:
    from mygrad import Tensor, execute_op
    from mygrad.operation_base import Operation
except ImportError as error:
    raise ImportError(
        "cyconv.interop.mygrad needs the package mygrad: pip install 'cyconv[mygrad]'"
    ) from error

Array = NDArray[Any]


def conv(
    x: Any,
    w: Any,
    b: Any | None = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    data_format: str = "channels_first",
    algorithm: str = "auto",
    constant: bool | None = None,
) -> Tensor:
    """Convolve tensors (or arrays), and go back to each of x, w and b: see `cyconv.conv`.

    As everywhere in mygrad, the result is a constant, with no way back, if `constant` says so.

    Examples
    --------
    >>> import mygrad as mg
    >>> from cyconv.interop.mygrad import conv
    >>> x, w, b = mg.ones((1, 1, 3, 3)), mg.ones((2, 1, 2, 2)), mg.zeros(2)
    >>> conv(x, w, b).sum().backward()
    >>> b.grad
    array([4., 4.], dtype=float32)
    """
    options = {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "padding_mode": padding_mode,
        "data_format": data_format,
        "algorithm": algorithm,
    }
    tensors = (x, w) if b is None else (x, w, b)
    return execute_op(_Conv, *tensors, op_kwargs=options, constant=constant)


class _Conv(Operation):  # type: ignore[misc]
    def __call__(self, *variables: Tensor, **options: Any) -> Array:
        self.variables = variables
        self.options = options
        return cyconv.conv(*(variable.data for variable in variables), **options)

    def backward_var(self, grad: Array, index: int, **kwargs: Any) -> Array:
        x, w = (variable.data for variable in self.variables[:2])
        if index == 0:
            return cyconv.conv_input_grad(grad, w, x.shape, **self.options)
        if index == 1:
            return cyconv.conv_weight_grad(grad, x, w.shape, **self.options)
        last = self.options["data_format"] == "channels_last"
        filters = x.ndim - 1 if last else x.ndim - w.ndim + 1
        db: Array = grad.sum(axis=tuple(axis for axis in range(x.ndim) if axis != filters))
        return db
