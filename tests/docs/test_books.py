"""The book as one file: an e-book that its format allows, one page whose links lead somewhere, and a PDF of it."""

import html.parser
import importlib.util
import re
import subprocess
import sys
import unicodedata
import zipfile
from collections import Counter
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

import pytest

from tests.browser import NAMES, Browser, find
from tests.needs import lacking

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
XHTML, OPF = "{http://www.w3.org/1999/xhtml}", "{http://www.idpf.org/2007/opf}"
STRICT = ("--fail-on-warning", "--keep-going")
TEXT_WIDTH = 680  # CSS pixels between the margins of a printed page: 180 mm at 96 to the inch


@pytest.fixture(scope="module")
def chapters(make_pages):
    """The names of all pages but the first, in the book's order, and their titles without marks of Markdown."""
    names = make_pages.order_of((DOCS / "index.md").read_text(encoding="utf-8"))
    return {name: make_pages.title_of(name).replace("`", "") for name in names}


@pytest.fixture(scope="module")
def doctrees(tmp_path_factory):
    """A folder for what Sphinx has read, which is the same for both books."""
    if lacks := [name for name in ("sphinx", "myst_parser", "latex2mathml") if importlib.util.find_spec(name) is None]:
        lacking("sphinx", f"{', '.join(lacks)} is not installed, which the book is built with: the extra docs has it")
    return tmp_path_factory.mktemp("doctrees")


