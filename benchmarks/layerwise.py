"""The sections that walk the layer table, a layer at a time: its reference is computed once."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from .contest import Tables, contest, measure_errors
from .layers import FLOAT64, Layer, make_arrays
from .peers import Cyconv, FrozenLayer, Mode, Peer
from .reference import expect
from .timing import Effort

ALGORITHMS = ("auto", "gemm", "winograd", "direct")


def measure_layer(
    layer: Layer, sections: Collection[str], peers: Sequence[Peer], effort: Effort
) -> Tables:
    """Every asked-for section of one layer. `peers` begins with cyconv, the base of the ratios."""
    arrays = make_arrays(layer)
    gradients = not {"train", "float64", "accuracy", "algorithms"}.isdisjoint(sections)
    expected = expect(layer, arrays, gradients)
    tables: Tables = {}

    def enter(section: str, mode: Mode, contestants: Sequence[Peer]) -> None:
        row = contest(layer, arrays, expected, mode, contestants, effort)
        tables[section] = {layer.name: row}

    if "forward" in sections:
        enter("forward", "forward", peers)
    if "image" in sections:
        one = expect(layer.batch(1), arrays.image(), gradients=False)
        contestants = [FrozenLayer(peers[0].threads), *peers[1:]]
        row = contest(layer.batch(1), arrays.image(), one, "forward", contestants, effort)
        tables["image"] = {layer.name: row}
    if "train" in sections:
        enter("train", "train", peers)
    if "algorithms" in sections:
        variants = [Cyconv(peers[0].threads, algorithm) for algorithm in ALGORITHMS]
        enter("algorithms forward", "forward", variants)
        enter("algorithms train", "train", variants)
    if "float64" in sections and layer.name in FLOAT64:
        doubles = arrays.astype(np.float64)
        row = contest(layer, doubles, expected, "train", peers, effort)
        tables["float64"] = {layer.name: row}
    if "accuracy" in sections:
        tables["accuracy"] = {
            layer.name: {
                peer.name: measure_errors(
                    peer.prepare(layer, arrays), "train" if peer.trains else "forward", expected
                )
                for peer in peers
                if peer.supports(layer, np.float32)
            }
        }
    return tables
