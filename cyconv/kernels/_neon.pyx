# cython: language_level=3
"""The kernels for 64-bit ARM, which all has NEON."""

include "bodies.pxi"
