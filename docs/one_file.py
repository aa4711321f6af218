"""The book as one file: what an e-book, and the page that make_pdf.py prints, need besides what conf.py does.

Idea: such a file stands alone and is read on paper, or on a screen where perhaps nothing unfolds.  So its boxes are
open, and it has no link to a page that is not inside it: those of source files, and those that compute.  On the page
that holds all chapters, each heading needs a name that no other chapter uses.
"""

import re

from docutils import nodes
from sphinx import addnodes
from sphinx.builders.epub3 import Epub3Builder

BESIDE = ("source/", "live/")  # folders of pages that only the built pages have beside them


def stand_alone(tree: nodes.document) -> None:
    """Open all boxes, and leave of links to pages that are not in the file only their text."""
    for link in list(tree.findall(nodes.reference)):
        if link.get("refuri", "").startswith(BESIDE):
            link.parent.replace(link, link.children)
    for box in tree.findall(nodes.raw):
        box[0] = nodes.Text(box.astext().replace("<details>", '<details open="open">'))


def join(tree: nodes.document, env) -> None:
    """Make a book of the page that holds all chapters: a table of contents, parts, and links that lead somewhere.

    tree: the first page of the book, with the chapters in the places of its tables of contents.
    """
    for file in tree.findall(addnodes.start_of_file):
        for node in file.findall(nodes.Element):
            node["ids"] = [f"{file['docname']}-{name}" for name in node["ids"]]
            if "refid" in node:
                node["refid"] = f"{file['docname']}-{node['refid']}"
    for link in tree.findall(nodes.reference):
        if "refuri" in link:  # names the chapter and then the heading, which no browser understands
            link["refuri"] = re.sub(r"^#document-(.+)#(.+)$", r"#\1-\2", link["refuri"])
    places = [node for node in tree.findall(nodes.compound) if "toctree-wrapper" in node["classes"]]
    toctrees = list(env.get_doctree(env.config.root_doc).findall(addnodes.toctree))
    before = places[0].parent
    before.insert(before.index(places[0]), contents(toctrees, env))
    for number, (place, toctree) in enumerate(zip(places, toctrees, strict=True), 1):
        caption = toctree["caption"]
        part = nodes.section("", nodes.title(caption, caption), *place.children, ids=[f"part-{number}"])
        place.parent.replace(place, part)


def contents(toctrees: list[addnodes.toctree], env) -> nodes.section:
    """Return a table of contents: each part with its chapters."""
    section = nodes.section("", nodes.title("Contents", "Contents"), ids=["contents"])
    for toctree in toctrees:
        section += nodes.paragraph(toctree["caption"], toctree["caption"])
        section += (chapters := nodes.bullet_list())
        for _, name in toctree["entries"]:
            title = env.titles[name].astext()
            link = nodes.reference(title, title, refuri=f"#document-{name}", internal=True)
            chapters += nodes.list_item("", nodes.paragraph("", "", link))
    return section


class Epub(Epub3Builder):
    """Sphinx's builder does not say which pages hold MathML, as EPUB 3.3 asks of the list of files; this one does."""

    def build_content(self) -> None:
        super().build_content()
        package = self.outdir / "content.opf"
        text = package.read_text(encoding="utf-8")
        for name in self.files:
            if name.endswith(self.out_suffix) and "<math" in (self.outdir / name).read_text(encoding="utf-8"):
                text = text.replace(f'href="{name}" media-type', f'href="{name}" properties="mathml" media-type')
        package.write_text(text, encoding="utf-8")
