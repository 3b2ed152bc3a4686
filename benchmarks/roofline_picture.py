"""The roofline as a picture: both axes logarithmic, a point a layer, a colour an algorithm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .roofline import peak_of

COLOURS = {
    "winograd": "#3b75af",
    "strided": "#8fb3d9",
    "direct": "#d6562b",
    "lowering": "#d6562b",
    "pointwise": "#e8a33d",
    "depthwise": "#5a9e6f",
}
SAYING = (
    "Work is counted as that of the definition. Winograd does a fifth to three fifths of these "
    "products, so it may stand\nabove the roof; so may a layer whose arrays stay in the last cache "
    "from call to call (the dotted slope)."
)
DPI = 130
# Pixels that labels keep off points and other text.
POINT, GAP = 8, 3
# Where a label may stand: steps from its point, in points, the nearest first.
PLACES = [
    (step * x, step * y)
    for step in (1, 1.8, 2.8, 4)
    for x, y in ((7, 0), (-7, 0), (0, 8), (0, -8), (6, 6), (-6, 6), (6, -6), (-6, -6))
]


def draw_roofline(results: dict[str, Any], path: Path) -> None:
    """Write the picture, if there is one to draw."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    rows, roofs = (results["tables"].get(name) for name in ("roofline", "roofs"))
    if not rows or not roofs:
        return
    records = {name: row["cyconv"] for name, row in rows.items()}
    figure, axis = plt.subplots(figsize=(9.5, 6.8), dpi=DPI)
    axis.set_xscale("log", base=2)
    axis.set_yscale("log", base=2)
    left = min(record["FLOP/byte"] for record in records.values()) / 1.6
    right = max(record["FLOP/byte"] for record in records.values()) * 2.2
    axis.set_xlim(left, right)
    draw_roofs(axis, roofs, left, right)
    for algorithm, colour in COLOURS.items():
        of_it = [r for r in records.values() if r["algorithm"] == algorithm]
        for record in of_it:
            # Hollow where other processes disturbed every block, as ~ in the tables.
            face = colour if record.get("quiet", 1) else "none"
            place = record["FLOP/byte"], record["GFLOP/s"]
            axis.plot(*place, "o", ms=6, mec=colour, mfc=face, zorder=3)
        if of_it:
            axis.plot([], [], "o", ms=6, color=colour, label=algorithm)
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_xlabel("operations for each byte of x, w and y (FLOP/byte)")
    axis.set_ylabel("GFLOP/s, forward")
    axis.grid(color="0.93", lw=0.6)
    axis.legend(loc="upper left", fontsize=9, frameon=False)
    machine = results["machine"]
    build = machine["cyconv"].rpartition("build ")[2].rstrip(")")
    axis.set_title(f"Each layer under the roof: build {build}, {machine['threads']} threads")
    figure.text(
        0.5, 0.012, f"{SAYING}\n{machine['cpu']}, {machine['blas']}, float32, {machine['date']}",
        ha="center", fontsize=8, color="0.35",
    )  # fmt: skip
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.canvas.draw()
    place_labels(axis, records)
    figure.savefig(path)
    plt.close(figure)


def draw_roofs(axis: Any, roofs: dict[str, Any], left: float, right: float) -> None:
    """The memory's slope up to the highest peak; lower peaks and the cache's slope, lighter."""
    peak = peak_of(roofs)
    for name, row in roofs.items():
        if "GFLOP/s" in row:
            value = row["GFLOP/s"]["value"]
            highest = value == peak
            start = peak / roofs["memory"]["GB/s"]["value"] if highest else left
            style = {"lw": 1.6, "ls": "-"} if highest else {"lw": 1, "ls": "--"}
            axis.plot([start, right], [value, value], color="0.25", zorder=1, **style)
            # Two that all but coincide are named on either side of their line.
            below = not highest and value > 0.8 * peak
            axis.annotate(
                f"{name}: {value:.0f} GFLOP/s", (right, value), xytext=(-4, -4 if below else 3),
                textcoords="offset points", ha="right", va="top" if below else "bottom",
                fontsize=8, color="0.25",
            )  # fmt: skip
        else:
            value = row["GB/s"]["value"]
            style = {"lw": 1.6, "ls": "-"} if name == "memory" else {"lw": 1, "ls": ":"}
            end = peak / value
            if end > left:
                axis.plot([left, end], [left * value, peak], color="0.25", zorder=1, **style)
                axis.annotate(
                    f"{name}: {value:.0f} GB/s", (end, peak), xytext=(-3, 3),
                    textcoords="offset points", ha="right", va="bottom", fontsize=8, color="0.25",
                )  # fmt: skip


