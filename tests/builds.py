"""Which builds of the kernels there are to test: each that loads here, and the fallback."""

import contextlib
import functools
import importlib
from inspect import isfunction
from types import SimpleNamespace

import numpy as np
import pytest

from cyconv import kernels, prepare
from cyconv.kernels import fallback
from cyconv.plan import plan

DTYPES = [np.float32, np.float64]

# The kernels of each build. Where CYCONV_PURE_PYTHON is set, or no compiler worked, the
# fallback is all there is.
COMPILED = {
    name: kernels.kernels_of(importlib.import_module(f"cyconv.kernels._{name}"))
    for name in kernels.loadable()
}
BUILDS = {**COMPILED, "fallback": kernels.kernels_of(fallback)}
# Those of the fallback by themselves, without NumPy's warnings, as `threads` calls them. (OpenBLAS
# for ARM divides by zero in lanes that are in no result.)
QUIET = SimpleNamespace(
    **{
        name: np.errstate(all="ignore")(function)
        for name, function in vars(fallback).items()
        if isfunction(function)
    }
)

each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_build = pytest.mark.parametrize("build", BUILDS)
# For what only compiled kernels do: check their arguments. (Skipped where there are none.)
each_compiled = pytest.mark.parametrize("build", COMPILED)


def kernels_of(build):
    """The kernels, to be called directly."""
    return QUIET if build == "fallback" else BUILDS[build]


# A little more than a test with Hypothesis draws: each build asks for all of them in turn.
KEPT = 200


def kept(make):
    """`make`, which keeps the last KEPT that it made: tests of every build and dtype ask for the
    same, and cannot change it. Arguments need not be hashable, as lists of axes are not; those that
    print alike are the same."""
    made = {}

    @functools.wraps(make)
    def make_once(*arguments, **options):
        key = repr((arguments, options))
        if key not in made:
            if len(made) == KEPT:
                del made[next(iter(made))]
            made[key] = make(*arguments, **options)
            for value in vars(made[key]).values():
                if isinstance(value, np.ndarray):
                    value.flags.writeable = False
        return made[key]

    return make_once


def refused(call, *arguments):
    """Whether the call raises ValueError."""
    try:
        call(*arguments)
    except ValueError:
        return True
    return False


def forget_plans():
    """To be called where a test changes what plans are made of, if it has made some before."""
    plan.cache_clear()
    prepare._prepare_once.cache_clear()


@contextlib.contextmanager
def computing_with(build):
    """Let the functions of the public face compute with this build."""
    forget_plans()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "run", BUILDS[build])
        patch.setattr(kernels, "BUILD", None if build == "fallback" else build)
        patch.setattr(kernels, "VECTOR", build not in ("fallback", "portable"))
        yield patch
    forget_plans()
