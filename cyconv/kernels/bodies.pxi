# What every build is made of.

ctypedef fused real:
    float
    double

# How arrays are held and read, and how threads share tasks.
include "arrays.pxi"
include "axes.pxi"
include "waiting.pxi"
include "shares.pxi"

include "sums.pxi"
include "half.pxi"

# One or few channels a group.
include "bands.pxi"
include "lanes.pxi"
include "depthwise.pxi"
include "depthwise_grad.pxi"
include "depthwise_spread.pxi"

# Any convolution.
include "microkernel.pxi"
include "layout.pxi"
include "direct.pxi"
include "direct_grad.pxi"

# Winograd.
include "grid.pxi"
include "transforms.pxi"
include "tiles.pxi"
include "winograd_blocks.pxi"
include "winograd_grad.pxi"

include "whole.pxi"
