"""How Sphinx makes the HTML pages: `make docs`, then open build/docs/index.html."""

import sys
from pathlib import Path

import cyconv

sys.path.insert(0, str(Path(__file__).parent))  # for pages.py

project = "cyconv"
author = "the cyconv developers"
project_copyright = author
version = release = cyconv.__version__

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "pages"]
exclude_patterns = ["figures"]
myst_heading_anchors = 3  # as on GitHub, so that a link to a heading works on both
default_role = "py:obj"  # `conv` in a docstring is a link to it
nitpicky = True
# What is written of a type is for people ("int or one int a spatial axis"), so it is no link, and
# `x` may be an argument.
nitpick_ignore_regex = [("py:obj", r"\w+"), ("py:class", r".*")]

smartquotes = False  # "valid" is code as often as not

autodoc_preserve_defaults = True
autodoc_typehints = "none"  # the docstrings say it, with shapes
autodoc_member_order = "bysource"
numpydoc_show_class_members = False  # autodoc does
numpydoc_validation_checks = {
    "all",
    # A docstring without these may be complete.
    "ES01",  # an extended summary
    "SA01",  # see also
    # Here "array, shape (N, C)" is a type; "stride, dilation" are described together, and options
    # that are those of another function by its name alone.
    "PR03",
    "PR04",
    "RT02",
}
# Properties, and what describe returns, have no example; functions of neighbours refer to those of
# cyconv for their arguments.
numpydoc_validation_exclude = {
    r"\.(weight|bias|dtype|frozen)$",
    r"\.Description$",
    r"\.interop\.",
}

html_theme = "furo"
html_title = f"cyconv {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_show_sphinx = False
html_copy_source = False
