"""From tables to figures: geometric means, worst layers, and what they are held against."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .contest import Record, Row, Tables
from .layers import BY_NAME, SETS
from .peers import ENGINES, FRAMEWORKS, TORCH
from .timing import geomean

RATIO_SECTIONS = {
    "forward": "Forward",
    "image": "One image, frozen Conv2D",
    "train": "Training step",
    "float64": "Training step in float64",
    "latency": "Latency",
}

# A column made of the others: on each layer, whichever engine is fastest there.
BEST = "best engine"


@dataclass(frozen=True)
class Mean:
    """The geometric mean of peer time / cyconv time over some layers, and the worst of them."""

    mean: float
    worst: float
    worst_layer: str
    layers: int
    total: int
    quiet: bool = True

    @property
    def count(self) -> str:
        """How much of the set it covers; ~ as in the tables, where nothing was undisturbed."""
        return f"{self.layers} of {self.total}{'' if self.quiet else '~'}"


def fastest_of(rows: dict[str, Row], peers: Sequence[str]) -> dict[str, Row]:
    """The rows with these peers alone, so that BEST is the fastest of them; none, unless all of
    them were timed on some layer."""
    if any(not cells_of(rows, peer) for peer in peers):
        return {}
    return {
        name: {peer: row[peer] for peer in ("cyconv", *peers) if peer in row}
        for name, row in rows.items()
    }


def cells_of(rows: dict[str, Row], peer: str) -> dict[str, Record]:
    """The records, a layer, of a peer or of BEST."""
    return {name: cell for name, row in rows.items() if (cell := find_cell(row, peer))}


def find_cell(row: Row, peer: str) -> Record | None:
    """The peer's record if it has a time; for BEST, the record of the fastest."""
    timed = {name: cell for name, cell in row.items() if "ratio" in cell}
    if peer != BEST:
        return timed.get(peer)
    others = [cell for name, cell in timed.items() if name != "cyconv"]
    return min(others, key=lambda cell: cell["ratio"], default=None)


def mean_of(rows: dict[str, Row], peer: str, among: str = "all") -> Mean | None:
    """The mean over the layers of one set; None where the peer ran on none of them.

    Layers on which the peer was disturbed in every block are left out, as long as others remain.
    """
    cells = {
        name: cell
        for name, cell in cells_of(rows, peer).items()
        if among == "all" or SETS[among](BY_NAME[name])
    }
    quiet = {name: cell for name, cell in cells.items() if cell.get("quiet", 1)}
    ratios = {name: cell["ratio"] for name, cell in (quiet or cells).items()}
    if not ratios:
        return None
    worst = min(ratios, key=ratios.__getitem__)
    mean = geomean(ratios.values())
    return Mean(mean, ratios[worst], worst, len(ratios), len(cells), bool(quiet))


# A figure and where it was met, or None where it was not measured.
Found = tuple[float, str] | None


