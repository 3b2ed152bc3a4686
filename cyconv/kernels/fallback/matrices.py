"""Winograd's matrices: F(4x4, 3x3), F(4x4, 4x4), and F(4x4, 3x3) with stride 2.

A tile is 4x4 outputs. For a 3x3 kernel it is computed from 6x6 inputs through 36 products instead
of 144, for a 4x4 kernel from 7x7 inputs through 49 instead of 256:

    y = A^T [ (G w G^T) * (B^T x B) ] A

(Lavin, Gray: Fast Algorithms for Convolutional Neural Networks, 2015, section 4.1.) The matrices
follow from interpolation at the points 0, +-1/sqrt(2), +-sqrt(2) and infinity, or +-sqrt(0.1),
+-sqrt(0.7), +-sqrt(3) and infinity.

With stride 2, four outputs in a row are sums of two convolutions: the even cells of x meet the
first and the last of three taps, which takes the points +-sqrt(0.15), +-sqrt(1.5) and infinity,
five products for eight, and the odd cells the second, four products. So a tile takes nine in a row,
and 81 instead of 144. The second tap, as it is, is the last of six rows that filters are
transformed to, and meets four of nine: there are 81 planes of tiles and 36 of filters. Of the input
gradient it is the cells of dx that are apart: even ones, counted with the pad, meet two taps and
odd ones one. A tile of 8x8, from an odd one on, takes 5x5 of dy. Its axes have stride -2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cyconv.types import Array


class Matrices(NamedTuple):
    """Of as many rows as there are points (G, with stride 2, of six for nine)."""

    # Evaluation of a polynomial of degree 3 (four outputs) at the points; "at infinity", its
    # leading coefficient.
    A: Array
    # The same for the taps of a filter, over the product of each point's distances from the others.
    G: Array
    # Row i: the coefficients of the polynomial that vanishes at all points but the i-th; for
    # infinity, the one that vanishes at all.
    BT: Array


def _evaluate(points: Sequence[float], terms: int) -> Array:
    """Powers of each point, and the leading coefficient."""
    powers = [[p**j for j in range(terms)] for p in points]
    return np.array([*powers, [0.0] * (terms - 1) + [1.0]])


def _six() -> Matrices:
    a, b = 0.5**0.5, 2**0.5
    points = (0.0, a, -a, b, -b)
    shares = np.array([1, -2 / 3, -2 / 3, 1 / 6, 1 / 6, 1])
    vanishing = [
        [1, 0, -2.5, 0, 1, 0],
        [0, -2 * a, -2, a, 1, 0],
        [0, 2 * a, -2, -a, 1, 0],
        [0, -b / 2, -0.5, b, 1, 0],
        [0, b / 2, -0.5, -b, 1, 0],
        [0, 1, 0, -2.5, 0, 1],
    ]
    return Matrices(
        _evaluate(points, 4), shares[:, None] * _evaluate(points, 3), np.array(vanishing)
    )


def _seven() -> Matrices:
    """Rows of B^T are over the point, and those of G times it, to be halves that pairs share."""
    squares = a, b, c = 0.1, 0.7, 3.0
    points = [sign * square**0.5 for square in squares for sign in (1, -1)]
    shares, vanishing = [], []
    for p, square in zip(points, np.repeat(squares, 2).tolist(), strict=True):
        q, r = (other for other in squares if other != square)
        shares.append(0.5 / ((square - q) * (square - r)))
        vanishing.append([q * r, q * r / p, -q - r, (-q - r) / p, 1, 1 / p, 0])
    vanishing.append([-a * b * c, 0, a * b + a * c + b * c, 0, -a - b - c, 0, 1])
    evaluate = _evaluate(points, 4)
    return Matrices(evaluate, np.array([*shares, 1])[:, None] * evaluate, np.array(vanishing))


def _nine() -> tuple[Matrices, Matrices]:
    """Of stride 2, and of its input gradient."""
    squares = 0.15, 1.5
    points = [sign * square**0.5 for square in squares for sign in (1, -1)]
    others = np.repeat(squares[::-1], 2).tolist()
    vanishing = [[-q, -q / p, 1, 1 / p, 0] for p, q in zip(points, others, strict=True)]
    vanishing.append([math.prod(squares), 0, -sum(squares), 0, 1])
    BT, A = np.array(vanishing), _evaluate(points, 4)
    share = 0.5 / (squares[0] - squares[1])
    G = np.zeros((6, 3))
    G[:5, ::2] = np.array([share, share, -share, -share, 1])[:, None] * _evaluate(points, 2)
    G[5, 1] = 1
    ones = np.eye(4)
    there, back = np.zeros((9, 9)), np.zeros((9, 5))
    there[:5, ::2], there[5:, 1::2] = BT, ones
    back[:5], back[5:, :4] = BT, ones
    outputs = np.zeros((9, 8))
    outputs[:5, 1::2], outputs[5:, ::2] = A, ones
    return Matrices(np.vstack([A, ones]), G, there), Matrices(outputs, G, back)


# By the kind of tiles: the number of their planes when transformed, and for the input gradient of
# stride 2, that negative.
MATRICES = {36: _six(), 49: _seven()}
MATRICES[81], MATRICES[-81] = _nine()
# The plane of filters that each of these 81 meets.
MET = np.add.outer(6 * np.arange(9).clip(max=5), np.arange(9).clip(max=5)).ravel()


def kind_of(side: int, stride: int) -> int:
    """Of tiles for such kernels and strides."""
    return (side + 3) ** 2 if stride == 1 else 81 if stride > 0 else -81
