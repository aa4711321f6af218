"""How the book is built: `sphinx-build -W -b html docs OUT`, without a network.

Formulas become MathML, which browsers draw themselves, so a page needs no JavaScript and nothing from elsewhere.
"""

from html import escape

from docutils import nodes
from latex2mathml.converter import convert

project = "minidiff"
author = "The minidiff authors"
copyright = author

extensions = ["myst_parser"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = "minidiff"
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_math_renderer = "mathml"
html_show_sphinx = False
html_copy_source = False
pygments_style = "tango"
pygments_dark_style = "monokai"


def _inline(self, node):
    self.body.append(convert(node.astext()))
    raise nodes.SkipNode


def _block(self, node):
    self.body.append(f'<div class="math" role="math" aria-label="{escape(node.astext())}">')
    self.body.append(convert(node.astext(), display="block"))
    self.body.append("</div>")
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
