"""Print the book: `python docs/make_pdf.py FILE.pdf`.

Idea: Sphinx makes one page of the whole book, and a Chromium or Chrome prints it, driven as in the tests of pages.
Such a browser draws MathML, so no TeX is needed.  What is printed looks as _paper/layout.html and _static/paper.css
say.  MINIDIFF_BROWSER may name the program.
"""

import base64
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

from tests.browser import NAMES, Browser, find  # noqa: E402  (the folder of tests is beside docs)

NEEDED = ("sphinx", "myst_parser", "latex2mathml")
LOOK = (
    "html_theme=basic", "html_theme_options.nosidebar=true", "templates_path=_paper", "html_css_files=paper.css",
    "html_permalinks=0",
)  # fmt: skip


def check() -> None:
    """Exit with one line if what prints the book or what builds it is not here."""
    if (found := find()) is None or shutil.which(found) is None:
        where = f"MINIDIFF_BROWSER, {found}" if found else f"none of {', '.join(NAMES)} is on the path"
        sys.exit(f"A Chromium or Chrome prints the book, and there is none: {where}; MINIDIFF_BROWSER may name one")
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        sys.exit(f"{', '.join(missing)} is not installed, which the book is built with: pip install -e '.[docs]'")


def page(folder: Path, *options: str) -> Path:
    """Build the book as one page in a folder, and return its file.  options: further ones of sphinx-build."""
    look = [word for setting in LOOK for word in ("-D", setting)]
    command = [sys.executable, "-m", "sphinx", "--quiet", "--builder", "singlehtml", *look, *options, DOCS, folder]
    subprocess.run(command, cwd=DOCS.parent, check=True)
    return folder / "index.html"


def printed(page: Path) -> bytes:
    """Return a page as it is printed: a PDF file's bytes, with an outline of the chapters.

    Exits with what the browser says if it has not done it.
    """
    look = {"preferCSSPageSize": True, "printBackground": True, "generateDocumentOutline": True}
    try:
        with Browser(page.parent / "profile", patience=600) as browser:
            browser.open(page)
            return base64.b64decode(browser.ask("Page.printToPDF", **look)["data"])
    except (OSError, RuntimeError) as error:  # of time-outs too
        sys.exit(f"{find()} has not printed {page}: {error}")


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        sys.exit("usage: python docs/make_pdf.py FILE.pdf")
    check()
    file = Path(arguments[0]).resolve()
    file.parent.mkdir(parents=True, exist_ok=True)
    # beside the file, as a browser that is a snap sees another /tmp
    with tempfile.TemporaryDirectory(dir=file.parent, ignore_cleanup_errors=True) as folder:
        made = Path(folder) / "book.pdf"
        made.write_bytes(printed(page(Path(folder))))
        made.replace(file)
    print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(sys.argv[1:])
