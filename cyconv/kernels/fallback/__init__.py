"""The kernels in NumPy: same names, same arguments, short enough to read as the definition."""

from cyconv.kernels.fallback.lowering import col2im, im2col

__all__ = ["col2im", "im2col"]
