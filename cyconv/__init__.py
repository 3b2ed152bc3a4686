"""cyconv: a convolution layer for NumPy."""

import importlib
import typing

from cyconv.config import __version__, show_config
from cyconv.functional import (
    conv,
    conv_backward,
    conv_forward,
    conv_input_grad,
    conv_weight_grad,
)
from cyconv.kernels import backend
from cyconv.layers import Conv1D, Conv2D, Conv3D
from cyconv.threads import get_num_threads, set_num_threads

if typing.TYPE_CHECKING:
    from cyconv.columns import col2im, im2col
    from cyconv.description import describe
    from cyconv.transposed import conv_transpose
    from cyconv.transposed_layers import ConvTranspose1D, ConvTranspose2D, ConvTranspose3D

__all__ = [
    "Conv1D",
    "Conv2D",
    "Conv3D",
    "ConvTranspose1D",
    "ConvTranspose2D",
    "ConvTranspose3D",
    "__version__",
    "backend",
    "col2im",
    "conv",
    "conv_backward",
    "conv_forward",
    "conv_input_grad",
    "conv_transpose",
    "conv_weight_grad",
    "describe",
    "get_num_threads",
    "im2col",
    "set_num_threads",
    "show_config",
]

# What many programs never need is imported when it is first asked for: a millisecond less for them.
_MODULES = {
    "ConvTranspose1D": "transposed_layers",
    "ConvTranspose2D": "transposed_layers",
    "ConvTranspose3D": "transposed_layers",
    "col2im": "columns",
    "conv_transpose": "transposed",
    "describe": "description",
    "im2col": "columns",
}


def __getattr__(name: str) -> typing.Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'cyconv' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"cyconv.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
