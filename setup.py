"""The compiled kernels, and nothing else: the rest of the build is in pyproject.toml.

The same kernels are compiled once for each set of vector instructions that the target may have;
which of them run is decided at import (cyconv/kernels/__init__.py). No -ffast-math anywhere, so
that NaN, Inf and the order of sums stay what the definition says.

CYCONV_CHECKS=sanitize, bounds or valgrind makes kernels that check themselves, for `make sanitize`
and `make valgrind` (tools/checks.py).
"""

import os
import platform
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
MSVC = sys.platform == "win32"
# -g0 and -s keep the wheel small, and so does -O2, with which loops are vectorised all the same:
# -O3 makes each build a third larger and a few percent faster.
VECTORISE = ["-ftree-vectorize", "-fvect-cost-model=dynamic"]
FLAGS = ["/O2"] if MSVC else ["-O2", *VECTORISE, "-g0", "-fno-asynchronous-unwind-tables"]
LINK_FLAGS = [] if MSVC or sys.platform == "darwin" else ["-s"]
CHECKS = os.environ.get("CYCONV_CHECKS", "")
if CHECKS:  # with all that a report needs to name the line
    SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    FLAGS = ["-O2", *VECTORISE, "-g", "-fno-omit-frame-pointer"]
    LINK_FLAGS = SANITIZERS if CHECKS == "sanitize" else []
    FLAGS += LINK_FLAGS
    DIRECTIVES["boundscheck"] = CHECKS == "bounds"
    DIRECTIVES["initializedcheck"] = CHECKS == "bounds"
X86_BUILDS = {
    "avx2": ["/arch:AVX2"] if MSVC else ["-mavx2", "-mfma", "-mf16c", "-mtune=haswell"],
    "avx512": ["/arch:AVX512"]
    if MSVC
    else [
        "-mavx512f",
        "-mavx512dq",
        "-mavx512bw",
        "-mavx512vl",
        "-mfma",
        "-mprefer-vector-width=512",
    ],
}
BUILDS = {"portable": []}
if sys.maxsize > 2**32:
    if platform.machine().lower() in ("x86_64", "amd64"):
        BUILDS |= X86_BUILDS
    elif platform.machine().lower() in ("aarch64", "arm64"):
        BUILDS |= {"neon": []}

SOURCES = glob("cyconv/kernels/*.pxi") + glob("cyconv/kernels/*.h")

extensions = cythonize(
    [
        Extension(
            f"cyconv.kernels._{name}",
            [f"cyconv/kernels/_{name}.pyx"],
            depends=SOURCES,
            include_dirs=["cyconv/kernels"],
            define_macros=[(f"CYCONV_{name.upper()}", None)],
            extra_compile_args=FLAGS + flags,
            extra_link_args=LINK_FLAGS,
        )
        for name, flags in BUILDS.items()
    ],
    build_dir="build/cython",
    compiler_directives=DIRECTIVES,
)
for extension in extensions:
    # Where no compiler works, cyconv still installs and runs on the NumPy fallback.
    # (cythonize() drops the flag, so it is set on what it returns.)
    extension.optional = True

setup(ext_modules=extensions)
