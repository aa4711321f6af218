"""Print the book: `python docs/make_pdf.py FILE.pdf`.

Idea: Sphinx makes one page of the whole book, and a Chromium or Chrome prints it.  Such a browser draws MathML, so no
TeX is needed.  _static/paper.css says what the printed page looks like.  MINIDIFF_BROWSER may name the program.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parent
NEEDED = ("sphinx", "myst_parser", "latex2mathml")
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
LOOK = ("html_theme=basic", "html_theme_options.nosidebar=true", "html_css_files=paper.css", "html_permalinks=0")
OPTIONS = [
    "--headless", "--no-pdf-header-footer", "--generate-pdf-document-outline",
    "--no-sandbox",  # a container has no right to make one; the one page opened is our own
    "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


def browser() -> str:
    """Return the program that prints: what MINIDIFF_BROWSER names, or a Chromium on the path; exit if there is none."""
    named = os.environ.get("MINIDIFF_BROWSER")
    found = next(filter(None, map(shutil.which, [named] if named else NAMES)), None)
    if found is None:
        where = f"MINIDIFF_BROWSER, {named}" if named else f"none of {', '.join(NAMES)} is on the path"
        sys.exit(f"A Chromium or Chrome prints the book, and there is none: {where}; MINIDIFF_BROWSER may name one")
    return found


def page(folder: Path, *options: str) -> Path:
    """Build the book as one page in a folder, and return its file.  options: further ones of sphinx-build."""
    look = [word for setting in LOOK for word in ("-D", setting)]
    command = [sys.executable, "-m", "sphinx", "--quiet", "--builder", "singlehtml", *look, *options, DOCS, folder]
    subprocess.run(command, cwd=DOCS.parent, check=True)
    return folder / "index.html"


def printed(page: Path, file: Path, program: str) -> None:
    """Print a page into a PDF file; exit with what the browser says if it has not done it."""
    where = (f"--user-data-dir={page.parent / 'profile'}", f"--print-to-pdf={file}", page.as_uri())
    done = subprocess.run([program, *OPTIONS, *where], capture_output=True, text=True, errors="replace")
    if done.returncode or not file.is_file():
        sys.exit(f"{program} ended with {done.returncode} and has not printed {page}:\n{done.stderr}")


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        sys.exit("usage: python docs/make_pdf.py FILE.pdf")
    program, file = browser(), Path(arguments[0]).resolve()
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        sys.exit(f"{', '.join(missing)} is not installed, which the book is built with: pip install -e '.[docs]'")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    # beside the file, as a browser that is a snap sees another /tmp
    with tempfile.TemporaryDirectory(dir=file.parent, ignore_cleanup_errors=True) as folder:
        printed(page(Path(folder)), file, program)
    print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(sys.argv[1:])
