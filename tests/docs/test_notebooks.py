"""The book as notebooks: nothing of a page is lost, and its examples, run as cells, give what the page shows.

test_documentation.py runs all examples as Python's prompt does.  Here they are compared with the cells, and one
notebook is run; before a release, all of them, in a real kernel.
"""

import ast
import contextlib
import doctest
import importlib.util
import io
import json
import os
import re
import sys
from pathlib import Path

import pytest

from minidiff import backend
from tests.needs import lacking

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path.stem for path in DOCS.glob("*.md"))
EXAMPLES = re.compile(r"^```pycon\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WITH_EXAMPLES = [page for page in PAGES if EXAMPLES.search((DOCS / f"{page}.md").read_text(encoding="utf-8"))]
BOX = re.compile(r"^<details>\n<summary>.+?</summary>\n\n.+?\n\n</details>$", re.MULTILINE | re.DOTALL)


def page_text(page: str) -> str:
    return (DOCS / f"{page}.md").read_text(encoding="utf-8")


def cells(notebook: dict, kind: str) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def source(cell: dict) -> str:
    return "".join(cell["source"])


def prose(notebook: dict) -> str:
    return "\n\n".join(source(cell) for cell in cells(notebook, "markdown"))


def shown(outputs: list[dict]) -> str:
    """What is seen below a cell: printed text, then the value, or the last line of an exception."""
    printed = "".join("".join(one["text"]) for one in outputs if one["output_type"] == "stream")
    values = [one["data"]["text/plain"] for one in outputs if one["output_type"] == "execute_result"]
    errors = [f"{one['ename']}: {one['evalue']}" for one in outputs if one["output_type"] == "error"]
    return "\n".join([*printed.splitlines(), *map("".join, values), *errors])


@pytest.fixture(scope="module")
def folder(make_notebooks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebooks")
    made, kept = make_notebooks.make(folder)
    assert kept == [] and made == [folder / f"{name}.ipynb" for name in make_notebooks.names()]
    return folder


@pytest.fixture(scope="module")
def notebooks(folder):
    """All notebooks, by the names of their pages."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.ipynb")}


# ---- what is in them ------------------------------------------------------------------------------------------------


def test_every_page_is_a_notebook(notebooks):
    assert sorted(notebooks) == PAGES
    for name, notebook in notebooks.items():
        assert source(notebook["cells"][0]).startswith(page_text(name).splitlines()[0] + "\n")
        ids = [cell["id"] for cell in notebook["cells"]]
        assert len(set(ids)) == len(ids) and all(re.fullmatch(r"[\w-]{1,64}", one) for one in ids)


def test_they_are_valid(notebooks):
    if importlib.util.find_spec("nbformat") is None:
        lacking("jupyter", "nbformat knows what a notebook is, and is not installed: it comes with the extra notebooks")
    import nbformat

    for notebook in notebooks.values():
        nbformat.validate(notebook)


def test_a_notebook_that_is_there_stays_as_it_is(make_notebooks, notebooks, tmp_path):
    mine, program = tmp_path / f"{WITH_EXAMPLES[0]}.ipynb", tmp_path / "mini.py"
    for path in (mine, program):
        path.write_text("mine", encoding="utf-8")
    made, kept = make_notebooks.make(tmp_path)
    assert kept == [mine] and mine.read_text(encoding="utf-8") == program.read_text(encoding="utf-8") == "mine"
    again = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in made}
    assert again == {name: notebook for name, notebook in notebooks.items() if name != mine.stem}


def test_code_of_cells_is_that_of_the_examples(notebooks):
    for page in PAGES:
        text = "\n".join(EXAMPLES.findall(page_text(page)))
        examples = doctest.DocTestParser().get_examples(text)
        code = cells(notebooks[page], "code")
        # without comments and empty lines, which the parser of examples and cells treat in their own ways
        expected = ast.dump(ast.parse("".join(example.source for example in examples)))
        assert ast.dump(ast.parse("\n".join(map(source, code)))) == expected, page
        comments = re.findall("#.*", "".join(example.source for example in examples))
        assert re.findall("#.*", "\n".join(map(source, code))) == comments, page
        wants = [example.want for example in examples if example.want]
        assert len(wants) == sum(bool(cell["outputs"]) for cell in code)
        for want, cell in zip(wants, (cell for cell in code if cell["outputs"])):
            # of an exception the page shows a head, and where its class is
            assert shown(cell["outputs"]) == re.sub(r"^Traceback .*\n(?:\w+\.)*", "", want).rstrip("\n")


def test_nothing_of_the_text_is_lost(notebooks, make_pages, measured):
    for page in PAGES:
        written, text = prose(notebooks[page]), measured.fill(page_text(page))
        for one in make_pages.listings(text):
            assert f"```{one.language}\n{one.text}\n```" in written
        assert written.count("$$") == text.count("$$")
        for block in re.findall(r"^```(?:sh|text|python)\n.*?^```$", text, re.MULTILINE | re.DOTALL):
            assert block in written
        for heading in re.findall(r"^#+ .*$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.MULTILINE):
            assert re.search(rf"^{re.escape(heading)}$", written, re.MULTILINE)
        assert "```pycon" not in written
        running = re.sub(r"^```.*?^```$|\$\$.*?\$\$|\$[^$]*\$|`[^`\n]+`", "", written, flags=re.MULTILINE | re.DOTALL)
        assert re.findall(r"^:::|\{\{|\]\([^)]*\)\{|\{\w+\}`|```\{", running, re.MULTILINE) == [], page


def test_every_section_begins_a_cell(notebooks):
    for page, notebook in notebooks.items():
        for cell in cells(notebook, "markdown"):
            text = re.sub(r"^```.*?^```$", "", source(cell), flags=re.MULTILINE | re.DOTALL)
            heads = [at.start() for at in re.finditer(r"^##? ", text, re.MULTILINE)]
            assert heads in ([], [0]), f"{page}: {text[:60]}"


def test_boxes_are_folded_and_end_with_their_cells(notebooks):
    """HTML ends with its cell: what a box holds is there once, folded, and its code is hidden."""
    for page in PAGES:
        boxes = BOX.findall(page_text(page))
        assert len(boxes) == page_text(page).count("<details>")
        inside = [block for box in boxes for block in EXAMPLES.findall(box)]
        examples = doctest.DocTestParser().get_examples("\n".join(inside))
        hidden = [cell for cell in cells(notebooks[page], "code") if cell["metadata"].get("jupyter")]
        expected = {"source_hidden": True, "outputs_hidden": True}
        assert all(cell["metadata"]["jupyter"] == expected for cell in hidden)
        code = ast.dump(ast.parse("".join(example.source for example in examples)))
        assert ast.dump(ast.parse("\n".join(map(source, hidden)))) == code, page
        written = [source(cell) for cell in cells(notebooks[page], "markdown")]
        for text in written:
            assert text.count("<details>") == text.count("</details>") == len(BOX.findall(text))
        folded = "\n".join(one for text in written for one in BOX.findall(text))
        for box in boxes:
            (summary,) = re.findall("<summary>.+?</summary>", box, re.DOTALL)
            assert summary in folded


def headings(notebook: dict) -> set[str]:
    """What Jupyter calls the headings: their text, with hyphens for spaces."""
    text = re.sub(r"^```.*?^```$", "", prose(notebook), flags=re.MULTILINE | re.DOTALL)
    return {head.replace("`", "").replace(" ", "-") for head in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


def test_links_and_figures_lead_somewhere(folder, notebooks):
    found, anchored = 0, 0
    for name, notebook in notebooks.items():
        text = re.sub(r"^```.*?^```$|`[^`\n]+`(?!\])", "", prose(notebook), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if target.startswith("https://"):
                continue
            path, _, anchor = target.partition("#")
            assert not path or (folder / path).is_file(), f"{name} leads to {target}"
            if anchor:
                assert anchor in headings(notebooks[Path(path).stem or name]), f"{name} leads to {target}"
                anchored += 1
            found += 1
    assert found > 100 and anchored > 20


# ---- running them ---------------------------------------------------------------------------------------------------


def run_as_a_cell(code: str, names: dict) -> str:
    """Run code as Jupyter does, and return what is seen: what it prints, and the value of its last expression."""
    body, said = ast.parse(code).body, io.StringIO()
    last = body.pop() if isinstance(body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(said):
        exec(compile(ast.Module(body, []), "cell", "exec"), names)
        value = eval(compile(ast.Expression(last.value), "cell", "eval"), names) if isinstance(last, ast.Expr) else None
    return said.getvalue() + ("" if value is None else repr(value))


def test_the_first_notebook_runs_from_top_to_bottom(make_notebooks, notebooks, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = next(name for name in make_notebooks.names() if name in WITH_EXAMPLES)
    names: dict = {}
    with backend.using("numpy"):
        for cell in cells(notebooks[name], "code"):
            assert run_as_a_cell(source(cell), names).rstrip("\n") == shown(cell["outputs"]), cell["id"]


@pytest.fixture(scope="module")
def kernel(folder, tmp_path_factory):
    """A function that runs code in a kernel, which begins in the folder of the notebooks, and returns its outputs."""
    if importlib.util.find_spec("ipykernel") is None:
        lacking("jupyter", "ipykernel runs notebooks, and is not installed: it comes with the extra notebooks")
    home = tmp_path_factory.mktemp("kernel")
    kinds = ("IPYTHONDIR", *(f"JUPYTER_{kind}_DIR" for kind in ("CONFIG", "DATA", "RUNTIME")))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**dict.fromkeys(kinds, str(home)), "JUPYTER_PLATFORM_DIRS": "1"}.items():
            patch.setenv(name, value)
        from jupyter_client.manager import KernelManager

        manager = KernelManager()
        manager.start_kernel(cwd=str(folder), env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])})
        client = manager.client()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=120)

            def run(code: str) -> list[dict]:
                said: list[dict] = []
                client.execute_interactive(
                    code, timeout=600, allow_stdin=False, stop_on_error=False, output_hook=said.append
                )
                return [
                    {"output_type": message["msg_type"], **message["content"]}
                    for message in said
                    if message["msg_type"] in ("stream", "execute_result", "error")
                ]

            yield run
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)


@pytest.mark.release
@pytest.mark.parametrize("page", WITH_EXAMPLES)
def test_cells_show_in_a_kernel_what_the_page_shows(page, notebooks, kernel):
    """On the backend that a reader gets.  Jupyter breaks a long list or tuple into lines, a prompt does not."""
    kernel("%reset -f")
    for cell in cells(notebooks[page], "code"):
        outputs = kernel(source(cell))
        stopped = [one for one in outputs if one["output_type"] == "error"]
        assert bool(stopped) == ("raises-exception" in cell["metadata"].get("tags", [])), (cell["id"], shown(outputs))
        assert shown(outputs).split() == shown(cell["outputs"]).split(), cell["id"]
