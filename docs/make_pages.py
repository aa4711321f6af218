"""Write the book for code hosts: `python docs/make_pages.py` makes docs/read/ out of docs/*.md.

A code host shows Markdown as it is: it knows neither the book's listings (`literalinclude`) nor its measured numbers
nor its tables of contents, and wants formulas written in another way.  So each page is kept a second time, with all of
that written out.  A test fails when one is out of date.  conf.py takes listings and numbers from the same functions.
"""

import ast
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import measured

DOCS = Path(__file__).parent
ROOT = DOCS.parent
READ = DOCS / "read"
DIRECTIVE = re.compile(r"^```\{(\w+)\}([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LANGUAGES = {".py": "python", ".cu": "c++"}


class Listing(NamedTuple):
    """A piece of a source file.  path: from the repository's root.  line: of the file, where it begins, from 1."""

    path: str
    name: str
    line: int
    language: str
    text: str


def listing(argument: str, options: dict[str, str]) -> Listing:
    """Return what a `literalinclude` in docs/ shows: an object of a Python file, or the lines from one to another.

    argument: the file's path from docs/.  options: pyobject, or start-at and end-before.
    Raises ValueError if the file has no such thing.
    """
    file = (DOCS / argument).resolve()
    lines = file.read_text(encoding="utf-8").splitlines()
    path, name = file.relative_to(ROOT).as_posix(), options.get("pyobject", "")
    if name:
        first, last = _object(ast.parse("\n".join(lines)), name, path)
    else:
        first = _line(lines, options["start-at"], 0, path)
        last = _line(lines, options["end-before"], first + 1, path) if "end-before" in options else len(lines)
    text = textwrap.dedent("\n".join(lines[first:last]).rstrip())
    return Listing(path, name, first + 1, LANGUAGES[file.suffix], text)


def _object(tree: ast.AST, name: str, path: str) -> tuple[int, int]:
    """Return where a function, class or method begins, decorators included, and where it ends."""
    for part in name.split("."):
        inside = (node for node in ast.iter_child_nodes(tree) if getattr(node, "name", None) == part)
        if (found := next(inside, None)) is None:
            raise ValueError(f"{path} has no {name}")
        tree = found
    return min(node.lineno for node in (tree, *tree.decorator_list)) - 1, tree.end_lineno


def _line(lines: list[str], text: str, start: int, path: str) -> int:
    text = text.strip("\"'")
    for number in range(start, len(lines)):
        if text in lines[number]:
            return number
    raise ValueError(f"{path} has no line with {text!r}")


def options_of(body: str) -> dict[str, str]:
    """Return a directive's options."""
    return {name: value.strip() for name, value in re.findall(r"^:([\w-]+):(.*)$", body, re.MULTILINE)}


def listings(text: str) -> list[Listing]:
    """Return all listings of a page."""
    return [listing(at[2].strip(), options_of(at[3])) for at in DIRECTIVE.finditer(text) if at[1] == "literalinclude"]


def pages() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each page of docs/read."""
    order = order_of((DOCS / "index.md").read_text(encoding="utf-8"))
    for source in sorted(DOCS.glob("*.md")):
        name = "README.md" if source.stem == "index" else source.name
        made = f"<!-- Made of docs/{source.name} by `python docs/make_pages.py`: change that one, and run this. -->\n\n"
        yield name, made + written_out(source.read_text(encoding="utf-8")) + neighbours(source.stem, order)


def written_out(text: str) -> str:
    """Return a page without anything that a code host does not know."""
    text = DIRECTIVE.sub(_directive, measured.fill(text))
    parts = re.split(r"(^```.*?^```$|`[^`\n]+`)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if part.startswith("`") else _prose(part) for part in parts)


def _directive(at: re.Match[str]) -> str:
    if at[1] == "toctree":
        caption = options_of(at[3])["caption"]
        return "\n".join([f"**{caption}**\n", *(f"- [{title_of(name)}]({name}.md)" for name in order_of(at[0]))])
    shown = listing(at[2].strip(), options_of(at[3]))
    head = f"[`{shown.path}`](../../{shown.path})" + (f", `{shown.name}`" if shown.name else "")
    return f"{head}\n\n```{shown.language}\n{shown.text}\n```"


def _prose(text: str) -> str:
    """Formulas as code hosts write them; images, and pages that compute, from one folder further down."""
    text = re.sub(r"\$\$(.+?)\$\$", lambda at: f"```math\n{at[1].strip()}\n```", text, flags=re.DOTALL)
    text = re.sub(r"(?<!\$)\$([^$`]+?)\$(?!\$)", lambda at: f"$`{' '.join(at[1].split())}`$", text)
    text = re.sub(r"(\]\((?:figures|live)/[\w.]+\))\{\.\w+\}", r"\1", text)
    return text.replace("](figures/", "](../figures/").replace("](live/", "](../live/")


def order_of(text: str) -> list[str]:
    """Return the pages that tables of contents name, in their order."""
    bodies = (at[3] for at in DIRECTIVE.finditer(text) if at[1] == "toctree")
    return [line for body in bodies for line in body.split() if (DOCS / f"{line}.md").is_file()]


def title_of(name: str) -> str:
    return (DOCS / f"{name}.md").read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")


def neighbours(name: str, order: list[str]) -> str:
    """Return the last line of a page: what comes before it, what after it, and the table of contents."""
    if name not in order:
        return ""
    i = order.index(name)
    before = [f"[← {title_of(one)}]({one}.md)" for one in order[max(0, i - 1) : i]]
    after = [f"[{title_of(one)} →]({one}.md)" for one in order[i + 1 : i + 2]]
    return "\n---\n\n" + " · ".join([*before, "[Contents](README.md)", *after]) + "\n"


def main() -> None:
    made = dict(pages())
    READ.mkdir(exist_ok=True)
    for path in READ.glob("*.md"):
        if path.name not in made:
            path.unlink()
    for name, text in made.items():
        (READ / name).write_text(text, encoding="utf-8")
    print(f"{len(made)} pages in {READ}")


if __name__ == "__main__":
    sys.exit(main())
