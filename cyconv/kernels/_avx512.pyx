# cython: language_level=3
"""The kernels for AVX-512 (F, DQ, BW, VL)."""

include "bodies.pxi"
