"""Chapters are numbered in the order in which they stand, and each says what it needs: only chapters before it."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
CHAPTERS = sorted(DOCS.glob("chapter*.md"), key=lambda page: int(page.stem[7:]))


def in_order() -> list[str]:
    """The chapters as the tables of contents name them, from the first part to the last."""
    text = (DOCS / "index.md").read_text(encoding="utf-8")
    tables = re.findall(r"^```\{toctree\}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [line for table in tables for line in table.split() if line.startswith("chapter")]


def test_chapters_are_numbered_in_the_order_of_the_parts():
    assert in_order() == [f"chapter{i}" for i in range(1, len(CHAPTERS) + 1)]
    assert in_order() == [page.stem for page in CHAPTERS]


@pytest.mark.parametrize("page", CHAPTERS, ids=lambda page: page.stem)
def test_a_chapter_needs_only_chapters_that_stand_before_it(page):
    begin = re.match(r"# (\d+)\. .+\n\n\*Needs: ([^*]+)\.\*\n\n", page.read_text(encoding="utf-8"))
    assert begin, "a line below the title says what the chapter needs: *Needs: [chapter 1](chapter1.md), and ….*"
    number, needs = int(begin[1]), " ".join(begin[2].split())
    assert page.stem == f"chapter{number}"
    links = re.findall(r"\[chapter (\d+)\]\(chapter(\d+)\.md\)", needs)
    assert needs.lower().count("chapter") == 2 * len(links), "a chapter is named by a link, as above"
    needed = [int(shown) for shown, _ in links]
    assert needed == [int(led) for _, led in links] == sorted(set(needed)), "in their order, each once"
    assert bool(needed) == (number > 1) and all(before < number for before in needed)
