# cython: language_level=3
"""The kernels for AVX2 and FMA (x86-64 from 2013 on)."""

include "bodies.pxi"