@dataclass(frozen=True)
class Aim:
    """A figure to reach, from above or from below."""

    text: str
    bound: float
    at_least: bool
    value: Callable[[Tables], Found]

    def met(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound


def torch_mean(section: str, among: str = "all") -> Callable[[Tables], Found]:
    def value(tables: Tables) -> Found:
        found = mean_of(tables.get(section, {}), TORCH, among)
        return (found.mean, f"{found.count} layers") if found else None

    return value


def best_mean(section: str, peers: Sequence[str]) -> Callable[[Tables], Found]:
    """Against the fastest of these peers, layer by layer."""

    def value(tables: Tables) -> Found:
        found = mean_of(fastest_of(tables.get(section, {}), peers), BEST)
        return (found.mean, f"{found.count} layers") if found else None

    return value


def torch_worst(section: str) -> Callable[[Tables], Found]:
    def value(tables: Tables) -> Found:
        found = mean_of(tables.get(section, {}), TORCH)
        return (found.worst, found.worst_layer) if found else None

    return value


def extreme(
    section: str,
    record: str,
    pick: Callable[..., tuple[float, str]],
    column: str | None = "cyconv",
) -> Callable[[Tables], Found]:
    """The largest or smallest value of a section, in one column or (None) in all."""

    def value(tables: Tables) -> Found:
        cells = [
            (cell, f"{name} {key}".removesuffix(" cyconv"))
            for name, row in tables.get(section, {}).items()
            for key, cell in row.items()
            if column in (None, key) and record in cell
        ]
        quiet = [(cell, label) for cell, label in cells if cell.get("quiet", 1)]
        values = [(cell[record], label) for cell, label in quiet or cells]
        return pick(values) if values else None

    return value


def first_latency(tables: Tables) -> Found:
    row = tables.get("latency", {}).get("1x1x10x10 forward")
    return (row["cyconv"]["ms"] * 1e3, "1x1x10x10") if row else None


def largest_error(tables: Tables) -> Found:
    """Forward and both gradients, whichever output was furthest off."""
    cells = [
        (error, f"{name} {output}")
        for name, row in tables.get("accuracy", {}).items()
        for output, error in row["cyconv"].items()
    ]
    return max(cells) if cells else None


THREES = "3x3 stride 1, 32 channels or more"

# What both roads are held against, on two cores; ratios are to PyTorch NCHW, if nothing else is
# said.
COMMON_AIMS = [
    Aim("latency of 1x1x10x10 forward, us", 3.0, False, first_latency),
    Aim("extra memory, MiB", 128, False, extreme("memory", "MiB", max)),
    Aim("two threads against one, worst large layer", 1.7, True,
        extreme("threads", "speedup", min, "2")),
    Aim("time an image, largest over that of batch 1", 1.1, False,
        extreme("batch", "growth", max, None)),
    Aim("the same, forward into memory given", 1.1, False,
        extreme("batch given", "growth", max, None)),
    Aim("float32 error", 5e-6, False, largest_error),
]  # fmt: skip

# The plain road: the portable build, and the fallback.
PLAIN_AIMS = [
    Aim("forward, geometric mean", 1.1, True, torch_mean("forward")),
    Aim(f"forward, {THREES}", 1.5, True, torch_mean("forward", THREES)),
    Aim("forward, worst layer", 0.5, True, torch_worst("forward")),
    Aim("training step, geometric mean", 1.5, True, torch_mean("train")),
    Aim("float64 training step, geometric mean", 4.3, True, torch_mean("float64")),
    Aim("latency, geometric mean", 1.5, True, torch_mean("latency")),
    *COMMON_AIMS,
]

# The fast road: the builds for vector instructions.
FAST_AIMS = [
    Aim("forward, geometric mean", 1.5, True, torch_mean("forward")),
    Aim(f"forward, {THREES}", 1.8, True, torch_mean("forward", THREES)),
    Aim("forward, worst layer", 0.75, True, torch_worst("forward")),
    Aim("forward, to the best of PyTorch, ONNX Runtime", 1.0, True,
        best_mean("forward", FRAMEWORKS)),
    Aim("one image, frozen, geometric mean", 1.3, True, torch_mean("image")),
    Aim("one image, frozen, to the best with ncnn", 0.8, True, best_mean("image", ENGINES)),
    Aim("training step, geometric mean", 1.8, True, torch_mean("train")),
    Aim("float64 training step, geometric mean", 5.0, True, torch_mean("float64")),
    Aim("latency, geometric mean", 2.0, True, torch_mean("latency")),
    *COMMON_AIMS,
]  # fmt: skip


def aims_of(machine: dict[str, Any]) -> list[Aim]:
    """Those of the road that the results were measured on."""
    build = re.search(r"build (\w+)", machine["cyconv"])
    return FAST_AIMS if build and build[1] != "portable" else PLAIN_AIMS


def means_text(tables: Tables) -> str:
    """Geometric means: of all layers against every peer, of each set against the main ones."""
    lines = []
    for section, title in RATIO_SECTIONS.items():
        rows = tables.get(section, {})
        peers = dict.fromkeys(peer for row in rows.values() for peer in row if peer != "cyconv")
        main = [TORCH, BEST] if len(peers) > 1 else [TORCH]
        cases = [("all", peer) for peer in dict.fromkeys([*peers, *main])]
        if section in ("forward", "image", "train"):
            cases += [(among, peer) for among in SETS if among != "all" for peer in main]
        for among, peer in cases:
            if found := mean_of(rows, peer, among):
                lines.append(
                    f"{title:26}{among:36}{peer:24}{found.mean:6.2f}  "
                    f"({found.count}), worst {found.worst:.2f} {found.worst_layer}"
                )
    return "\n".join(lines)


def aims_text(results: dict[str, Any]) -> str:
    lines = []
    for aim in aims_of(results["machine"]):
        found = aim.value(results["tables"])
        if found:
            bound = f"{'>=' if aim.at_least else '<='} {aim.bound:g}"
            verdict = "met" if aim.met(found[0]) else "MISSED"
            lines.append(f"{aim.text:48}{found[0]:10.3g}  {bound:10}{verdict:8}{found[1]}")
    return "\n".join(lines)


def disturbed(tables: Tables) -> float:
    """The share of blocks during which other processes kept the machine busy."""
    cells = [
        (cell["rounds"], cell["quiet"])
        for rows in tables.values()
        for row in rows.values()
        for cell in row.values()
        if "quiet" in cell
    ]
    rounds = sum(count for count, _ in cells)
    return 1 - sum(quiet for _, quiet in cells) / rounds if rounds else 0.0
