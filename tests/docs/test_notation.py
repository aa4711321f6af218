"""The table of notation.md names the code of today, and within one file a name stands for one quantity."""

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def rows() -> list[tuple[list[str], list[Path]]]:
    """The names and the files of each row of the table."""
    lines = re.findall(r"^\| (?!symbol|---).*\|$", (ROOT / "docs" / "notation.md").read_text("utf-8"), re.MULTILINE)
    cells = [re.split(r"\s*\|\s*", line)[1:-1] for line in lines]
    assert all(len(row) == 5 for row in cells)
    return [
        (re.findall(r"`(\w+)`", row[1]), [place(name) for name in re.findall(r"`([^`]+)`", row[4])]) for row in cells
    ]


def place(name: str) -> Path:
    """A file that the table names: from the root of the repository, or from minidiff/."""
    found = [path for path in (ROOT / name, ROOT / "minidiff" / name) if path.is_file()]
    assert found, f"notation.md names {name}, which is no file"
    return found[0]


ROWS = rows()


@pytest.mark.parametrize(("names", "files"), ROWS, ids=[", ".join(names) for names, _ in ROWS])
def test_each_name_occurs_in_the_files_of_its_row(names, files):
    assert names and files
    texts = {file: file.read_text(encoding="utf-8") for file in files}
    for name in names:
        assert any(re.search(rf"\b{name}\b", text) for text in texts.values()), f"{name} is in none of its files"
    for file, text in texts.items():
        assert any(re.search(rf"\b{name}\b", text) for name in names), f"{file.name} has no name of its row"


def test_within_one_file_a_name_stands_for_one_quantity():
    counts = Counter((name, file) for names, files in ROWS for name in names for file in files)
    assert len(ROWS) > 30
    assert [f"{name} in {file.name}" for (name, file), count in counts.items() if count > 1] == []


def test_a_name_with_several_rows_says_so_in_each():
    counts = Counter(name for names, _ in ROWS for name in names)
    text = (ROOT / "docs" / "notation.md").read_text(encoding="utf-8")
    for names, _ in ROWS:
        for name in names:
            if counts[name] > 1 and len(names) < 8:  # h and w are also a height and a width, in a row of their own
                cell = ", ".join(f"`{one}`" for one in names)
                (line, *_) = (line for line in text.splitlines() if f"| {cell} |" in line)
                assert "another $" in line, f"{name} has {counts[name]} rows, and this one does not say so: {line}"
