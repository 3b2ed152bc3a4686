"""The results as Markdown: every layer, losers included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .contest import Record, Row, Tables
from .roofline import roof_at
from .summary import RATIO_SECTIONS, disturbed, mean_of

Cell = Callable[[Record], str]


def markdown(results: dict[str, Any]) -> str:
    """The whole report: the machine, then a table for each section that was run."""
    tables: Tables = results["tables"]
    contests = tables.keys() - {"roofline", "roofs", "errors"}
    only_roofs = bool(tables.get("roofline")) and not contests
    parts = ["# Roofline" if only_roofs else "# Benchmarks", machine_text(results["machine"])]
    if contests:
        parts.append(READING.format(disturbed(tables)))
    parts += [
        f"## {title}\n\n{NOTES.get(section, '')}{ratio_table(section, tables[section])}"
        for section, title in RATIO_SECTIONS.items()
        if tables.get(section)
    ]
    parts += [
        f"## {title}\n\n{table(tables[section], cell)}"
        for section, (title, cell) in OTHER_SECTIONS.items()
        if tables.get(section)
    ]
    if tables.get("roofline") and tables.get("roofs"):
        parts += ["## Roofline, forward", ROOFS, table(tables["roofs"], plain)]
        parts += [ROOFLINE, roofline_table(tables["roofline"], tables["roofs"])]
    return "\n\n".join(parts) + "\n"


READING = (
    "Times are milliseconds a call (latency: microseconds); behind each, in brackets, how many "
    "times cyconv's time that is (above 1: cyconv is faster, below 1: it is slower). Ratios are "
    "medians over alternating blocks; they hold from machine to machine better than the times do. "
    "Other processes disturbed {:.0%} of the blocks, which are left out where others remain; where "
    "none does, the time is marked ~ and counts in no mean."
)

ROOFS = (
    "What the cores and the memory give, with the threads that the layers have: operations (two "
    "for a multiply-add) on operands in the nearest cache, and bytes read and written by a copy. "
    "How they are measured: `benchmarks/roofline.py`. Where other processes disturbed every block "
    "there is a ~."
)
ROOFLINE = (
    "The roof over a layer is the smaller of the higher peak and of memory times the operations "
    "for each byte of x, w and y. Work is counted as the definition has it, of which Winograd does "
    "a fifth to three fifths, and arrays may stay in the last cache from call to call: both may "
    "lift a layer above the roof."
)
# What is to be said of one section, above its table.
NOTES = {
    "image": (
        "A batch of one, as a finished network sees it: cyconv is `layer(x)` of a `cyconv.Conv2D` "
        "whose weights are loaded and frozen, so that it keeps what it makes of them; ONNX Runtime "
        "and ncnn, too, are given theirs ahead.\n\n"
    ),
}


def machine_text(machine: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"Measured on {machine['date']}: {machine['cpu']}, {machine['threads']} threads on "
        f"{machine['cores']} cores, {machine['system']}, Python {machine['python']}, {versions}; "
        f"NumPy with {machine['blas']}; cyconv {machine['cyconv']}."
    )


def table(rows: dict[str, Row], cell: Cell, last: list[list[str]] | None = None) -> str:
    """Rows and columns as they are in `rows`; a dash where a column has no record."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    lines = [["", *columns], ["---", *["---:"] * len(columns)]]
    lines += [
        [name, *(cell(row[column]) if column in row else "-" for column in columns)]
        for name, row in rows.items()
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in [*lines, *(last or [])])


def ratio_table(section: str, rows: dict[str, Row]) -> str:
    """Times and ratios, and below them the geometric means."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    means = {column: mean_of(rows, column) for column in columns if column != "cyconv"}
    cells = [f"**{mean.mean:.2f}** ({mean.count})" if mean else "" for mean in means.values()]
    last = [["**geometric mean**", "", *cells]] if cells else []
    return table(rows, microseconds if section == "latency" else milliseconds, last)


def roofline_table(rows: dict[str, Row], roofs: dict[str, Row]) -> str:
    """A line a layer: who computed it, how long, how fast, and how much of the roof that is."""
    lines: dict[str, Row] = {}
    for name, row in rows.items():
        record = row["cyconv"]
        share = record["GFLOP/s"] / roof_at(record["FLOP/byte"], roofs)
        lines[name] = {
            "algorithm": {"value": record["algorithm"]},
            "ms": {"value": milliseconds(record, bare=True)},
            "FLOP/byte": {"value": record["FLOP/byte"]},
            "GFLOP/s": {"value": record["GFLOP/s"]},
            "of the roof": {"value": f"{share:.0%}"},
        }
    return table(lines, plain)


def plain(record: Record) -> str:
    value = record["value"]
    if isinstance(value, str):
        return value
    text = f"{value:.0f}" if value >= 100 else f"{value:.3g}"
    return text if record.get("quiet", 1) else f"{text}~"


def milliseconds(record: Record, unit: float = 1, bare: bool = False) -> str:
    """The time, and in brackets the ratio, unless this is the base itself or `bare`."""
    if "ms" not in record:
        return f"wrong by {record['error']:.0e}"
    time = record["ms"] / unit
    text = f"{time:.3g}" if time < 100 else f"{time:.0f}"
    text += "" if record.get("quiet", 1) else "~"
    return text if bare or record.get("base") else f"{text} ({record['ratio']:.2f})"


def microseconds(record: Record) -> str:
    return milliseconds(record, 1e-3)


def an_image(record: Record) -> str:
    """The time an image of a batch, and in brackets its growth."""
    return f"{milliseconds(record, record['images'], bare=True)} ({record['growth']:.2f})"


def errors(record: Record) -> str:
    return " / ".join(f"{error:.1e}" for error in record.values())


OTHER_SECTIONS: dict[str, tuple[str, Cell]] = {
    "accuracy": ("Float32 error of y / dx / dw / db, relative to the largest value", errors),
    "errors": ("Float32 error of y / dx / dw, by the number of channels", errors),
    "algorithms forward": ("Forward, by algorithm (ratio to auto)", milliseconds),
    "algorithms train": ("Training step, by algorithm (ratio to auto)", milliseconds),
    "builds forward": ("Forward, by build (PyTorch NCHW time / cyconv time)", milliseconds),
    "builds train": ("Training step, by build (PyTorch NCHW time / cyconv time)", milliseconds),
    "memory": (
        "Peak memory beyond inputs and outputs, MiB, batch 16",
        lambda r: f"{max(0, r['MiB']):.0f}",
    ),
    "threads": (
        "Threads: time, and speed-up over one",
        lambda r: f"{milliseconds(r, bare=True)} ({r['speedup']:.2f})",
    ),
    "batch": ("Batch size: time an image, and its growth over a batch of one", an_image),
    "batch given": ("The same with out=, into memory that is kept from call to call", an_image),
}
