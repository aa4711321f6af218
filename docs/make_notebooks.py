"""Write the book as notebooks: `python docs/make_notebooks.py FOLDER` makes one out of each page.

Idea: text becomes cells of Markdown, and an example for Python's prompt becomes cells of code, with the output that the
page shows.  The prompt shows the value of every expression, a cell only that of its last one; so a cell ends wherever
the page shows something.  Listings are not run: they are the source, which `import minidiff` has.

Notebooks are not kept in the repository.  Each is there to be changed by its reader, whose copy would differ from the
repository's after the first cell that was run.  So a file that is there already is left as it is, a notebook as well as
a program of a chapter, which stands beside it.
"""

import ast
import doctest
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import make_pages
import measured
from make_pages import DIRECTIVE, DOCS

# What is more than running text: a fence with all that it holds, a folded box, a heading.
PART = re.compile(
    r"^```.*?^```$|^<details>\n<summary>(?P<summary>.+?)</summary>\n\n(?P<inside>.*?)\n\n</details>$|^##? [^\n]+$",
    re.MULTILINE | re.DOTALL,
)
NOTE = (
    "*This is a page of the book as a notebook. Shift-Enter runs a cell and goes on to the next one; a cell may need "
    "those above it. Change whatever you like.*"
)
ABOUT = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def make(folder: Path) -> tuple[list[Path], list[Path]]:
    """Write a notebook for each page, and the figures and the programs of the chapters beside them.

    Returns the files that are written, and those that are there already and stay as they are.
    """
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    made, kept = [], []
    for name in names():
        path = folder / f"{name}.ipynb"
        if path.exists():
            kept.append(path)
            continue
        text = json.dumps(notebook(name), indent=1, ensure_ascii=False) + "\n"
        path.write_text(text, encoding="utf-8")
        made.append(path)
        for figure in re.findall(r"\]\((figures/[\w.]+)\)", text):
            shutil.copyfile(DOCS / figure, folder / figure)
        for program in (DOCS / name).glob("*.py"):
            if not (folder / program.name).exists():
                shutil.copyfile(program, folder / program.name)
    return made, kept


def names() -> list[str]:
    """Return the names of all pages, in the book's order."""
    return ["index", *make_pages.order_of(_text("index"))]


def notebook(name: str) -> dict[str, Any]:
    """Return a page as a notebook, format 4.5 (https://nbformat.readthedocs.io/en/latest/format_description.html)."""
    text = DIRECTIVE.sub(_directive, measured.fill(_text(name)))
    if "\n```pycon\n" in text:
        text = text.replace("\n", f"\n\n{NOTE}\n", 1)
    cells = list(_cells(_links(text + make_pages.neighbours(name, names()[1:]), name)))
    for number, cell in enumerate(cells, 1):
        cell["id"] = f"{name}-{number}"
    return {"cells": cells, "metadata": ABOUT, "nbformat": 4, "nbformat_minor": 5}


def _text(name: str) -> str:
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def _directive(at: re.Match[str]) -> str:
    options = make_pages.options_of(at[3])
    if at[1] == "toctree":
        links = (f"- [{make_pages.title_of(name)}]({name}.md)" for name in make_pages.order_of(at[0]))
        return "\n".join([f"**{options['caption']}**\n", *links])
    shown = make_pages.listing(at[2].strip(), options)
    head = f"`{shown.path}`" + (f", `{shown.name}`" if shown.name else "")
    return f"{head}\n\n```{shown.language}\n{shown.text}\n```"


# ---- links ----------------------------------------------------------------------------------------------------------


def _links(text: str, page: str) -> str:
    """Return text whose links lead from notebook to notebook, without what only Sphinx understands.

    A page that computes in the browser is not beside a notebook, so of a link to it the text is left.
    """

    def link(at: re.Match[str]) -> str:
        name = at["name"] or page
        file = "index.ipynb" if name == "README" else f"{name}.ipynb" if at["name"] else ""
        return f"]({file}{'#' + anchors(name)[at['anchor']] if at['anchor'] else ''})"

    def prose(text: str) -> str:
        text = re.sub(r"(\]\(figures/[\w.]+\))\{\.\w+\}", r"\1", text)
        text = re.sub(r"\[([^\]]+)\]\(live/[\w.]+\)(?:\{\.\w+\})?", r"\1", text)
        return re.sub(r"\]\((?!\))(?:(?P<name>\w+)\.md)?(?:#(?P<anchor>[\w-]+))?\)", link, text)

    parts = re.split(r"(^```.*?^```$|`[^`\n]+`)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if part.startswith("`") else prose(part) for part in parts)


def anchors(name: str) -> dict[str, str]:
    """Return what Jupyter calls the headings of a page, by what the book calls them."""
    text = re.sub(r"^```.*?^```$", "", _text(name), flags=re.MULTILINE | re.DOTALL)
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-"): head.replace("`", "").replace(" ", "-")
        for head in heads
    }


