"""The compiled kernels, and nothing else: the rest of the build is in pyproject.toml."""

import sys
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup

DIRECTIVES = {
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
}
# Plain optimisation only: no -march, so that one wheel runs everywhere, and no -ffast-math, so that
# NaN, Inf and the order of sums stay what the definition says. -g0 keeps the wheel small.
FLAGS = ["/O2"] if sys.platform == "win32" else ["-O3", "-g0"]

extensions = cythonize(
    [
        Extension(
            "cyconv.kernels._portable",
            ["cyconv/kernels/_portable.pyx"],
            depends=glob("cyconv/kernels/*.pxi") + glob("cyconv/kernels/*.h"),
            include_dirs=["cyconv/kernels"],
            extra_compile_args=FLAGS,
        )
    ],
    build_dir="build/cython",
    compiler_directives=DIRECTIVES,
)
for extension in extensions:
    # Where no compiler works, cyconv still installs and runs on the NumPy fallback.
    # (cythonize() drops the flag, so it is set on what it returns.)
    extension.optional = True

setup(ext_modules=extensions)