def place_labels(axis: Any, records: dict[str, Any]) -> None:
    """Write each name where it covers least, with a thin line where that is not beside its point.
    The most crowded points choose first."""
    figure = axis.figure
    renderer = figure.canvas.get_renderer()
    places = {
        name: axis.transData.transform((record["FLOP/byte"], record["GFLOP/s"]))
        for name, record in records.items()
    }
    taken = [(x - POINT, y - POINT, x + POINT, y + POINT) for x, y in places.values()]
    taken += [widened(text.get_window_extent(renderer).extents) for text in axis.texts]
    taken += [box for line in axis.lines if len(line.get_xdata()) == 2 for box in along(line)]
    if legend := axis.get_legend():
        taken.append(legend.get_window_extent(renderer).extents)
    frame = axis.get_window_extent(renderer).extents

    def crowd(name: str) -> int:
        x, y = places[name]
        return -sum(abs(x - a) < 90 and abs(y - b) < 30 for a, b in places.values())

    for name in sorted(records, key=crowd):
        colour = COLOURS.get(records[name]["algorithm"], "0.3")
        point = records[name]["FLOP/byte"], records[name]["GFLOP/s"]
        best = None
        for rank, (dx, dy) in enumerate(PLACES):
            label = axis.annotate(
                name, point, xytext=(dx, dy), textcoords="offset points", fontsize=7.5,
                ha="left" if dx > 0 else "right" if dx < 0 else "center",
                va="bottom" if dy > 0 else "top" if dy < 0 else "center",
                color="0.15", zorder=4,
                arrowprops={"arrowstyle": "-", "lw": 0.5, "color": colour, "shrinkB": 3}
                if rank >= 8 else None,
            )  # fmt: skip
            box = label_box(label, renderer)
            cost = sum(overlap(box, other) for other in taken) + outside(box, frame) + 2 * rank
            if best is None or cost < best[0]:
                if best is not None:
                    best[1].remove()
                best = cost, label, box
            else:
                label.remove()
        if best is not None:
            taken.append(widened(best[2]))


def widened(box: Any) -> tuple[float, ...]:
    return box[0] - GAP, box[1], box[2] + GAP, box[3]


def along(line: Any) -> list[tuple[float, ...]]:
    """Small boxes along a straight line, so that labels keep off it."""
    (x0, y0), (x1, y1) = line.get_transform().transform(line.get_xydata())
    number = max(1, round(max(abs(x1 - x0), abs(y1 - y0)) / 5))
    places = ((x0 + (x1 - x0) * i / number, y0 + (y1 - y0) * i / number) for i in range(number))
    return [(x - 2, y - 2, x + 2, y + 2) for x, y in places]


def label_box(label: Any, renderer: Any) -> Any:
    """The extent of the text alone, without the line to its point."""
    from matplotlib.text import Text

    label.update_positions(renderer)
    return Text.get_window_extent(label, renderer).extents


def overlap(a: Any, b: Any) -> float:
    """The area, in square pixels, that two boxes share."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, width) * max(0.0, height)


def outside(box: Any, frame: Any) -> float:
    area = (box[2] - box[0]) * (box[3] - box[1])
    return 10 * (area - overlap(box, frame))