# ---- cells ----------------------------------------------------------------------------------------------------------


def _cells(text: str, summary: str = "") -> Iterator[dict[str, Any]]:
    """Yield the cells of a text, in order.  summary: of the folded box whose inside the text is, if it is one.

    A section begins a cell of its own.  A box that holds examples becomes several cells, as HTML ends with its cell:
    its text stays folded, and its code is hidden until it is clicked.
    """
    begin = 0
    for part in PART.finditer(text):
        example, box = part[0].startswith("```pycon\n"), part["inside"] and "```pycon\n" in part["inside"]
        if not (example or box or part[0].startswith("#")):
            continue  # a listing or a whole box belongs to the text around it
        before = text[begin : part.start()].strip()
        if summary and begin == 0 and not before:
            before = "In the next cell, which is folded too."
        yield from _markdown(before, summary, begin > 0)
        begin = part.end()
        if example:
            yield from _examples(part[0], hidden=bool(summary))
        elif box:
            yield from _cells(part["inside"], part["summary"])
        else:
            begin = part.start()
    yield from _markdown(text[begin:].strip(), summary, begin > 0)


def _markdown(text: str, summary: str, continued: bool) -> Iterator[dict[str, Any]]:
    if text:
        if summary:
            head = f"{summary} (continued)" if continued else summary
            text = f"<details>\n<summary>{head}</summary>\n\n{text}\n\n</details>"
        yield {"cell_type": "markdown", "id": "", "metadata": {}, "source": text.splitlines(keepends=True)}


def _examples(block: str, hidden: bool) -> Iterator[dict[str, Any]]:
    """Yield the cells of one block of examples: each but the last ends with what the page shows."""
    statements: list[str] = []
    examples = doctest.DocTestParser().get_examples(block.removeprefix("```pycon\n").removesuffix("```"))
    for number, example in enumerate(examples, 1):
        statements.append(example.source)
        if example.want or number == len(examples):
            yield _code(statements, example, hidden)
            statements = []


def _code(statements: list[str], last: doctest.Example, hidden: bool) -> dict[str, Any]:
    """Return a cell of code.  last: its last statement, whose output it shows."""
    # a block that is indented ends with an empty line, as code does that is not typed at the prompt
    source = "".join(one + "\n" * one.splitlines()[-1].startswith(" ") for one in statements).rstrip("\n")
    metadata: dict[str, Any] = {"jupyter": {"source_hidden": True, "outputs_hidden": True}} if hidden else {}
    if last.exc_msg:
        metadata["tags"] = ["raises-exception"]  # running all cells goes on after it
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": "",
        "metadata": metadata,
        "outputs": _outputs(last),
        "source": source.splitlines(keepends=True),
    }


def _outputs(example: doctest.Example) -> list[dict[str, Any]]:
    """Return what the page shows under an example, as Jupyter keeps it: printed text, a value or an exception."""
    text = example.want.replace(f"{doctest.BLANKLINE_MARKER}\n", "\n")
    if not text:
        return []
    if example.exc_msg:
        name, _, message = example.exc_msg.rstrip("\n").partition(": ")
        return [{"output_type": "error", "ename": name.split(".")[-1], "evalue": message, "traceback": [text.rstrip()]}]
    last = ast.parse(example.source).body[-1]
    if isinstance(last, ast.Expr) and not ast.unparse(last).startswith("print("):
        value = {"text/plain": text.rstrip("\n").splitlines(keepends=True)}
        return [{"output_type": "execute_result", "execution_count": None, "metadata": {}, "data": value}]
    return [{"output_type": "stream", "name": "stdout", "text": text.splitlines(keepends=True)}]


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python docs/make_notebooks.py FOLDER")
    made, kept = make(Path(sys.argv[1]))
    print(f"{len(made)} notebooks written, {len(kept)} that are there already left as they are")


if __name__ == "__main__":
    main()
