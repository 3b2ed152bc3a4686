"""What the figures were measured on."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import io
import os
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np

PACKAGES = ("cyconv", "numpy", "scipy", "torch", "onnxruntime", "ncnn")
# OpenBLAS reads these before choosing its kernels and blocks.
BLAS_OVERRIDES = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


def cores() -> int:
    """The cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe(threads: int) -> dict[str, Any]:
    """The machine and the versions, as they are written beside the results."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "cpu": cpu_model(),
        "cores": cores(),
        "threads": threads,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "blas": f"{blas.get('name')} {blas.get('version')}",
        "versions": dict(installed_versions()),
        "cyconv": cyconv_config(),
        "environment": {k: v for k, v in os.environ.items() if k.startswith("CYCONV_")},
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def cpu_model() -> str:
    """The processor's name, and its family where the name says little (virtual machines)."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = {key.strip(): value.strip() for key, _, value in (ln.partition(":") for ln in lines)}
    name = fields.get("model name", platform.machine())
    if "cpu family" in fields:
        name += f" (family {fields['cpu family']}, model {fields.get('model', '?')})"
    widest = [w for w in ("avx512f", "avx2") if w in fields.get("flags", "").split()]
    return name + (f", {widest[0]}" if widest else "")


def installed_versions() -> list[tuple[str, str]]:
    found = []
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append((package, importlib.metadata.version(package)))
    return found


def cyconv_config() -> str:
    """The backend and build, in cyconv's own words."""
    import cyconv

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        cyconv.show_config()
    lines = printed.getvalue().splitlines()
    return next((line for line in lines if line.startswith("backend")), "backend unknown")


def warn_of_overrides() -> None:
    """Say so when the environment makes NumPy faster or slower than users will find it."""
    present = [name for name in BLAS_OVERRIDES if name in os.environ]
    if present:
        verb = "is" if len(present) == 1 else "are"
        print(f"warning: {', '.join(present)} {verb} set and change NumPy's speed", file=sys.stderr)
