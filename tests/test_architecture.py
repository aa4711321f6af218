"""The house stands as drawn: imports run one way, kernels know nothing of minidiff, the wheel holds what is tracked."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from pathlib import Path

import pytest

import minidiff

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "minidiff"


def reading_order() -> list[str]:
    """Return the files of minidiff/, "nn/unet", as docs/reading_order.md lists them; each may import earlier ones."""
    text = (ROOT / "docs" / "reading_order.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| `minidiff/([\w/]*)` \| (.*?) \|", text, re.MULTILINE)
    return [place + name for place, files in table for name in re.findall(r"`([\w/]+)`", files)]


ORDER = reading_order()


@cache
def modules():
    return sorted(p for p in PACKAGE.rglob("*.py") if "kernels" not in p.relative_to(PACKAGE).parts)


def rank(name):
    """The place of "minidiff.nn.unet" in the order; a package, which shows its files, stands after them."""
    parts = "/".join(name.split(".")[1:])
    if parts in ORDER:
        return ORDER.index(parts)
    return max((i for i, file in enumerate(ORDER) if file.startswith(parts + "/")), default=-1) + 0.5


@cache
def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def module_name(path):
    parts = ["minidiff", *path.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imported(path):
    """Every minidiff module that a file imports, wherever in the file the import stands."""
    return list(_imported(path))


def _imported(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "minidiff")
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "minidiff":
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                home = PACKAGE.joinpath(*name.split(".")[1:])
                yield name if home.is_dir() or home.with_suffix(".py").is_file() else node.module


def test_the_reading_order_lists_each_file_once():
    files = [p.relative_to(PACKAGE).with_suffix("").as_posix() for p in modules() if p.name != "__init__.py"]
    assert sorted(ORDER) == sorted(files)


def test_no_docstring_tells_a_place_in_the_reading_order():
    """The table is the only list; a second one would go out of date."""
    told = re.compile(
        r"(^|[.;:]\s+)((After|Before|Beside) [\w/]+(\.py|/)|(First|Second|Third|Fourth|Last) file of |Read [\w/]+\.py)"
        r"|reading order",
        re.MULTILINE,
    )
    docstrings = {p: ast.get_docstring(tree(p)) or "" for p in modules()}
    assert {module_name(p): m[0] for p, text in docstrings.items() if (m := told.search(text))} == {}


@pytest.mark.parametrize("path", modules(), ids=lambda p: module_name(p))
def test_imports_run_one_way(path):
    name = module_name(path)
    for other in imported(path):
        if other.startswith("minidiff.kernels"):
            assert name == "minidiff.backend", f"{name} imports {other}: only backend.py knows the kernels"
        elif name == "minidiff":
            continue  # the front door may show any room
        elif path.name == "__init__.py" and other.startswith(name + "."):
            continue  # a package shows what is inside it
        else:
            assert rank(other) < rank(name), f"{name} imports {other}, which stands after it"


def test_no_circles():
    edges = {module_name(p): {o for o in imported(p) if o != "minidiff"} for p in modules()}
    edges["minidiff"] = set()
    seen, path = set(), []

    def walk(name):
        assert name not in path, " imports ".join([*path[path.index(name) :], name])
        if name in seen:
            return
        path.append(name)
        for other in edges.get(name, ()):
            walk(other)
        path.pop()
        seen.add(name)

    for name in edges:
        if not any(name == module_name(p) and p.name == "__init__.py" for p in modules()):
            walk(name)


def test_kernels_know_nothing_of_minidiff():
    for path in sorted((ROOT / "kernels").rglob("*.py")):
        for other in imported(path):
            assert other.startswith("minidiff.kernels"), f"{path.relative_to(ROOT)} imports {other}"


def test_no_framework_and_no_pickle():
    banned = {"torch", "jax", "tensorflow", "pickle", "autograd", "sklearn"}
    for path in [*modules(), *(ROOT / "kernels").rglob("*.py")]:
        nodes = list(ast.walk(tree(path)))
        names = {a.name.split(".")[0] for n in nodes if isinstance(n, ast.Import) for a in n.names}
        names |= {n.module.split(".")[0] for n in nodes if isinstance(n, ast.ImportFrom) and n.module}
        if path == ROOT / "kernels" / "numba_compile.py":  # where Numba keeps machine code, as pickles
            names.discard("pickle")
        assert not names & banned, f"{path.relative_to(ROOT)} imports {names & banned}"


def test_packages_are_listed():
    """pyproject's hand-written list holds every folder with Python in it, and no other."""
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["packages"])
    found = {module_name(p) for p in PACKAGE.rglob("__init__.py") if "kernels" not in p.relative_to(PACKAGE).parts}
    found |= {"minidiff.kernels"}
    found |= {f"minidiff.kernels.{p.parent.name}" for p in (ROOT / "kernels").glob("*/__init__.py")}
    assert listed == found


