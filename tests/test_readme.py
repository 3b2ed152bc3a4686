"""What the README and the pages beside it show, runs."""

import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("page", ["README.md", "docs/plain_road.md", "docs/fast_road.md"])
def test_readme(page):
    result = doctest.testfile(str(ROOT / page), module_relative=False)
    assert result.attempted > 8
    assert result.failed == 0


@pytest.mark.skipif(not (ROOT / "cyconv").exists(), reason="they lead into the source")
@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))])
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if "://" in link:
            continue
        name, _, heading = link.partition("#")
        target = page.parent / name
        assert target.exists(), link
        if heading:
            assert heading in map(anchor, target.read_text().splitlines()), link


def anchor(line):
    """The name that a heading gets on GitHub."""
    return re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower()).replace(" ", "-")
