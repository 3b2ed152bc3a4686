"""Compiled or fallback, and which vector build: the one place that decides, once, at import.

All builds have the same functions with the same arguments; everything above calls them through
this module and does not know which it got. The compiled ones are the same code, for one set of
vector instructions each; the best that this processor and operating system have is taken.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType, SimpleNamespace
from typing import Any

# From the plainest to the best, and what the processor must have (a level of cpu.h).
BUILDS = {"portable": 0, "neon": 0, "avx2": 1, "avx512": 2}

_NAMES = (
    "Whole",
    "WholeWeightGrad",
    "add_bias",
    "col2im",
    "depthwise_forward",
    "depthwise_memory",
    "depthwise_pair",
    "depthwise_spread",
    "depthwise_spreads",
    "depthwise_weight_grad",
    "direct",
    "direct_memory",
    "direct_weight_grad",
    "im2col",
    "sum_middle",
    "turn",
    "winograd_by_filters",
    "winograd_by_tiles",
    "winograd_filters",
    "winograd_input",
    "winograd_output",
    "winograd_output_grad",
    "winograd_sum_by_channels",
    "winograd_sum_by_tiles",
    "winograd_weight_grad",
)


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "0") not in ("", "0")


# For tests of what was installed: nothing that was compiled may quietly be missing.
_REQUIRED = _is_set("CYCONV_REQUIRE_COMPILED")


def _load(build: str) -> ModuleType | None:
    """The module of a build, or None where it was not compiled or cannot run here."""
    try:
        return importlib.import_module(f"cyconv.kernels._{build}")
    except ImportError as error:
        if _REQUIRED and not isinstance(error, ModuleNotFoundError):
            raise
        return None


def _runnable() -> list[str]:
    """The builds for which this processor has the instructions, compiled or not."""
    level = _portable.vector_level() if _portable else -1
    return [name for name, needed in BUILDS.items() if needed <= level]


def loadable() -> list[str]:
    """The builds that can run here, from the plainest to the best."""
    return [name for name in _runnable() if _load(name)]


def _cap() -> list[str]:
    """The builds that CYCONV_SIMD allows."""
    wanted = os.environ.get("CYCONV_SIMD", "") or "avx512"
    names = list(BUILDS)
    if wanted not in names:
        raise ValueError(f"CYCONV_SIMD must be one of {', '.join(names)}, got {wanted!r}")
    return names[: names.index(wanted) + 1]


def kernels_of(module: Any) -> Any:
    """The kernels of a build. What a vector build lacks is the same without vectors."""
    if not hasattr(module, "vector_level"):
        return module
    found = {name: getattr(module, name, None) or getattr(_portable, name) for name in _NAMES}
    return SimpleNamespace(**found)


WHY_FALLBACK = ""
_portable: ModuleType | None = None
if _is_set("CYCONV_PURE_PYTHON"):
    WHY_FALLBACK = "chosen by CYCONV_PURE_PYTHON"
else:
    try:
        _portable = importlib.import_module("cyconv.kernels._portable")
    except ImportError as error:  # installed where no compiler worked
        WHY_FALLBACK = f"no compiled kernels: {error}"
if WHY_FALLBACK and _REQUIRED:
    raise ImportError(f"CYCONV_REQUIRE_COMPILED is set, but the fallback would run: {WHY_FALLBACK}")

_allowed = _cap()
# The others are not loaded: that would take half a millisecond each.
_best_first = [name for name in reversed(_runnable()) if name in _allowed]
BUILD = next((name for name in _best_first if _load(name)), None)
# Whether products are best made in these kernels ("the fast road"), or by NumPy's BLAS.
VECTOR = BUILD not in (None, "portable")
backend = "numpy" if WHY_FALLBACK else "cython"

_build: Any = importlib.import_module(f"cyconv.kernels.{f'_{BUILD}' if BUILD else 'fallback'}")
current_core = _build.current_core
float_to_half = _build.float_to_half
half_to_float = _build.half_to_float
hang_bell = _build.hang_bell
wait_for_change = _build.wait_for_change
run = kernels_of(_build)
