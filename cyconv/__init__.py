"""cyconv: a convolution layer for NumPy."""

from cyconv.columns import col2im, im2col
from cyconv.config import __version__, show_config
from cyconv.description import describe
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
