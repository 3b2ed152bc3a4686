# cython: language_level=3
"""The kernels for any processor, compiled with plain optimisation; and those of the plain road, which
multiplies by BLAS."""

include "bodies.pxi"
include "lowering.pxi"
include "bias.pxi"
include "winograd.pxi"
