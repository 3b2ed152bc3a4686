"""One case: engines prepared for the same layer, checked against the definition, then timed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .layers import Arrays, Layer
from .peers import Cyconv, Mode, Peer, Prepared, Run
from .reference import TOLERANCE, Expected, relative_error
from .timing import Effort, Timing, compare

OUTPUTS = {"forward": ("y",), "train": ("y", "dx", "dw", "db")}

# What was measured of one engine on one case, and the table that sections are made of.
Record = dict[str, Any]
Row = dict[str, Record]
Tables = dict[str, dict[str, Row]]


def merge(tables: Tables, more: Tables) -> None:
    """Add tables to tables: new columns join the rows that are already there."""
    for section, rows in more.items():
        for name, row in rows.items():
            tables.setdefault(section, {}).setdefault(name, {}).update(row)


class WrongResultError(RuntimeError):
    """cyconv disagrees with the definition: there is nothing to time."""


def contest(
    layer: Layer,
    arrays: Arrays,
    expected: Expected,
    mode: Mode,
    peers: Sequence[Peer],
    effort: Effort,
) -> Row:
    """Time the peers that can serve the layer; the first is the base of the ratios.

    A peer whose result is wrong is not timed: its record has an error and no time.
    """
    dtype = arrays.x.dtype.type
    runs: dict[str, Run] = {}
    row: Row = {}
    for peer in peers:
        if not peer.supports(layer, dtype) or (mode == "train" and not peer.trains):
            continue
        try:
            prepared = peer.prepare(layer, arrays)
            errors = measure_errors(prepared, mode, expected)
        except peer.refusals:
            continue
        row[peer.name] = {"error": max(errors.values())}
        if row[peer.name]["error"] <= TOLERANCE[dtype]:
            runs[peer.name] = prepared.run(mode)
        elif isinstance(peer, Cyconv):
            raise WrongResultError(f"{peer.name} is wrong on {layer}: {errors}")
    base = next(iter(runs))
    for name, timing in compare(runs, base, effort).items():
        row[name] |= timed(timing)
    row[base]["base"] = True
    return row


def timed(timing: Timing) -> Record:
    return {
        "ms": timing.seconds * 1e3,
        "ratio": timing.ratio,
        "rounds": timing.rounds,
        "quiet": timing.quiet,
    }


def measure_errors(prepared: Prepared, mode: Mode, expected: Expected) -> dict[str, float]:
    """The error of each output, relative to its largest value, against float64."""
    run = prepared.run(mode)
    with run.inside():
        results = run.call()
    if mode == "forward":
        results = (results,)
    return {
        name: relative_error(np.asarray(prepared.to_numpy(result)), getattr(expected, name))
        for name, result in zip(OUTPUTS[mode], results, strict=True)
    }
