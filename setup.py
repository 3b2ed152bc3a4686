"""The compiled kernels, and nothing else: the rest of the build is in pyproject.toml.

The same kernels are compiled once for each set of vector instructions that the target may have;
which of them run is decided at import (cyconv/kernels/__init__.py). No -ffast-math anywhere, so
that NaN, Inf and the order of sums stay what the definition says.

Two variables that an installed cyconv knows as well mean here:

    CYCONV_PURE_PYTHON=1       compile nothing: the wheel has the fallback alone, for any platform
    CYCONV_REQUIRE_COMPILED=1  a kernel that does not compile is an error, and not left out

And for those who work on the kernels:

    CYCONV_BUILDS=portable,avx2  compile these builds alone
    CYCONV_CHECKS=sanitize or valgrind: kernels that check themselves (`make sanitize` and
        `make valgrind`); or trace: each line of Cython says that it ran (`make coverage`)
"""

import os
import platform
import re
import subprocess
import sys
import sysconfig
from glob import glob

from Cython.Build import cythonize
from Cython.Compiler import Options
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext


def is_set(variable):
    return os.environ.get(variable, "0") not in ("", "0")


def target():
    """The processor that is built for, which need not be the one that this runs on. (Apple's
    interpreters may be for several: ARCHFLAGS then says for which of them.)"""
    named = re.findall(r"-arch (\S+)", os.environ.get("ARCHFLAGS", ""))
    machine = named[0] if len(named) == 1 else sysconfig.get_platform().lower()
    if sys.maxsize < 2**32:  # also in a 32-bit container on a 64-bit system
        return "x86" if re.search("86|win32", machine) else "other"
    if re.search("x86_64|amd64", machine):
        return "x86_64"
    return "arm64" if re.search("aarch64|arm64", machine) else "other"


DIRECTIVES = {
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
}
MSVC = sys.platform == "win32"
WASM = "wasm" in sysconfig.get_platform()
# GCC at -O2 leaves most loops as they are; Clang refuses to be asked.
COST_MODEL = "-fvect-cost-model=dynamic"
NO_TAIL_MERGE = "-fno-tree-tail-merge"
FEW_INLINE = "--param=max-inline-insns-single=20"
# -g0 and -s keep the wheel small, and so does -O2, with which loops are vectorised all the same:
# -O3 makes each build a third larger and a few percent faster. Nor does it gain to inline what does
# not ask for it, which takes 6% more, or to align functions and jumps; and who reads what a kernel
# does reads its source. Code that GCC finds twice and merges makes a build up to 3% larger, packed.
# Of what asks to be inlined most is Cython's, which runs once a call: a build is 12% smaller where
# only the short is, and as fast.
Options.docstrings = False
VECTORISE = ["-ftree-vectorize", COST_MODEL]
SMALL = [
    "-g0",
    "-fno-inline-functions",
    NO_TAIL_MERGE,
    FEW_INLINE,
    "-fno-align-functions",
    "-fno-align-jumps",
    "-fno-asynchronous-unwind-tables",
]
FLAGS = ["/O2"] if MSVC else ["-O2", *VECTORISE, *SMALL]
LINK_FLAGS = (
    ["-s", "-Wl,--build-id=none"] if sys.platform in ("linux", "android") and not WASM else []
)
CHECKS = os.environ.get("CYCONV_CHECKS", "")
TRACE = CHECKS == "trace"
CHECK_MACROS = []
if TRACE:
    DIRECTIVES["linetrace"] = True
    FLAGS = ["-O1"]
    # Python 3.13's monitoring does not know of lines that run without the GIL.
    CHECK_MACROS = [("CYTHON_TRACE_NOGIL", "1"), ("CYTHON_USE_SYS_MONITORING", "0")]
elif CHECKS:  # with all that a report needs to name the line
    SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    FLAGS = ["-O2", *VECTORISE, "-g", "-fno-omit-frame-pointer"]
    LINK_FLAGS = SANITIZERS if CHECKS == "sanitize" else []
    FLAGS += LINK_FLAGS
    CHECK_MACROS = [("CYCONV_CHECKS", None)]
AVX2 = ["/arch:AVX2"] if MSVC else ["-mavx2", "-mfma", "-mf16c", "-mtune=haswell"]
AVX512 = (
    ["/arch:AVX512"]
    if MSVC
    else [
        "-mavx512f",
        "-mavx512dq",
        "-mavx512bw",
        "-mavx512vl",
        "-mfma",
        "-mprefer-vector-width=512",
    ]
)
# The x87 unit computes in 80 bits and rounds when it likes: results would depend on it.
SSE2 = [] if MSVC else ["-msse2", "-mfpmath=sse"]
BUILDS = {
    "x86_64": {"portable": [], "avx2": AVX2, "avx512": AVX512},
    "arm64": {"portable": [], "neon": []},
    "x86": {"portable": SSE2},
    "other": {"portable": []},
}

# One wheel serves all Pythons from 3.11 on, the first whose limited API has buffers. It
# costs a small call about 3% (docs/platforms.md). Not for free-threaded Pythons, which have no
# limited API, nor in WebAssembly, where each Python has an ABI of its own; nor where lines are
# traced, for which the limited API has nothing.
LIMITED = not (sysconfig.get_config_var("Py_GIL_DISABLED") or WASM or TRACE)
LIMITED_API = [("Py_LIMITED_API", "0x030B0000")] if LIMITED else []


class BuildKernels(build_ext):
    """Leaves out the flags that not all compilers know."""

    def build_extensions(self):
        asked = () if MSVC else (COST_MODEL, NO_TAIL_MERGE, FEW_INLINE)
        unknown = [flag for flag in asked if not self.knows(flag)]
        for extension in self.extensions:
            flags = extension.extra_compile_args
            extension.extra_compile_args = [flag for flag in flags if flag not in unknown]
        super().build_extensions()

    def knows(self, flag):
        command = [*self.compiler.compiler_so, flag, "-xc", os.devnull, "-fsyntax-only"]
        try:
            return subprocess.run(command, capture_output=True, check=False).returncode == 0
        except OSError:  # no compiler at all
            return False


SOURCES = glob("cyconv/kernels/*.pxi") + glob("cyconv/kernels/*.h")

extensions = [
    Extension(
        f"cyconv.kernels._{name}",
        [f"cyconv/kernels/_{name}.pyx"],
        depends=SOURCES,
        include_dirs=["cyconv/kernels"],
        define_macros=[(f"CYCONV_{name.upper()}", None), *LIMITED_API, *CHECK_MACROS],
        extra_compile_args=FLAGS + flags,
        extra_link_args=LINK_FLAGS,
        py_limited_api=LIMITED,
    )
    for name, flags in BUILDS[target()].items()
    if name in os.environ.get("CYCONV_BUILDS", name).split(",")
]
# On PyPy and its like, which only emulate the C API, the fallback serves.
if is_set("CYCONV_PURE_PYTHON") or platform.python_implementation() != "CPython":
    extensions = []
extensions = cythonize(
    extensions,
    # Cython's plugin for coverage looks for C beside the source.
    build_dir=None if TRACE else "build/cython",
    compiler_directives=DIRECTIVES,
)
for extension in extensions:
    # Where no compiler works, cyconv still installs and runs on the NumPy fallback.
    # (cythonize() drops the flag, so it is set on what it returns.)
    extension.optional = not is_set("CYCONV_REQUIRE_COMPILED")

options = {"bdist_wheel": {"py_limited_api": "cp311"}} if LIMITED and extensions else {}
setup(ext_modules=extensions, options=options, cmdclass={"build_ext": BuildKernels})
