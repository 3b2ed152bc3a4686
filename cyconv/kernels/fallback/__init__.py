"""The kernels in NumPy: same names, same arguments, short enough to read as the definition."""

from cyconv.kernels.fallback.bias import add_bias
from cyconv.kernels.fallback.depthwise import (
    depthwise_forward,
    depthwise_memory,
    depthwise_pair,
    depthwise_spread,
    depthwise_spreads,
    depthwise_weight_grad,
)
from cyconv.kernels.fallback.direct import direct, direct_memory, direct_weight_grad
from cyconv.kernels.fallback.half import float_to_half, half_to_float
from cyconv.kernels.fallback.layout import turn
from cyconv.kernels.fallback.lowering import col2im, im2col
from cyconv.kernels.fallback.sums import sum_middle
from cyconv.kernels.fallback.waiting import current_core, hang_bell, wait_for_change
from cyconv.kernels.fallback.winograd import (
    winograd_by_filters,
    winograd_by_tiles,
    winograd_filters,
    winograd_input,
    winograd_output,
    winograd_output_grad,
    winograd_sum_by_channels,
    winograd_sum_by_tiles,
    winograd_weight_grad,
)

__all__ = [
    "add_bias",
    "col2im",
    "current_core",
    "depthwise_forward",
    "depthwise_memory",
    "depthwise_pair",
    "depthwise_spread",
    "depthwise_spreads",
    "depthwise_weight_grad",
    "direct",
    "direct_memory",
    "direct_weight_grad",
    "float_to_half",
    "half_to_float",
    "hang_bell",
    "im2col",
    "sum_middle",
    "turn",
    "wait_for_change",
    "winograd_by_filters",
    "winograd_by_tiles",
    "winograd_filters",
    "winograd_input",
    "winograd_output",
    "winograd_output_grad",
    "winograd_sum_by_channels",
    "winograd_sum_by_tiles",
    "winograd_weight_grad",
]
