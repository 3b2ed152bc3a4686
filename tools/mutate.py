"""Break the code on purpose, in many ways, and see that the suite notices each.

    python tools/mutate.py [--jobs N] [FILE ...]

Each break of breaks.py (of the files named, or all) is made in a copy of the tree, whose kernels
are built anew if it is in them; then the tests named with it must fail, by whatever end: a wrong
number, a crash, or running for longer than LIMIT. Before that they must pass, unbroken. The
plainest build stands for all: their code is the same. No part of the suite: it takes a minute of
one core a break in the kernels, half as long elsewhere.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

from breaks import BREAKS, Break
from scratch import build, copy_tree, run

LIMIT = 1800  # seconds, for one run of tests
KERNEL = "cyconv/kernels/_portable*.so"


def prepare(tree: Path) -> None:
    """A copy that compiles fast: one build, not optimised."""
    copy_tree(tree)
    setup = tree / "setup.py"
    setup.write_text(setup.read_text().replace('"-O2"', '"-O0"'))
    build(tree, CYCONV_BUILDS="portable")


@contextmanager
def broken(tree: Path, change: Break) -> Iterator[None]:
    """Make the break, and mend it."""
    file = tree / change.file
    text = file.read_text()
    if text.count(change.old) != 1:
        sys.exit(
            f"{change.file} has {text.count(change.old)} times what was to be broken: {change.old}"
        )
    compiled = next(tree.glob(KERNEL))
    whole = compiled.with_suffix(".whole")
    shutil.copy2(compiled, whole)
    file.write_text(text.replace(change.old, change.new))
    try:
        if file.suffix in (".pxi", ".pyx", ".h"):
            build(tree, CYCONV_BUILDS="portable")
        yield
    finally:
        file.write_text(text)
        whole.replace(compiled)


def passes(tree: Path, tests: str) -> bool:
    arguments = ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not soak"]
    name, _, words = tests.partition(" ")
    arguments += [f"tests/{name}", *(["-k", words] if words else [])]
    try:
        done = run(arguments, tree, LIMIT)
    except subprocess.TimeoutExpired:
        return False
    if done.returncode in (2, 3, 4, 5):  # not run at all
        sys.exit(f"{tests}: pytest could not run\n{done.stdout[-2000:]}")
    return done.returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", metavar="FILE", help="breaks of these files (ends do)")
    parser.add_argument("--jobs", type=int, default=1, help="copies at work at the same time")
    options = parser.parse_args()
    wanted = tuple(options.files) or ("",)
    chosen = [change for change in BREAKS if change.file.endswith(wanted)]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        trees: SimpleQueue[Path] = SimpleQueue()
        first = Path(folder, "0")
        prepare(first)
        trees.put(first)
        for i in range(1, options.jobs):
            trees.put(Path(shutil.copytree(first, Path(folder, str(i)))))

        def sound(tests: str) -> bool:
            tree = trees.get()
            try:
                return passes(tree, tests)
            finally:
                trees.put(tree)

        def noticed(change: Break) -> bool:
            tree = trees.get()
            try:
                with broken(tree, change):
                    seen = not passes(tree, change.tests)
            finally:
                trees.put(tree)
            print("noticed    " if seen else "NOT NOTICED", change, flush=True)
            return seen

        named = sorted({change.tests for change in chosen})
        if failing := [t for t, ok in zip(named, pool.map(sound, named), strict=True) if not ok]:
            sys.exit(f"tests that fail already: {', '.join(failing)}")
        print(f"{len(named)} runs of tests pass, unbroken", flush=True)
        results = list(pool.map(noticed, chosen))
    print(f"{sum(results)} of {len(results)} breaks were noticed")
    sys.exit(not all(results))


if __name__ == "__main__":
    main()
