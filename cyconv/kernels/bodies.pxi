# What every build is made of.

ctypedef fused real:
    float
    double

include "arrays.pxi"
include "axes.pxi"
include "grid.pxi"
include "transforms.pxi"
include "waiting.pxi"
include "shares.pxi"
include "depthwise.pxi"
include "sums.pxi"
include "half.pxi"
include "direct.pxi"
include "layout.pxi"
include "direct_grad.pxi"
include "winograd_blocks.pxi"
include "winograd_grad.pxi"
include "whole.pxi"
