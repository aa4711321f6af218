"""The tables of chapter 13 are those of the studio: its routes, and what becomes of other programs' fields."""

import re
from pathlib import Path

import pytest

pytest.importorskip("starlette")

from starlette.routing import Match

from minidiff.studio.a1111_fields import FIELDS, Field
from minidiff.studio.api import Api
from minidiff.studio.openai_api import FIELDS as OPENAI

CHAPTER = (Path(__file__).parents[2] / "docs" / "chapter13.md").read_text(encoding="utf-8")
EXAMPLES = {"ID": "d1", "USE": "init", "N": "1", "K": "2", "STEP": "3", "WHAT": "x_t"}  # what stands for what


def rows(head: str) -> list[list[str]]:
    """The cells of the table under a head."""
    (table,) = re.findall(rf"^\| {re.escape(head)} .*\n\| ---.*\n((?:\|.*\n)+)", CHAPTER, re.MULTILINE)
    return [line.strip("| ").split(" | ") for line in table.splitlines()]


def becomes(field: Field) -> str:
    return "refused" if field.only is not None else "ignored" if field.kind is None else "taken"


def test_the_table_of_routes_is_whole():
    routes, found = Api(None).routes(), set()
    for cell, *_ in rows("route"):
        for method, path in re.findall(r"`(GET|POST) (\S+)`", cell):
            path = re.sub(r"\b[A-Z]+\b", lambda at: EXAMPLES[at[0]], path)
            scope = {"type": "http", "method": method, "path": path}
            route = next((each for each in routes if each.matches(scope)[0] == Match.FULL), None)
            assert route is not None, f"the studio has no {method} {path}"
            found.add(route.path)
    assert found == {route.path for route in routes}
    assert "/api/watch" in " ".join(cell for cell, *_ in rows("route"))


def test_the_table_of_fields_says_what_becomes_of_them():
    told = {}
    for fields, text in rows("AUTOMATIC1111's field"):
        what = re.search("taken|ignored|refused", text)[0]
        told |= dict.fromkeys(re.findall(r"`(\w+)`", fields), what)
    assert len(told) > 20
    assert told == {name: becomes(FIELDS[name]) for name in told}


def test_the_table_of_openais_fields_says_what_becomes_of_them():
    told = [(name, text) for fields, text in rows("OpenAI's field") for name in re.findall(r"`(\w+)`", fields)]
    told = [(name, text) for name, text in told if name in OPENAI]
    assert {name for name, _ in told} >= {"prompt", "n", "seed", "size", "response_format", "stream"}
    for name, text in told:
        assert text.startswith("ignored") == ("ignored" in OPENAI[name]), name
