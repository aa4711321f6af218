"""Each chapter ends with three questions and an exercise of four rungs, and their answers are folded."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
CHAPTERS = sorted(DOCS.glob("chapter*.md"), key=lambda page: int(page.stem[7:]))
RUNGS = ["Predict", "Code", "Break", "Extend"]
FOLDED = re.compile(r"^<details>\n<summary>(.+?)</summary>\n\n(.+?)\n\n</details>$", re.MULTILINE | re.DOTALL)


def end_of(page: Path) -> tuple[str, str]:
    """The questions and the exercise of a chapter, which ends with them."""
    _, end = page.read_text(encoding="utf-8").split("\n## Questions\n")
    questions, exercise = re.split(r"^## Exercise: .+$", end, flags=re.MULTILINE)
    assert not re.search(r"^#+ ", questions, re.MULTILINE), "no section between the questions and the exercise"
    return questions, exercise


@pytest.mark.parametrize("page", CHAPTERS, ids=lambda page: page.stem)
def test_three_questions_have_folded_answers(page):
    questions, _ = end_of(page)
    folded = FOLDED.findall(questions)
    assert FOLDED.sub("", questions).split() == [], "what is not folded gives an answer away"
    assert len(folded) == 3
    for question, _ in folded:
        assert " ".join(question.split()).endswith("?")
        assert not re.search(r"[$`*]", question), "a summary is HTML: no formula, code or emphasis is shown in it"


@pytest.mark.parametrize("page", CHAPTERS, ids=lambda page: page.stem)
def test_an_exercise_has_four_rungs_and_its_solution_one_click_away(page):
    _, exercise = end_of(page)
    _, *rungs = re.split(r"^\*\*(\w+)\.\*\* ", exercise, flags=re.MULTILINE)
    assert rungs[0::2] == RUNGS
    predict, code, break_, extend = rungs[1::2]
    assert [name for name, _ in FOLDED.findall(predict)] == ["Answer"]
    assert [name for name, _ in FOLDED.findall(code)] == ["A solution"]
    assert [name for name, _ in FOLDED.findall(break_)] == ["What happens, and why?"]
    assert exercise.count("<details>") == exercise.count("</details>") == 3 and "<details>" not in extend
    (solution,) = re.findall(r"python docs/exercises/(.+\.py)\n", code)
    ((_, listing),) = FOLDED.findall(code)
    assert listing.startswith(f"```{{literalinclude}} ../tests/docs/solutions/{solution}\n")
    shown = re.findall(r"^```pycon\n(.*?)^```$", FOLDED.sub("", predict), re.MULTILINE | re.DOTALL)
    assert all(line.startswith((">>> ", "... ")) for block in shown for line in block.splitlines()), (
        "it gives the answer"
    )


@pytest.mark.parametrize("page", CHAPTERS, ids=lambda page: page.stem)
def test_the_solution_that_is_shown_ends_before_the_mistake(page, make_pages):
    _, exercise = end_of(page)
    (solution,) = make_pages.listings(exercise)
    whole = (DOCS.parent / solution.path).read_text(encoding="utf-8")
    functions = re.findall(r"^def (\w+)", whole, re.MULTILINE)
    mistakes = [name for name in functions if name.startswith("wrong_")]
    assert mistakes and all(f"def {name}(" not in solution.text for name in mistakes)
    assert all(f"def {name}(" in solution.text for name in functions if name not in mistakes)
    imports = re.findall(r"^(?:from|import) .+$", whole, re.MULTILINE)
    assert all(line in solution.text for line in imports), "what it imports belongs to it"
