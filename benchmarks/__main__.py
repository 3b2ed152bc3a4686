"""Run the suite: `python -m benchmarks [SECTION ...]`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from . import accuracy, overall, roofline
from .contest import Tables, merge
from .layers import BATCH, LATENCY, LAYERS, MEMORY, is_large
from .layerwise import measure_layer
from .machine import cores, describe, warn_of_overrides
from .peers import TORCH, Cyconv, Peer, available_peers
from .report import machine_text, markdown
from .summary import aims_text, means_text
from .timing import FULL, QUICK, Effort

LAYERWISE = ("forward", "image", "train", "float64", "accuracy", "algorithms")
OVERALL = ("latency", "threads", "batch", "memory", "builds")
# Not part of a complete run: they have pages of their own, the roofline one for each road.
SEPARATE = ("roofline", "errors")
QUICK_SECTIONS = ("forward", "image", "train", "latency")
# Where a complete run leaves its results.
COMPLETE = Path("docs/benchmarks.json")

Step = tuple[str, Callable[[], Tables]]


def main(arguments: Sequence[str] | None = None) -> None:
    options = read_arguments(arguments)
    if options.redraw:
        write_report(json.loads(options.json.read_text()), options.json)
        return
    warn_of_overrides()
    results: dict[str, Any] = {"machine": describe(options.threads), "tables": {}}
    for tables in progress(plan(options)):
        merge(results["tables"], tables)
        if options.json:  # at each step: a long run that fails late has not been for nothing
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps(round_all(results), indent=1) + "\n")
    if options.json and not options.no_report:
        write_report(results, options.json)
    print(markdown(results))
    print(f"{means_text(results['tables'])}\n\n{aims_text(results)}".strip())


def read_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "sections",
        nargs="*",
        metavar="SECTION",
        help=f"of: {', '.join(LAYERWISE + OVERALL)}; and, only when named, {', '.join(SEPARATE)}",
    )
    parser.add_argument("--quick", action="store_true", help="under a minute, against PyTorch NCHW")
    parser.add_argument("--only", nargs="+", metavar="LAYER", help="these layers of the table")
    parser.add_argument("--peers", nargs="*", metavar="NAME", help="these peers (beginnings do)")
    parser.add_argument("--threads", type=int, default=cores(), help="of every engine")
    parser.add_argument(
        "--json",
        type=Path,
        metavar="PATH",
        help=f"write results, and .md and .png beside them (a complete run: {COMPLETE})",
    )
    parser.add_argument("--no-report", action="store_true", help="the JSON alone")
    parser.add_argument("--redraw", action="store_true", help="only make the report of --json anew")
    options = parser.parse_args(arguments)
    if unknown := set(options.sections) - {*LAYERWISE, *OVERALL, *SEPARATE}:
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    names = [layer.name for layer in [*LAYERS, *LATENCY]]
    if unknown := set(options.only or ()) - set(names):
        parser.error(f"no such layer: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    if options.redraw and not options.json:
        parser.error("--redraw needs --json")
    if not (options.json or options.sections or options.quick or options.only):
        options.json = COMPLETE
    default = QUICK_SECTIONS if options.quick else LAYERWISE + OVERALL
    options.sections = options.sections or default
    if options.quick and options.peers is None:
        options.peers = [TORCH]
    return options


def plan(options: argparse.Namespace) -> list[Step]:
    """The work, in steps that each tick the progress bar once."""
    effort: Effort = QUICK if options.quick else FULL
    peers: list[Peer] = [Cyconv(options.threads), *available_peers(options.threads, options.peers)]
    layers = [layer for layer in LAYERS if options.only is None or layer.name in options.only]
    steps: list[Step] = []

    def add(label: str, function: Callable[..., Tables], *arguments: Any) -> None:
        steps.append((label, partial(function, *arguments)))

    layerwise = [section for section in options.sections if section in LAYERWISE]
    for layer in layers if layerwise else ():
        add(layer.name, measure_layer, layer, layerwise, peers, effort)
    for layer in LATENCY if "latency" in options.sections else ():
        if options.only is None or layer.name in options.only:
            add(f"latency {layer.name}", overall.latency, layer, peers, effort)
    for layer in filter(is_large, layers) if "threads" in options.sections else ():
        add(f"threads {layer.name}", overall.threads, layer, options.threads, effort)
    for layer in layers:
        if "batch" in options.sections and layer.name in BATCH:
            add(f"batch {layer.name}", overall.batch, layer, options.threads, effort)
        if "memory" in options.sections:
            others = layer.name in MEMORY
            add(f"memory {layer.name}", overall.memory, layer, peers if others else peers[:1])
    if "roofline" in options.sections:
        add("roofs", roofline.measure_roofs, options.threads, effort)
        for layer in layers:
            add(f"roofline {layer.name}", roofline.measure_layer, layer, peers, effort)
    for channels in accuracy.CHANNELS if "errors" in options.sections else ():
        add(f"errors {channels}", accuracy.measure, channels, peers)
    for name, environment in overall.builds().items() if "builds" in options.sections else ():
        passed = ["--threads", str(options.threads), *(["--quick"] if options.quick else [])]
        passed += ["--only", *options.only] if options.only else []
        add(f"build {name}", overall.build, name, environment, passed)
    return steps


def progress(steps: list[Step]) -> Any:
    """Do the steps, one tick each."""
    from tqdm import tqdm

    bar = tqdm(steps, unit="case")
    for label, work in bar:
        bar.set_description(f"{label:24}")
        yield work()


def write_report(results: dict[str, Any], path: Path) -> None:
    """The Markdown and the picture, beside the JSON; a second picture is the roofline's."""
    from .picture import draw
    from .roofline_picture import draw_roofline

    picture = path.with_suffix(".png")
    if set(results["tables"]) == {"errors"}:
        text = accuracy.page(results, machine_text(results["machine"]), picture.name)
        path.with_suffix(".md").write_text(text)
        accuracy.draw_errors(results, picture)
        return
    path.with_suffix(".md").write_text(markdown(results))
    if draw(results, picture):
        picture = path.with_name(f"{path.stem}-roofline.png")
    draw_roofline(results, picture)


def round_all(value: Any) -> Any:
    """Four digits of every float: more would only make noise in the repository's history."""
    if isinstance(value, dict):
        return {key: round_all(item) for key, item in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
