"""The measured numbers of all texts, by name, out of measurements.toml.

Idea: a number that was measured stands in one file, with the machine and the command that gave it.  A page of the book
says `{{ peers.plain.ratio }}` and gets 2.15; `{{ short mnist.frechet }}` leaves out what stands behind the value, as an
interval.  Texts that code hosts show as they are (README.md) spell the numbers out, and a test compares them.
"""

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("measurements.toml")
ABOUT = ("machine", "command")  # of a table: where and how its numbers were measured


@cache
def tables() -> dict[str, Any]:
    return tomllib.loads(FILE.read_text(encoding="utf-8"))


def names() -> set[str]:
    """Return the full names of all numbers."""

    def walk(table: dict[str, Any], prefix: str) -> set[str]:
        inside = ((f"{prefix}.{name}", value) for name, value in table.items() if name not in ABOUT)
        return {each for name, value in inside for each in (walk(value, name) if isinstance(value, dict) else {name})}

    return {name for table, values in tables().items() if table != "machines" for name in walk(values, table)}


def value(name: str) -> str:
    """Return the number of that name, as texts show it.  Raises KeyError that says which one is missing."""
    found: Any = tables()
    for part in name.split("."):
        if not isinstance(found, dict) or part not in found:
            raise KeyError(f"{FILE.name} has no number {name}")
        found = found[part]
    if not isinstance(found, str):
        raise KeyError(f"{FILE.name}: {name} is a table of numbers, not a number")
    return found


def short(name: str) -> str:
    """Return the number without what stands behind it: an interval in brackets, or ± and a spread."""
    whole = value(name)
    unit = re.search(r"± [\d.]+( ms| s)$", whole)
    return re.split(r" \(| ±", whole)[0] + (unit[1] if unit else "")


def fill(text: str) -> str:
    """Put the numbers in the places of their names."""
    return re.sub(r"\{\{ (short )?([\w.]+) \}\}", lambda at: (short if at[1] else value)(at[2]), text)
