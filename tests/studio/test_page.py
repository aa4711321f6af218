"""The studio's page as files: it runs under the policy that the server sends, and has what its parts look for."""

import re
from importlib import resources

import pytest

PAGE = resources.files("minidiff.studio").joinpath("page")
FILES = {each.name: each.read_text(encoding="utf-8") for each in PAGE.iterdir() if each.is_file()}
SCRIPTS = sorted(name for name in FILES if name.endswith(".js"))
HTML = FILES["index.html"]
CONTROLS = {
    "prompt", "negative", "count", "seed", "dice", "sampler", "steps", "guidance", "guidance-low",
    "guidance-high", "model", "init", "strength", "mask-canvas", "control-canvas", "control-scale", "reference",
    "reference-scale", "draw", "cancel", "pause", "step-once", "scrub", "branch", "inside", "tab-studio",
    "tab-gallery", "tab-training", "status", "compiling", "film", "tree",
}  # fmt: skip


def test_nothing_is_inline():
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|<script(?![^>]*\ssrc=)", HTML)


@pytest.mark.parametrize("name", sorted(FILES))
def test_no_other_host_is_named(name):
    assert set(re.findall(r"\bhttps?://[^\s\"'/)]+", FILES[name])) <= {
        "http://www.w3.org"
    }  # a namespace, not asked for


@pytest.mark.parametrize("name", SCRIPTS)
def test_text_never_enters_as_markup(name):
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", FILES[name])


@pytest.mark.parametrize("name", SCRIPTS)
def test_imports_are_files_that_export_the_names(name):
    line = r"^import (?:\{(.*?)\} from |\* as \w+ from )?\"\./(.*?)\";"
    for names, path in re.findall(line, FILES[name], re.MULTILINE):
        assert path in FILES
        for each in filter(None, (part.strip() for part in names.split(","))):
            export = rf"^export (?:async )?(?:function|class|const|let) {re.escape(each)}(?!\w)"
            assert re.search(export, FILES[path], re.MULTILINE), each


def test_every_script_is_reached_from_the_first():
    reached, wanted = set(), ["main.js"]
    while wanted:
        name = wanted.pop()
        if name not in reached:
            reached.add(name)
            wanted += re.findall(r"(?:from|import) \"\./(.*?)\"", FILES[name])
    assert reached == set(SCRIPTS)


def test_ids_are_there_once():
    ids = re.findall(r"\sid=\"(.*?)\"", HTML)
    assert len(ids) == len(set(ids))
    assert set(ids) >= CONTROLS
    looked_for = set().union(*(re.findall(r"\$\(\"([\w-]+)\"\)", FILES[name]) for name in SCRIPTS))
    made = set().union(*(re.findall(r"\bid: \"([\w-]+)\"", FILES[name]) for name in SCRIPTS))
    assert looked_for <= set(ids) | made


def test_every_field_and_button_has_a_name():
    labelled = set(re.findall(r"<label for=\"(.*?)\"", HTML))
    for tag, attributes in re.findall(r"<(input|select|textarea|canvas)\b([^>]*)", HTML):
        id = re.search(r"\sid=\"(.*?)\"", attributes)
        assert "aria-label=" in attributes or (id and id[1] in labelled), (tag, attributes)
    for attributes, content in re.findall(r"<button\b([^>]*)>(.*?)</button>", HTML, re.DOTALL):
        assert "aria-label=" in attributes or re.sub(r"<.*?>", "", content).strip(), attributes
