# cython: language_level=3
"""The kernels for AVX2, FMA and F16C (x86-64 from 2013 on)."""

include "bodies.pxi"
