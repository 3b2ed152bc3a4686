"""Which builds of the kernels there are to test: each that loads here, and the fallback."""

import contextlib
import importlib
from inspect import isfunction
from types import SimpleNamespace

import numpy as np
import pytest

from cyconv import kernels, prepare
from cyconv.kernels import fallback
from cyconv.plan import plan

DTYPES = [np.float32, np.float64]


def quiet(of_dtypes):
    """Without NumPy's warnings, as `threads` calls them. (OpenBLAS for ARM divides by zero in lanes
    that are in no result.)"""
    ignored = np.errstate(all="ignore")
    return {
        dtype: SimpleNamespace(**{n: ignored(f) for n, f in vars(module).items() if isfunction(f)})
        for dtype, module in of_dtypes.items()
    }


# The kernels of each build by dtype. Where CYCONV_PURE_PYTHON is set, or no compiler worked, the
# fallback is all there is.
COMPILED = {
    name: kernels.kernels_of(importlib.import_module(f"cyconv.kernels._{name}"))
    for name in kernels.loadable()
}
BUILDS = {**COMPILED, "fallback": quiet(kernels.kernels_of(fallback))}

each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_build = pytest.mark.parametrize("build", BUILDS)
# For what only compiled kernels do: check their arguments. (Skipped where there are none.)
each_compiled = pytest.mark.parametrize("build", COMPILED)


def kernels_of(build, dtype):
    return BUILDS[build][np.dtype(dtype)]


def refused(call, *arguments):
    """Whether the call raises ValueError."""
    try:
        call(*arguments)
    except ValueError:
        return True
    return False


def forget_plans():
    plan.cache_clear()
    prepare._prepare_once.cache_clear()


@contextlib.contextmanager
def computing_with(build):
    """Let the functions of the public face compute with this build."""
    forget_plans()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "of", BUILDS[build])
        patch.setattr(kernels, "BUILD", None if build == "fallback" else build)
        patch.setattr(kernels, "VECTOR", build not in ("fallback", "portable"))
        yield patch
    forget_plans()
