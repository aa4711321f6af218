"""What the book says is so: examples give what they show, commands and files exist, figures are of this code."""

import ast
import doctest
import importlib
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import tiny_model
from PIL import Image

from minidiff import backend
from minidiff.scenes import scenes
from minidiff.scenes.captions import TOKENIZER

DOCS = Path(__file__).parents[2] / "docs"
README = DOCS.parent / "README.md"
PAGES = [*sorted(DOCS.glob("*.md")), README]
FROM_RUNS = {
    "scaling.png",
    "emoji.png",
    "growth.png",
    "scenes_grid.png",
    "mini_digits.png",
    "mnist_grid.png",
    "noise_to_image.gif",
}  # made by the commands of results.md


def load(path: Path):
    spec = importlib.util.spec_from_file_location(f"docs_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def changed(text: str, old: str, new: str) -> str:
    """Return an example with a smaller number in it, so that it takes less time; it must have the larger one."""
    assert text.count(old) == 1
    return text.replace(old, new)


def fenced(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


# ---- examples -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [page for page in PAGES if fenced(page, "pycon")], ids=lambda page: page.stem)
def test_examples_print_what_the_page_shows(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(DOCS / page.stem)  # where the files of a chapter are, as chapter2/mini.py
    monkeypatch.setattr(scenes, "_AHEAD", 32)  # few are shown, and images do not depend on how many are rendered
    text = "\n".join(fenced(page, "pycon"))
    examples = doctest.DocTestParser().get_doctest(text, {}, page.stem, str(page), 0)
    said: list[str] = []
    with backend.using("numpy"):  # what is shown holds on every backend; this one has nothing to compile
        results = doctest.DocTestRunner().run(examples, out=said.append)
    assert results.attempted > 0
    assert results.failed == 0, "".join(said)


def test_library_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tiny_model.write(tmp_path / "runs" / "my-run", words=TOKENIZER.words, length=TOKENIZER.max_tokens)
    Image.fromarray(np.full((8, 8, 3), 200, np.uint8)).save("image.png")
    for page in ("chapter6", "chapter21", "chapter8"):
        blocks = fenced(DOCS / f"{page}.md", "python")
        assert len(blocks) == 1
        names: dict = {}
        block = changed(blocks[0], "model.sample(8, ", "model.sample(8, steps=2, ")
        if page == "chapter6":
            block = changed(block, "model.generate(8, ", "model.generate(8, steps=2, ")
        with backend.using("numpy"):
            exec("import minidiff\n" + block, names)
        assert names["images"].shape[0] == 8 and names["images"].dtype == np.uint8
    assert len(capsys.readouterr().out.splitlines()) == 50  # a line a step


def test_the_profile_of_a_step_runs(capsys):
    (block,) = fenced(DOCS / "chapter16.md", "python")
    block = changed(changed(block, "range(20)", "range(1)"), "RunConfig(steps=100)", "RunConfig(batch_size=1)")
    with backend.using("numpy"):
        exec(block, {})
    assert "conv2d_grad_w" in capsys.readouterr().out


def test_readme_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (block,) = fenced(README, "python")
    assert len([line for line in block.splitlines() if line]) <= 10
    with backend.using("numpy"):
        exec(changed(block, "model.sample(8, ", "model.sample(1, steps=2, "), {})
    assert len(capsys.readouterr().out.splitlines()) == 25  # a line a step


def test_readme_begins_with_three_lines():
    """The first screen, 40 lines, holds them; the gate runs the last, as it stands."""
    first_screen = "\n".join(README.read_text(encoding="utf-8").splitlines()[:40])
    lines = re.findall(r"^```sh\n(.*)\n```$", first_screen, re.MULTILINE)
    assert lines == [
        'pip install -e . && python -m minidiff.sample "a dog"',
        "pip install -e . && python -m minidiff.train",
        'pip install -e ".[test]" && pytest',
    ]


# ---- commands -------------------------------------------------------------------------------------------------------


def commands() -> list[str]:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    found = [
        line.strip() for block in re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S) for line in block.splitlines()
    ]
    return sorted({line.split("#")[0].strip() for line in found + re.findall(r"`(python [^`]+)`", text)})


def is_file(module: str) -> bool:
    """Whether `python -m module` runs that module; it runs a package's __main__."""
    return importlib.util.find_spec(module).submodule_search_locations is None


@pytest.fixture(scope="module")
def help_of():
    """The help text of a command, or of one of its parts, asked for once."""
    known: dict[tuple[str, ...], str] = {}

    def ask(module: str, *part: str) -> str:
        if (module, *part) not in known:
            import contextlib
            import io

            said = io.StringIO()
            with contextlib.redirect_stdout(said), pytest.raises(SystemExit) as left:
                importlib.import_module(module if is_file(module) else f"{module}.__main__").main([*part, "--help"])
            assert left.value.code == 0
            known[module, *part] = said.getvalue()
        return known[module, *part]

    return ask


def test_every_command_has_its_options(help_of):
    checked = 0
    for command in commands():
        words = shlex.split(command)
        if words[:2] != ["python", "-m"] or words[2] == "minidiff":
            continue
        part = [word for word in words[3:4] if not word.startswith("-")]
        for word in words[3:]:
            if word.startswith("--"):
                assert re.search(rf"{word}\b", help_of(words[2], *part)), f"{command}: no such option {word}"
                checked += 1
    assert checked > 40


def test_every_script_that_a_command_names_exists():
    for command in commands():
        for word in shlex.split(command):
            if word.endswith(".py"):
                assert (DOCS.parent / word).is_file(), command


def test_every_file_that_the_book_names_exists():
    roots = (DOCS.parent, DOCS.parent / "minidiff")
    for page in PAGES:
        for name in re.findall(r"`((?:[\w.]+/)*[\w.]+\.py)`", page.read_text(encoding="utf-8")):
            places = [
                *(root / name for root in roots),
                *DOCS.parent.glob(f"minidiff/*/{name}"),
                *DOCS.parent.glob(f"tests/*/{name}"),
            ]
            assert any(place.is_file() for place in places), f"{page.name} names {name}"


# ---- figures --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def make_figures():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DOCS)  # it has two modules beside it
        return load(DOCS / "make_figures.py")


def test_every_figure_is_made_by_the_script_and_shown(make_figures):
    made = {f"{make.__name__}.png" for make in chain(*make_figures.ALL)}
    there = {path.name for path in (DOCS / "figures").iterdir()}
    shown = {
        name
        for page in PAGES
        for name in re.findall(r"\((?:docs/)?figures/([\w.]+)\)", page.read_text(encoding="utf-8"))
    }
    assert there - FROM_RUNS == made
    assert len(FROM_RUNS) == 7 and "except for seven" in (DOCS / "index.md").read_text(encoding="utf-8")
    assert shown <= there, "a page shows a figure that is not there"
    assert made <= shown, "a figure is made and not shown"


@pytest.mark.parametrize("name", ["noise_levels", "scenes", "time_embedding"])
def test_figures_are_of_this_code(name, make_figures, monkeypatch):
    """Those without letters, whose font could change: run docs/make_figures.py again if this fails."""
    monkeypatch.setattr(scenes, "_AHEAD", 64)
    with backend.using("numpy"):
        made = getattr(make_figures, name)()
    kept = np.asarray(Image.open(DOCS / "figures" / f"{name}.png"))
    assert made.shape == kept.shape
    # sines and roots may differ in their last bit from machine to machine, which moves a rounded value by one
    assert np.abs(made.astype(int) - kept.astype(int)).max() <= 1


# ---- what needs other programs --------------------------------------------------------------------------------------


# ---- chapter 1 ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_moons():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # the file sets it, for its own process
        return load(DOCS / "chapter1" / "two_moons.py")


def test_chapter_1_is_one_page_of_numpy():
    text = (DOCS / "chapter1" / "two_moons.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 100
    assert f"has {len(text.splitlines())} lines" in (DOCS / "chapter1.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE)) == ["PIL", "numpy", "os", "sys"]


def test_chapter_1_computes_on_one_thread_of_blas_unless_told_otherwise():
    ask = "import runpy, sys, threadpoolctl; runpy.run_path(sys.argv[1]); print(threadpoolctl.threadpool_info())"
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    program = [sys.executable, "-c", ask, DOCS / "chapter1" / "two_moons.py"]
    said = subprocess.run(program, env=environment, capture_output=True, text=True, check=True).stdout
    pools = ast.literal_eval(said)
    if not (blas := [pool["num_threads"] for pool in pools if pool["user_api"] == "blas"]):
        pytest.skip("threadpoolctl does not know this machine's BLAS")
    assert blas == [1]


def test_chapter_1_gradients_are_right(two_moons):
    rng = np.random.default_rng(1)
    network = [(rng.normal(size=(i, o)), rng.normal(size=o)) for i, o in ((13, 7), (7, 5), (5, 2))]
    x, gy, h = rng.normal(size=(4, 13)), rng.normal(size=(4, 2)), 1e-5
    _, saved = two_moons.forward(network, x)
    gradients = two_moons.backward(network, saved, gy)

    for layer, gradient in zip(network, gradients):
        for parameter, found in zip(layer, gradient):
            expected = np.empty(parameter.size)
            flat = parameter.reshape(-1)
            for i in range(flat.size):
                middle, values = flat[i], []
                for moved in (middle + h, middle - h):
                    flat[i] = moved
                    values.append((two_moons.forward(network, x)[0] * gy).sum())
                flat[i], expected[i] = middle, (values[0] - values[1]) / (2 * h)
            # central differences at h = 1e-5 are good to about 1e-9 of values of order 1 to 100
            np.testing.assert_allclose(found.reshape(-1), expected, rtol=1e-5, atol=1e-6)


def test_chapter_1_learns_and_draws(two_moons, tmp_path):
    network, losses = two_moons.train(layers=((13, 64), (64, 64), (64, 2)), steps=400, n=128)
    assert np.isfinite(losses).all()
    assert np.mean(losses[-50:]) < 0.75 * np.mean(losses[:20])  # 400 small steps: from about 1 to 0.5
    label = np.arange(200) % 2
    path = two_moons.sample(network, label)
    assert path.shape == (51, 200, 2) and np.isfinite(path).all()
    ends = path[-1]
    assert ends[label == 0].mean(axis=0)[1] > ends[label == 1].mean(axis=0)[1] + 0.5 or (
        ends[label == 0].mean(axis=0)[1] < ends[label == 1].mean(axis=0)[1] - 0.5
    ), "the two labels should lead to two different moons"
    two_moons.draw(tmp_path / "figure.png", [(path, np.full((200, 3), 255))], size=60)
    assert np.asarray(Image.open(tmp_path / "figure.png")).std() > 5
