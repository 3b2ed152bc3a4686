"""What is running here: backend, vector build, BLAS, threads."""

from __future__ import annotations

import platform

import numpy as np

from cyconv import kernels, threads

__version__ = "0.1.0"


def show_config() -> None:
    """Print what computes here: the backend, its build, the BLAS and the threads.

    Examples
    --------
    >>> import cyconv
    >>> cyconv.show_config()  # doctest: +ELLIPSIS
    cyconv ...
    """
    if kernels.backend == "cython":
        backend = f"cython (compiled kernels, build {kernels.BUILD})"
    else:
        backend = f"numpy (fallback: {kernels.WHY_FALLBACK})"
    libraries = ", ".join(threads.describe_blas()) or "unknown to threadpoolctl"
    print(f"cyconv {__version__}")
    print(f"backend: {backend}")
    print(f"BLAS: {libraries}")
    print(f"threads: {threads.get_num_threads()}")
    print(f"NumPy {np.__version__}, Python {platform.python_version()}, {platform.platform()}")
