"""How the book is built: `sphinx-build -W -b html docs OUT`, without a network.

Formulas become MathML, which browsers draw themselves.  Listings and measured numbers come from make_pages.py and
measured.py, as on the pages for code hosts.  The only script of a page puts a button beside each listing that copies
it: twenty lines of our own (_static/copy.js), which is less than a package to keep up with.  The pages that compute are
not made by Sphinx: make_live.py writes them beside the others.  one_file.py has what the e-book (`-b epub`) and the
page that make_pdf.py prints (`-b singlehtml`) need besides.
"""

import sys
from html import escape
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from latex2mathml.converter import convert
from sphinx.util.docutils import SphinxDirective

sys.path.insert(0, str(Path(__file__).parent))
import make_live
import make_pages
import measured
import one_file

from minidiff import __version__

project = "minidiff"
author = "The minidiff authors"
copyright = author
version = release = __version__

extensions = ["myst_parser"]
myst_enable_extensions = ["attrs_inline", "colon_fence", "dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "read"]

html_theme = "furo"
html_title = "minidiff"
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_js_files = [("copy.js", {"defer": "defer"})]
html_math_renderer = "mathml"
html_show_sphinx = False
html_copy_source = False
pygments_style = "tango"
pygments_dark_style = "monokai"

epub_css_files = ["paper.css"]
epub_uid = "minidiff"
epub_identifier = f"minidiff {__version__}"
epub_description = "A diffusion model written with nothing but arrays, and explained: a textbook that reads its source."
epub_contributor = author
epub_show_urls = "no"  # a reader follows a link
epub_tocdup = False
epub_use_index = False
# What sphinx-build keeps for its next run lies in the folder that becomes the e-book; it is left out of it.
suppress_warnings = ["epub.unknown_project_files"]


class Listing(SphinxDirective):
    """A piece of the source under the name of its file, which leads to the whole of it."""

    required_arguments, has_content = 1, False
    option_spec = dict.fromkeys(("pyobject", "start-at", "end-before"), directives.unchanged)

    def run(self):
        try:
            shown = make_pages.listing(self.arguments[0], self.options)
        except (OSError, ValueError) as error:
            return [self.state.document.reporter.warning(str(error), line=self.lineno)]
        self.env.note_dependency(str(make_pages.ROOT / shown.path))
        name = f"{shown.path}: {shown.name}" if shown.name else shown.path
        link = nodes.reference("", "", nodes.literal("", name), refuri=f"{page_of(shown.path)}.html#line-{shown.line}")
        code = nodes.literal_block(shown.text, shown.text, language=shown.language)
        box = nodes.container("", nodes.caption("", "", link), code, literal_block=True)
        box["classes"] = ["literal-block-wrapper"]
        return [box]


def page_of(path: str) -> str:
    return f"source/{path}"


def source_pages(app):
    """Yield a page for each file that the book shows something of, with numbered lines to link to."""
    if not has_pages_beside_it(app):
        return
    shown = {one.path: one.language for page in make_pages.DOCS.glob("*.md") for one in listings_of(page)}
    for path, language in sorted(shown.items()):
        code = app.builder.highlighter.highlight_block(
            (make_pages.ROOT / path).read_text(encoding="utf-8"),
            language,
            linenos="inline",
            lineanchors="line",
            anchorlinenos=True,
        )
        yield page_of(path), {"title": path, "body": f"<h1>{escape(path)}</h1>{code}"}, "page.html"


def has_pages_beside_it(app) -> bool:
    """Whether the book is a folder of pages, among which are those of source files and those that compute."""
    return app.builder.name == "html"


def listings_of(page: Path):
    return make_pages.listings(page.read_text(encoding="utf-8"))


def fill(app, name, source):
    """Put the measured numbers into a page before it is read."""
    source[0] = measured.fill(source[0])


def renew(app, env, added, changed, removed):
    """Read all pages again when a number has changed."""
    time = measured.FILE.stat().st_mtime_ns
    before, env.minidiff_numbers = getattr(env, "minidiff_numbers", None), time
    return env.found_docs if before not in (None, time) else []


def resolved(app, tree, name):
    """Make a page, whose links lead to addresses by now, fit into a book of one file."""
    if not has_pages_beside_it(app):
        one_file.stand_alone(tree)
    if app.builder.name == "singlehtml":
        one_file.join(tree, app.env)


def live_pages(app, error):
    """Write the pages that compute in the browser, and the weights that they draw with."""
    if error is None and has_pages_beside_it(app):
        make_live.make(Path(app.outdir))


def mathml(latex: str, display: str) -> str:
    """Return a formula as MathML.  latex2mathml leaves the sign < as it is, which only a browser forgives."""
    return convert(latex, display=display).replace("><</", ">&lt;</")


def _inline(self, node):
    self.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def _block(self, node):
    self.body.append(f'<div class="math" role="math" aria-label="{escape(node.astext())}">')
    self.body.append(mathml(node.astext(), "block"))
    self.body.append("</div>")
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.add_directive("literalinclude", Listing, override=True)
    app.add_builder(one_file.Epub, override=True)
    app.connect("source-read", fill)
    app.connect("env-get-outdated", renew)
    app.connect("doctree-resolved", resolved)
    app.connect("html-collect-pages", source_pages)
    app.connect("build-finished", live_pages)
