"""No function has more than 12 parameters, and no file is longer than one sitting: what belongs together is a tuple."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOST = 12  # parameters, without self and cls
LONGEST = {"minidiff": 300, "kernels": 400}  # lines of a file


def functions(path: Path):
    """Each function of a file: its name, and how many parameters it has."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            yield node.name, len([a for a in every if a.arg not in ("self", "cls")])


def sources(folder: str) -> list[Path]:
    inside = (ROOT / folder).rglob("*.py")
    return sorted(p for p in inside if folder == "kernels" or "kernels" not in p.relative_to(ROOT / folder).parts)


@pytest.mark.parametrize("folder", ["minidiff", "kernels"])
def test_no_function_has_more_parameters_than_a_reader_can_hold(folder):
    found: dict[str, dict[str, int]] = {}
    for path in sources(folder):
        long = {name: count for name, count in functions(path) if count > MOST}
        if long:
            found[path.relative_to(ROOT).as_posix()] = long
    assert found == {}


@pytest.mark.parametrize("folder", LONGEST)
def test_no_file_is_longer_than_one_sitting(folder):
    files = [*sources(folder), *(ROOT / folder).glob("*/*.cu")]
    assert len(files) > 50
    long = {p.name: n for p in files if (n := len(p.read_text("utf-8").splitlines())) > LONGEST[folder]}
    assert long == {}


def test_a_long_list_would_show(tmp_path):
    names = ", ".join(f"a{i}" for i in range(MOST))
    path = tmp_path / "long.py"
    path.write_text(f"class A:\n    def f(self, {names}, *, b): ...\n")
    assert list(functions(path)) == [("f", MOST + 1)]
