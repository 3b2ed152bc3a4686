"""Compiled or fallback: the one place that decides, once, at import.

Both halves have the same functions with the same arguments; everything above calls them through
this module and does not know which half it got.
"""

from __future__ import annotations

import importlib
import os
from types import SimpleNamespace
from typing import Any

import numpy as np

WHY_FALLBACK = ""
if os.environ.get("CYCONV_PURE_PYTHON", "0") not in ("", "0"):
    WHY_FALLBACK = "chosen by CYCONV_PURE_PYTHON"
else:
    try:
        _build = importlib.import_module("cyconv.kernels._portable")
    except ImportError as error:  # installed where no compiler worked
        WHY_FALLBACK = f"no compiled kernels: {error}"

if WHY_FALLBACK:
    _build = importlib.import_module("cyconv.kernels.fallback")

BUILD = None if WHY_FALLBACK else "portable"
backend = "numpy" if WHY_FALLBACK else "cython"

current_core = _build.current_core
wait_for_change = _build.wait_for_change

_NAMES = (
    "col2im",
    "depthwise_forward",
    "depthwise_pair",
    "depthwise_weight_grad",
    "depthwise_whole",
    "im2col",
    "winograd_input",
    "winograd_output",
    "winograd_output_grad",
    "winograd_weight",
    "winograd_weight_grad",
)


def _compiled_for(ctype: str) -> SimpleNamespace:
    """The kernels for one dtype: picked by name here, which costs nothing when they are called."""
    return SimpleNamespace(**{name: getattr(_build, name)[ctype] for name in _NAMES})


# The kernels for each dtype.
of: dict[np.dtype[Any], Any]
if WHY_FALLBACK:
    of = dict.fromkeys(map(np.dtype, ("float32", "float64")), _build)
else:
    of = {np.dtype("float32"): _compiled_for("float"), np.dtype("float64"): _compiled_for("double")}
