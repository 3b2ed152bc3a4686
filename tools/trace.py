"""Line coverage of the Cython code, for `make coverage`: which lines the kernels' tests run.

    python tools/trace.py [MODULE ...]

The plainest build, which has all of them, is compiled in build/trace so that each line says that it
ran. That makes it some 80 times slower, so only the kernels' own tests run, with few examples. The
heads of functions are not counted: no line says that it ran there.
"""

from __future__ import annotations

import sys

from scratch import ROOT, build, copy_tree, run

LEAST = 95  # percent
MODULES = ("lowering", "depthwise", "direct", "direct_grad", "winograd", "winograd_blocks", "whole")
SETTINGS = r"""
[run]
plugins = Cython.Coverage
source = cyconv
concurrency = thread
[report]
exclude_lines =
    ^(    )?c?def [^=]*\(
"""


def main(modules: list[str]) -> None:
    tree = ROOT / "build" / "trace"
    copy_tree(tree)
    build(tree, CYCONV_CHECKS="trace", CYCONV_BUILDS="portable")
    (tree / ".coveragerc").write_text(SETTINGS)
    tests = [f"tests/test_{name}.py" for name in modules]
    options = ["--hypothesis-profile=traced", "-k", "not fallback"]
    options += ["--cov", "--cov-config=.coveragerc", "--cov-report="]
    done = run(["-m", "pytest", "-q", *options, *tests], tree)
    print(done.stdout[-2000:])
    if done.returncode:
        sys.exit(done.returncode)
    least = [f"--fail-under={LEAST}"] if len(modules) == len(MODULES) else []
    wanted = ["report", "-m", "--include=*.pxi,*.pyx", *least]
    done = run(["-m", "coverage", *wanted], tree)
    print(done.stdout)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main(sys.argv[1:] or list(MODULES))
