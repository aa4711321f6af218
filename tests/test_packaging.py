"""What pyproject.toml, README, CHANGELOG and the workflow of a fork say more than once, they say alike."""

import re
import tomllib
from pathlib import Path

import minidiff
from minidiff import renamed

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
WORKFLOW = (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")


def test_the_version_stands_in_one_place():
    assert "version" in PROJECT["project"]["dynamic"] and "version" not in PROJECT["project"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "minidiff.__version__"}
    assert not re.search(r"^version:", (ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE)


def test_the_changelog_knows_this_version():
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    released = re.findall(r"^## \[(.+?)\](?: - \d{4}-\d\d-\d\d)?$", text, re.MULTILINE)
    assert released[0] == "Unreleased" and len(set(released)) == len(released)
    assert minidiff.__version__ in released


def test_the_workflow_tries_the_python_versions_that_are_declared():
    prefix = "Programming Language :: Python :: 3."
    declared = {f"3.{c.removeprefix(prefix)}" for c in PROJECT["project"]["classifiers"] if c.startswith(prefix)}
    (matrix,) = re.findall(r"^ +python: \[(.+)\]$", WORKFLOW, re.MULTILINE)
    assert set(re.findall(r'"(.+?)"', matrix)) == declared
    assert min(declared, key=lambda v: int(v[2:])) == PROJECT["project"]["requires-python"].removeprefix(">=")


def test_the_workflow_runs_the_gate_and_readme_s_test_line():
    assert "run: .ci/run\n" in WORKFLOW
    (line,) = re.findall(r"^pip .+ && pytest$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    assert f"run: {line}\n" in WORKFLOW


def test_no_command_in_a_text_has_an_option_of_before():
    """The book's are run by tests; those of the gate, of README and of other texts are looked for here."""
    texts = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / ".ci").iterdir(), *ROOT.glob("*/README.md")]
    assert len(texts) > 20
    for path in texts:
        if path.name == "CHANGELOG.md":
            continue
        for line in path.read_text("utf-8").splitlines():
            old = renamed.OPTIONS.keys() & set(line.split())
            assert not old or "minidiff" not in line, f"{path.relative_to(ROOT)}: {line}"
