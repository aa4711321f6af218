"""Every exercise: unsolved it says not yet, a solution solves it, a plausible mistake does not."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

EXERCISES = Path(__file__).parents[2] / "docs" / "exercises"
SOLUTIONS = Path(__file__).parent / "solutions"
NAMES = sorted(path.stem for path in EXERCISES.glob("[0-9]*.py"))


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"loaded_{path.parent.name}_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def exercise(request, monkeypatch):
    monkeypatch.syspath_prepend(str(EXERCISES))
    return load(EXERCISES / f"{request.param}.py")


def fill_in(exercise: ModuleType, solution: ModuleType, prefix: str) -> None:
    """Put every function of the solution that starts with the prefix in the place of the exercise's."""
    functions = [name for name in vars(solution) if name.startswith(prefix) and hasattr(exercise, name[len(prefix) :])]
    assert functions, f"the solutions hold nothing with prefix {prefix!r} for {exercise.__name__}"
    for name in functions:
        setattr(exercise, name[len(prefix) :], getattr(solution, name))


def outcome(exercise: ModuleType, capsys) -> tuple[int, str]:
    code = exercise.report(exercise.check)
    return code, capsys.readouterr().out


def test_there_is_an_exercise_for_every_chapter_and_a_solution_for_every_exercise():
    chapters = sorted((path.stem for path in EXERCISES.parent.glob("chapter*.md")), key=lambda name: int(name[7:]))
    assert [f"chapter{int(name[:2])}" for name in NAMES] == chapters
    assert sorted(path.stem for path in SOLUTIONS.glob("[0-9]*.py")) == NAMES
    for name in NAMES:
        text = (EXERCISES.parent / f"chapter{int(name[:2])}.md").read_text(encoding="utf-8")
        assert f"python docs/exercises/{name}.py" in text


@pytest.mark.parametrize("exercise", NAMES, indirect=True)
def test_unsolved_says_not_yet(exercise, capsys):
    assert outcome(exercise, capsys) == (1, "not yet: nothing is filled in\n")


@pytest.mark.parametrize("exercise", NAMES, indirect=True)
def test_solution_is_accepted(exercise, capsys):
    fill_in(exercise, load(SOLUTIONS / Path(exercise.__file__).name), "")
    code, said = outcome(exercise, capsys)
    assert code == 0
    assert said.splitlines()[-1] == "solved"


@pytest.mark.parametrize("exercise", NAMES, indirect=True)
def test_mistake_is_not_accepted_and_the_reason_is_one_line(exercise, capsys):
    fill_in(exercise, load(SOLUTIONS / Path(exercise.__file__).name), "wrong_")
    code, said = outcome(exercise, capsys)
    assert code == 1
    assert said.startswith("not yet: ") and said.count("\n") == 1
    assert "AssertionError" in said, "a plausible mistake is answered by the check, not by a crash"


def test_an_exercise_runs_as_a_command():
    run = subprocess.run(
        [sys.executable, EXERCISES / f"{NAMES[0]}.py"], capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (1, "not yet: nothing is filled in\n", "")


def test_an_error_in_a_solution_is_reported_and_not_raised(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(EXERCISES))
    checking = load(EXERCISES / "checking.py")

    def check():
        raise IndexError("index 5 is\nout of bounds")

    assert checking.report(check) == 1
    assert capsys.readouterr().out == "not yet: index 5 is out of bounds (IndexError)\n"
