"""Compiled or fallback: the one place that decides, once, at import.

Both halves have the same functions with the same arguments; everything above calls them through
this module and does not know which half it got.
"""

from __future__ import annotations

import os

__all__ = ["BUILD", "WHY_FALLBACK", "backend", "col2im", "im2col"]

WHY_FALLBACK = ""
if os.environ.get("CYCONV_PURE_PYTHON", "0") not in ("", "0"):
    WHY_FALLBACK = "chosen by CYCONV_PURE_PYTHON"
else:
    try:
        from cyconv.kernels._portable import col2im, im2col
    except ImportError as error:  # installed where no compiler worked
        WHY_FALLBACK = f"no compiled kernels: {error}"

if WHY_FALLBACK:
    from cyconv.kernels.fallback import col2im, im2col

BUILD = None if WHY_FALLBACK else "portable"
backend = "numpy" if WHY_FALLBACK else "cython"
