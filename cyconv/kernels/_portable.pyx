# cython: language_level=3
"""The kernels for any processor, compiled with plain optimisation."""

include "bodies.pxi"