def checkout(parent, linked):
    """Copy what a build needs to parent/minidiff; linked: with the symbolic link that a checkout may lack."""
    pytest.importorskip("setuptools", reason="it is built with setuptools")
    copy = parent / "minidiff"
    ignore = shutil.ignore_patterns("__pycache__", "*.nbi", "*.nbc", "*.egg-info", "kernels")
    shutil.copytree(PACKAGE, copy / "minidiff", ignore=ignore)
    shutil.copytree(ROOT / "kernels", copy / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    link = copy / "minidiff" / "kernels"
    link.symlink_to("../kernels") if linked else link.write_text("../kernels")
    return copy


def build(copy, what):
    """Have setuptools build a "wheel" or an "editable" one of a checkout; return it."""
    program = f"import setuptools.build_meta as b; b.build_{what}('dist')"
    run = subprocess.run([sys.executable, "-c", program], cwd=copy, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    (wheel,) = (copy / "dist").glob("*.whl")
    return zipfile.ZipFile(wheel)


@pytest.mark.parametrize("linked", [True, False])
def test_wheel_holds_what_is_in_the_tree(tmp_path, linked):
    wheel = build(checkout(tmp_path, linked), "wheel")
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    tracked = {f"minidiff/{p.relative_to(PACKAGE).as_posix()}" for p in modules()}
    kernels = [*(ROOT / "kernels").rglob("*.py"), *(ROOT / "kernels").rglob("*.cu")]
    pages = [p for p in PACKAGE.rglob("*") if p.suffix in (".html", ".css", ".js", ".svg")]
    assert {p.suffix for p in pages} == {".html", ".css", ".js", ".svg"}
    tracked |= {f"minidiff/{p.relative_to(PACKAGE).as_posix()}" for p in pages}
    tracked |= {f"minidiff/weights/{p.name}" for p in (PACKAGE / "weights").iterdir()}
    tracked |= {f"minidiff/kernels/{p.relative_to(ROOT / 'kernels').as_posix()}" for p in kernels}
    assert inside == tracked | {"minidiff/py.typed"}  # the types of its functions are for who calls it, too
    (about,) = (wheel.read(name).decode() for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    assert f"\nVersion: {minidiff.__version__}\n" in about
    (scripts,) = (wheel.read(name).decode() for name in wheel.namelist() if name.endswith("/entry_points.txt"))
    assert scripts == "[console_scripts]\nminidiff = minidiff.__main__:main\n"


def test_an_editable_install_is_found_from_beside_the_clone(tmp_path):
    """There the clone is a folder called minidiff, which Python would take for a package if it found no other."""
    copy, installed = checkout(tmp_path, linked=True), tmp_path / "installed"
    build(copy, "editable").extractall(installed)
    program = (
        "import sys, site, importlib.util; sys.path.insert(0, ''); site.addsitedir(sys.argv[1]);"
        "print(importlib.util.find_spec('minidiff').origin)"
    )
    command = [sys.executable, "-S", "-E", "-c", program, installed]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()
    assert Path(found) == copy / "minidiff" / "__init__.py"


def test_no_two_classes_have_the_same_name():
    places = {}
    for path in modules():
        for node in tree(path).body:
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(module_name(path))
    assert len(places) > 80
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
