"""Run the tests on kernels that check themselves: what compiled code does beside its arrays shows.

    python tools/checks.py sanitize [pytest arguments]    AddressSanitizer and UBSan
    python tools/checks.py valgrind [pytest arguments]    memcheck, on the tests of the kernels

Both also stop where a kernel reads a number that a table does not have. Kernels are compiled in a
copy of this tree, in build/, so that those in use stay. Everything is slow, so Hypothesis draws few
examples. gcc is needed, and for the last valgrind, which knows no AVX-512: that build is left out
there, and so is the fallback, which is NumPy's code.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PARTS = ["benchmarks", "cyconv", "docs", "examples", "tests", "tools"]
FILES = ["LICENSE", "Makefile", "MANIFEST.in", "pyproject.toml", "README.md", "setup.py"]
# What is not about compiled code, or about how it is installed; and what loads a framework.
LEFT_OUT = ["benchmarks", "examples", "package", "readme", "torch", "torch_samples"]
KERNELS = [
    "depthwise",
    "direct",
    "direct_grad",
    "half",
    "lowering",
    "whole",
    "winograd",
    "winograd_blocks",
]


def copy(name: str) -> Path:
    """A copy of the tree, in which what was compiled there before is kept."""
    target = ROOT / "build" / name
    for part in PARTS:
        shutil.copytree(
            ROOT / part,
            target / part,
            dirs_exist_ok=True,
            ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"),
        )
    for file in FILES:
        shutil.copy2(ROOT / file, target)
    return target


def build(name: str, tree: Path) -> None:
    environment = {**os.environ, "CYCONV_CHECKS": name}
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace", f"-j{os.cpu_count()}"]
    subprocess.run(command, cwd=tree, env=environment, check=True)


def library(name: str) -> str:
    """Where gcc has a library."""
    command = ["gcc", f"-print-file-name={name}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def environment_of(name: str) -> dict[str, str]:
    # Without malloc behind Python's objects, what runs over a small one would go unseen.
    environment = {"PYTHONMALLOC": "malloc", "PYTHONPATH": ".", "CYCONV_CHECKS": name}
    if name == "sanitize":
        # Python was not built with it, so it has to come first; Python leaks at exit, and so much
        # memory that there is none is asked for by tests.
        environment |= {
            "LD_PRELOAD": f"{library('libasan.so')} {library('libstdc++.so')}",
            "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
            "UBSAN_OPTIONS": "print_stacktrace=1",
        }
    if name == "valgrind":
        environment |= {"CYCONV_SIMD": "avx2", "OPENBLAS_NUM_THREADS": "1"}
    return environment


def command_of(name: str, chosen: list[str]) -> list[str]:
    # A report would be swallowed by what pytest captures.
    pytest = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider"]
    pytest += ["--hypothesis-profile=few"]
    if name == "sanitize":  # AddressSanitizer keeps what is freed for a while, to know it again
        pytest += ["--deselect", "tests/test_memory.py::test_calls_keep_nothing"]
    if name == "valgrind":
        pytest = [
            "valgrind",
            "--quiet",
            "--error-exitcode=9",
            f"--suppressions={ROOT / 'tools' / 'valgrind.supp'}",
            *pytest,
            "-k",
            "not avx512 and not fallback and not outside_of_arrays",
        ]
        return pytest + (chosen or [f"tests/test_{kernel}.py" for kernel in KERNELS])
    return pytest + (chosen or [f"--ignore=tests/test_{test}.py" for test in LEFT_OUT])


def main(name: str, *chosen: str) -> int:
    if name not in ("sanitize", "valgrind"):
        print(__doc__)
        return 2
    tree = copy(name)
    build(name, tree)
    command = command_of(name, list(chosen))
    environment = {**os.environ, **environment_of(name)}
    return subprocess.run(command, cwd=tree, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*(sys.argv[1:] or [""])))
