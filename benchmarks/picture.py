"""The results as one picture: a panel a section, a line a layer, a dot an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .summary import RATIO_SECTIONS, cells_of, mean_of

PANELS = ("forward", "image", "train")
# Those a reader would choose between; the plain ones are in the table and would stretch the axis.
COLOURS = {
    "PyTorch NCHW": "#d6562b",
    "PyTorch channels_last": "#e8a33d",
    "ONNX Runtime": "#3b75af",
    "ncnn": "#5a9e6f",
}


def draw(results: dict[str, Any], path: Path) -> bool:
    """Write the picture, if there is one; layers run downwards in the order of the table."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    sections = [section for section in PANELS if results["tables"].get(section)]
    if not sections:
        return False
    height = 2.2 + 0.27 * max(len(results["tables"][section]) for section in sections)
    figure, axes = plt.subplots(
        1, len(sections), figsize=(1 + 4.4 * len(sections), height), squeeze=False, sharey=True
    )
    for axis, section in zip(axes[0], sections, strict=True):
        draw_panel(axis, RATIO_SECTIONS[section], results["tables"][section])
    machine = results["machine"]
    figure.suptitle(
        "Time of each engine / time of cyconv: right of the line, cyconv is faster", fontsize=12
    )
    figure.text(
        0.5, 0.005, f"{machine['cpu']}, {machine['threads']} threads, float32, {machine['date']}",
        ha="center", fontsize=8, color="0.4",
    )  # fmt: skip
    figure.tight_layout(rect=(0, 0.02, 1, 1))
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return True


def draw_panel(axis: Any, title: str, rows: dict[str, Any]) -> None:
    layers = list(rows)
    for peer, colour in COLOURS.items():
        found = cells_of(rows, peer)
        mean = mean_of(rows, peer)
        if mean:
            label = f"{peer}: {mean.mean:.2f}"
            axis.plot([], [], "o", ms=6, color=colour, label=label)
            for name, cell in found.items():
                # Hollow where other processes disturbed every block, as ~ in the tables.
                face = colour if cell.get("quiet", 1) else "none"
                place = layers.index(name)
                axis.plot(cell["ratio"], place, "o", ms=6, mec=colour, mfc=face, alpha=0.9)
            axis.axvline(mean.mean, color=colour, lw=1, ls=":", zorder=0)
    axis.axvline(1, color="black", lw=1.2, zorder=1)
    axis.axvspan(1e-3, 1, color="0.95", zorder=-1)
    axis.set_xscale("log", base=2)
    values = [cell["ratio"] for peer in COLOURS for cell in cells_of(rows, peer).values()]
    axis.set_xlim(min([0.45, *values]) / 1.1, max([2.2, *values]) * 1.1)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
    axis.tick_params(axis="x", labelsize=8)
    axis.set_ylim(len(layers) - 0.5, -0.5)
    axis.set_yticks(range(len(layers)), layers, fontsize=8)
    axis.grid(axis="y", color="0.9", lw=0.6)
    axis.set_title(title, fontsize=11)
    axis.legend(
        title="geometric mean", fontsize=8, title_fontsize=8, loc="upper center",
        bbox_to_anchor=(0.5, -0.05), ncols=2, frameon=False,
    )  # fmt: skip
