# cython: language_level=3
"""The kernels for any processor: the bodies, compiled with plain optimisation."""

ctypedef fused real:
    float
    double

include "lowering.pxi"
include "winograd.pxi"
include "depthwise.pxi"
include "waiting.pxi"
