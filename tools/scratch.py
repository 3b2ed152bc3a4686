"""A copy of the tree, in which kernels may be built and broken."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def copy_tree(to: Path) -> None:
    """Copy what git knows of, and no more."""
    shutil.rmtree(to, ignore_errors=True)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, to / name)


def run(
    arguments: list[str], tree: Path, timeout: float | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run Python in the tree, with its cyconv."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )


def build(tree: Path, **environment: str) -> None:
    """Compile the kernels of the tree where they stand; SystemExit where that fails."""
    shutil.rmtree(tree / "build", ignore_errors=True)  # cythonize keeps copies of headers there
    for file in tree.glob("cyconv/kernels/*.so"):
        file.unlink()
    done = run(["setup.py", "-q", "build_ext", "--inplace"], tree, **environment)
    if done.returncode or not list(tree.glob("cyconv/kernels/*.so")):
        sys.exit(f"the kernels do not compile:\n{done.stdout[-3000:]}")
