"""What holds for every module of cyconv.interop."""

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Each needs the package of its own name.
NEIGHBOURS = ["autograd", "dask", "mygrad", "onnx"]
MODULES = sorted((ROOT / "cyconv" / "interop").glob("[a-z]*.py"))
# ONNX has transposed convolutions with unequal pads, which the public function has not.
INNER = {"onnx": {"cyconv.columns", "cyconv.functional", "cyconv.transposed"}}


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_without_the_package(name):
    program = f"import sys; sys.modules['{name}'] = None; import cyconv.interop.{name}"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    said = f"cyconv.interop.{name} needs the package {name}: pip install 'cyconv[{name}]'"
    assert f"ImportError: {said}" in done.stderr


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_the_extra_brings_the_package(name):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert any(need.startswith(name) for need in extras["optional-dependencies"][name])


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_only_the_public_face_is_used(path):
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            imported.add(node.module)
        elif isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
    ours = {name for name in imported if name.startswith("cyconv")}
    assert ours <= INNER.get(path.stem, {"cyconv", "cyconv.interop.chunks"})
