"""What the README and the pages beside it show, runs."""

import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]


@pytest.mark.parametrize("page", [page for page in PAGES if ">>> " in page.read_text("utf-8")])
def test_examples_of_a_page(page):
    result = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    examples = re.findall(r"^ *>>> .*", page.read_text("utf-8"), re.MULTILINE)
    assert result.attempted >= len([line for line in examples if "doctest: +SKIP" not in line]) > 0
    assert result.failed == 0


@pytest.mark.skipif(not (ROOT / "cyconv").exists(), reason="they lead into the source")
@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)]+)\)", text):
        if "://" in link:
            continue
        name, _, heading = link.partition("#")
        target = page.parent / name
        assert target.exists(), link
        if heading:
            assert heading in map(anchor, target.read_text("utf-8").splitlines()), link


def anchor(line):
    """The name that a heading gets on GitHub."""
    return re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower()).replace(" ", "-")
