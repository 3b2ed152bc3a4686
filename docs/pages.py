"""An extension of Sphinx for these pages.

- A link to code leads to a page that shows it, not to a download. Pages say
  [`lowering.py`](../cyconv/algorithms/lowering.py), which also works where Markdown is read as it
  is; each file that is linked so becomes a page, code/cyconv/algorithms/lowering.py.html.
- The empty line that doctest wants before the fence that ends a block is not shown.
- (N, C, *spatial) in a docstring is a shape, not the beginning of an emphasis.
"""

import html
import re
from pathlib import Path

from docutils import nodes
from sphinx import addnodes

ROOT = Path(__file__).resolve().parent.parent
LEXERS = {".py": "python", ".pxi": "cython", ".pyx": "cython", ".h": "c"}
STAR = re.compile(r"(?<=[ (])\*(?=(spatial|kernel|output|size|x_size)\b)")


def redirect(app, doctree):
    """Turn downloads of code into references to its page, and remember which."""
    if app.builder.format != "html":
        return
    here = app.env.docname
    for node in list(doctree.findall(addnodes.download_reference)):
        file = (ROOT / "docs" / here).parent.joinpath(node["reftarget"]).resolve()
        if file.suffix in LEXERS:
            name = file.relative_to(ROOT).as_posix()
            linked(app).add(name)
            uri = app.builder.get_relative_uri(here, f"code/{name}")
            node.replace_self(nodes.reference("", "", *node.children, refuri=uri, internal=True))


def strip_blocks(app, doctree):
    for node in doctree.findall(nodes.literal_block):
        node.rawsource = node.astext().rstrip()
        node.clear()
        node += nodes.Text(node.rawsource)


def collect(app):
    """Yield a page for each file of code that any page links to."""
    for name in sorted(linked(app)):
        file = ROOT / name
        code = file.read_text(encoding="utf-8")
        body = app.builder.highlighter.highlight_block(code, LEXERS[file.suffix])
        title = f"<h1><code>{html.escape(name)}</code></h1>"
        yield f"code/{name}", {"title": name, "body": title + body}, "page.html"


def linked(app):
    """The names of these files; they are kept with what Sphinx keeps of the pages it has read."""
    if not hasattr(app.env, "linked_code"):
        app.env.linked_code = set()
    return app.env.linked_code


def escape_stars(app, what, name, obj, options, lines):
    lines[:] = [STAR.sub(r"\\*", line) for line in lines]


def setup(app):
    app.connect("doctree-read", redirect, priority=100)  # before Sphinx collects downloads
    app.connect("doctree-read", strip_blocks)
    app.connect("html-collect-pages", collect)
    app.connect("autodoc-process-docstring", escape_stars, priority=900)  # after numpydoc
