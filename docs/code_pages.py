"""An extension of Sphinx: a link to code leads to a page that shows it, not to a download.

The pages say [`lowering.py`](../cyconv/algorithms/lowering.py), which also works where Markdown is
read as it is. Each file that is linked so becomes the page code/cyconv/algorithms/lowering.py.html.
"""

import html
from pathlib import Path

from docutils import nodes
from sphinx import addnodes

ROOT = Path(__file__).resolve().parent.parent
LEXERS = {".py": "python", ".pxi": "cython", ".pyx": "cython", ".h": "c"}


def redirect(app, doctree):
    """Turn downloads of code into references to its page."""
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
    """Drop the empty line that doctest wants before the fence that ends a block."""
    for node in doctree.findall(nodes.literal_block):
        text = node.astext().rstrip()
        node.rawsource = text
        node.children = [nodes.Text(text)]


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


def setup(app):
    app.connect("doctree-read", redirect, priority=100)  # before Sphinx collects downloads
    app.connect("doctree-read", strip_blocks)
    app.connect("html-collect-pages", collect)