# ---- the e-book -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def epub(doctrees, tmp_path_factory):
    """The files of the e-book, by their names, in their order."""
    folder = tmp_path_factory.mktemp("epub")
    command = [sys.executable, "-m", "sphinx", *STRICT, "--quiet", "--builder", "epub", "-d", doctrees, DOCS, folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(folder / "minidiff.epub") as book:
        assert book.infolist()[0].filename == "mimetype" and book.infolist()[0].compress_type == zipfile.ZIP_STORED
        return {name: book.read(name) for name in book.namelist()}


@pytest.fixture(scope="module")
def pages(epub):
    """The pages of the e-book, read as XML."""
    return {name: ElementTree.fromstring(data) for name, data in epub.items() if name.endswith(".xhtml")}


@pytest.mark.release
def test_the_e_book_lists_what_it_holds(epub, pages, chapters):
    assert epub["mimetype"] == b"application/epub+zip"
    package = ElementTree.fromstring(epub["content.opf"])
    items = {item.get("id"): item for item in package.iter(f"{OPF}item")}
    assert {item.get("href") for item in items.values()} == set(epub) - {
        "mimetype",
        "META-INF/container.xml",
        "content.opf",
    }
    for item in items.values():
        if (name := item.get("href")) in pages:
            formulas = any(node.tag.endswith("}math") for node in pages[name].iter())
            assert ("mathml" in item.get("properties", "").split()) == formulas, name
    places = (place for place in package.iter(f"{OPF}itemref") if not place.get("linear"))
    spine = [items[place.get("idref")].get("href") for place in places]
    assert spine == ["index.xhtml", *(f"{name}.xhtml" for name in chapters)]
    assert sum("mathml" in item.get("properties", "") for item in items.values()) > 10


@pytest.mark.release
def test_every_chapter_of_the_e_book_is_whole(pages, chapters, make_pages):
    for name in chapters:
        page, text = pages[f"{name}.xhtml"], (DOCS / f"{name}.md").read_text(encoding="utf-8")
        assert "".join(page.find(f".//{XHTML}h1").itertext()) == chapters[name]
        code = ["".join(block.itertext()).rstrip() for block in page.iter(f"{XHTML}pre")]
        for one in make_pages.listings(text):
            assert one.text in code
        boxes = list(page.iter(f"{XHTML}details"))
        assert len(boxes) == text.count("<details>")
        assert all(box.get("open") for box in boxes)  # a screen of e-ink may not unfold them
        blocks = [node for node in page.iter() if node.tag.endswith("}math") and node.get("display") == "block"]
        assert len(blocks) == text.count("$$") // 2


@pytest.mark.release
def test_every_link_of_the_e_book_leads_somewhere(epub, pages):
    names = {name: {node.get("id") for node in page.iter()} for name, page in pages.items()}
    found = Counter()
    for page, tree in pages.items():
        for node in tree.iter():
            target = node.get("href") or node.get("src")
            if not target or target.startswith("https://"):
                continue
            file, _, anchor = target.partition("#")
            file = str(PurePosixPath(page).parent / file) if file else page
            assert file in epub, f"{page} leads to {target}"
            assert not anchor or anchor in names[file], f"{page} leads to {target}"
            found[node.tag.removeprefix(XHTML)] += 1
    assert found["a"] > 100 and found["img"] > 40


# ---- the page that is printed ---------------------------------------------------------------------------------------


class Links(html.parser.HTMLParser):
    """The names of a page's parts, and the addresses that it asks for or leads to."""

    def __init__(self):
        super().__init__()
        self.names, self.targets = Counter(), []

    def handle_starttag(self, tag, attributes):
        about = dict(attributes)
        self.names.update([about["id"]] if "id" in about else [])
        if (target := about.get("href") or about.get("src")) is not None:
            self.targets.append(target)


@pytest.fixture(scope="module")
def page(make_pdf, doctrees, tmp_path_factory):
    return make_pdf.page(tmp_path_factory.mktemp("page"), *STRICT, "-d", str(doctrees))


@pytest.mark.release
def test_all_chapters_are_one_page_whose_links_lead_somewhere(page, chapters):
    text = page.read_text(encoding="utf-8")
    links = Links()
    links.feed(text)
    assert [name for name, count in links.names.items() if count > 1] == []
    for target in links.targets:
        if target.startswith("#"):
            assert target == "#" or target[1:] in links.names, target
        elif not target.startswith("https://"):
            assert (page.parent / target.partition("?")[0]).is_file(), target
    for name in chapters:
        assert f"#document-{name}" in links.targets and links.names[f"document-{name}"] == 1
    sources = [path.read_text(encoding="utf-8") for path in DOCS.glob("*.md")]
    assert text.count('<details open="open">') == sum(source.count("<details>") for source in sources)
    assert "<details>" not in text


@pytest.mark.release
def test_the_page_has_the_parts_of_the_table_of_contents(page):
    captions = re.findall(r"^:caption: (.+)$", (DOCS / "index.md").read_text(encoding="utf-8"), re.MULTILINE)
    text = page.read_text(encoding="utf-8")
    assert re.findall("<h2>(.+?)</h2>", text) == ["Contents", *captions]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if find() is None:
        lacking("browser", f"there is no Chromium here: MINIDIFF_BROWSER, or one of {', '.join(NAMES)}, would be used")
    with Browser(tmp_path_factory.mktemp("browser")) as started:
        yield started


@pytest.mark.release
def test_nothing_is_wider_than_the_paper(browser, page):
    browser.size(TEXT_WIDTH)
    browser.ask("Emulation.setEmulatedMedia", media="print")
    browser.open(page)
    wide = browser.js(
        """[...document.querySelectorAll("pre, table, img, math, p, li, h1, h2, h3, h4, h5")].filter((e) =>
            e.getBoundingClientRect().right > innerWidth + 1 || e.scrollWidth > e.clientWidth + 1 && e.clientWidth
        ).map((e) => `${e.tagName} ${Math.round(e.getBoundingClientRect().right)}: ${e.textContent.slice(0, 60)}`)"""
    )
    assert wide == []


# ---- the PDF --------------------------------------------------------------------------------------------------------


@pytest.mark.release
def test_the_pdf_has_all_chapters_each_on_a_page_of_its_own(make_pdf, page, browser, chapters, tmp_path):
    if importlib.util.find_spec("pypdf") is None:
        lacking("pypdf", "pypdf reads PDF files, and is not installed: it comes with the extra test")
    import pypdf

    file = tmp_path / "book.pdf"
    file.write_bytes(make_pdf.printed(page))
    book = pypdf.PdfReader(file)
    # a typesetter's "fi" is one character, which is taken apart
    texts = [unicodedata.normalize("NFKC", " ".join(one.extract_text().split())) for one in book.pages]
    assert len(texts) > 3 * len(chapters)

    def entries(outline):
        for one in outline:
            yield from entries(one) if isinstance(one, list) else [(one.title, book.get_destination_page_number(one))]

    places = {}
    for title, number in entries(book.outline):
        places.setdefault(title, number)
    begins = [places[title] for title in chapters.values()]
    assert begins == sorted(set(begins)), "each chapter begins a page, and they stand in their order"
    for title, number in zip(chapters.values(), begins):
        assert title in texts[number]
    # what is folded on a screen is open on paper
    assert sum("Answer" in text for text in texts) > 10
    whole = " ".join(texts)
    for words in ("A noisy image is a clean image plus noise", "squared error is smallest at the mean", ">>> import"):
        assert words in whole


def test_without_a_browser_one_line_says_so(make_pdf, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("MINIDIFF_BROWSER", raising=False)
    with pytest.raises(SystemExit) as left:
        make_pdf.main(["book.pdf"])
    assert "there is none: none of chromium, " in left.value.code and len(left.value.code.splitlines()) == 1
    monkeypatch.setenv("MINIDIFF_BROWSER", str(tmp_path / "chrome"))
    with pytest.raises(SystemExit) as left:
        make_pdf.main(["book.pdf"])
    assert f"there is none: MINIDIFF_BROWSER, {tmp_path / 'chrome'}" in left.value.code
