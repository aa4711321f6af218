"""What all commands have in common: they are listed, start at once, and take --threads."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

import minidiff
from minidiff import backend, command_line
from minidiff.__main__ import COMMANDS, main, module_of
from minidiff.checkpoint.config import Config
from minidiff.errors import MinidiffError
from tests import mistakes

COMPUTING = [name for name in COMMANDS if name != "export"]  # which only copies
PRINTING = [name for name in COMPUTING if name != "studio"]  # which shows on its page what compiles

ROOT = Path(__file__).parents[1]
SLOW = ("numba", "scipy")  # to import


@pytest.fixture
def fails(monkeypatch, capsys):
    """A function that runs a command, expects exit code 2, and returns what it printed on stderr."""
    monkeypatch.setattr(backend, "_stack", [])

    def run(name, *words):
        text = mistakes.printed(module_of(name).main, capsys, *words)
        assert text.out == ""
        return text.err

    return run


def start(program):
    """Run a program in a process of its own; return what it prints, the slow modules that it imported last."""
    program += f"\nimport sys; print(*(name for name in {SLOW} if name in sys.modules))"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_list_of_commands_is_whole():
    """A file or a package of minidiff/ that can be run is a command, and the other way round."""
    files = [path for path in (ROOT / "minidiff").rglob("*.py") if '__name__ == "__main__"' in path.read_text("utf-8")]
    runs = {path.parent.name if path.stem == "__main__" else path.stem for path in files}
    assert runs - {"minidiff"} == set(COMMANDS)


def test_the_commands_are_listed_at_once():
    """A line each, without loading what they need."""
    *lines, slow = start("import runpy; runpy.run_module('minidiff', run_name='__main__')")
    for name in COMMANDS:
        assert sum(f"python -m minidiff.{name} " in line for line in lines) == 1
    assert max(len(line) for line in lines) <= 120
    assert slow == ""


def test_the_first_word_names_a_command(capsys):
    """`minidiff sample …`, which an installation brings, does what `python -m minidiff.sample …` does."""
    with pytest.raises(SystemExit) as caught:
        main(["sample", "--help"])
    assert caught.value.code == 0
    assert "usage: python -m minidiff.sample" in capsys.readouterr().out
    main(["--version"])
    assert capsys.readouterr().out == f"minidiff {minidiff.__version__}\n"


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("smaple", "did you mean 'sample'?"),
        ("", "the commands are train, sample, studio, export, evaluate, gradcheck"),
        ("\x1b", "the commands are train, sample, studio, export, evaluate, gradcheck"),
        ("__main__", "the commands are train, sample, studio, export, evaluate, gradcheck"),
    ],
)
def test_a_command_that_is_none_is_one_line(fails, word, hint):
    assert fails("__main__", word) == f"error: there is no command {word!a}; {hint}\n"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to look at")
@pytest.mark.parametrize("script", [["-m", "minidiff", "train", "--help"], ["minidiff", "train", "--help"]])
def test_both_ways_to_start_see_to_ctrl_c_first(tmp_path, script):
    """start.py has run before NumPy is imported: Ctrl-C ends the process without a word."""
    if script[0] != "-m":  # as the script looks that pip writes
        script[0] = tmp_path / "minidiff"
        script[0].write_text("import sys\nfrom minidiff.__main__ import main\nsys.exit(main())\n")
    looks = tmp_path / "numpy.py"  # in NumPy's place
    looks.write_text("import signal\nraise SystemExit(signal.getsignal(signal.SIGINT).name)\n")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    heeded = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell starts background jobs deaf to it
    done = subprocess.run(
        [sys.executable, *script], env=environment, capture_output=True, text=True, cwd=tmp_path, preexec_fn=heeded
    )
    assert done.stderr == "SIG_DFL\n"


def test_importing_minidiff_imports_nothing_slow():
    assert start("import minidiff") == [""]


def test_help_imports_nothing_slow():
    """All commands in one process: what none of them imports, each does not."""
    *lines, slow = start(
        f"from minidiff.__main__ import module_of\nfor name in {[*COMMANDS]}:\n    print('==', name, flush=True)\n"
        "    try:\n        module_of(name).main(['--help'])\n    except SystemExit:\n        pass"
    )
    texts = dict(text.split("\n", 1) for text in "\n".join(lines).split("== ")[1:])
    assert [name for name in texts if "--threads" in texts[name]] == COMPUTING
    assert list(texts) == list(COMMANDS) and slow == ""


@pytest.mark.parametrize("name", COMPUTING)
@pytest.mark.parametrize("number", [0, -1, 1_000_000])
def test_threads_that_cannot_be_are_one_line(fails, name, number):
    line = fails(name, "--backend", "numpy", "--threads", number)
    most = line.removeprefix("error: threads must be from 1 to ").split(",")[0]
    assert line == f"error: threads must be from 1 to {most}, as many as this process may use, got {number}\n"
    assert int(most) >= 1


@pytest.mark.parametrize("name", COMPUTING)
def test_threads_that_are_no_number(fails, name):
    assert "--threads" in fails(name, "--threads", "two")


@pytest.mark.parametrize("name", PRINTING)
def test_kernels_that_compile_are_told(monkeypatch, fails, name):
    """A line a kernel on stderr, so that a first start on a machine does not look stuck."""
    monkeypatch.setattr(backend, "on_compile", lambda say: say("compiling conv2d.correlate"))
    first, second = fails(name, "--backend", "numpy", "--threads", 0).splitlines()
    assert first == "compiling conv2d.correlate"
    assert second.startswith("error: ")


@pytest.mark.parametrize("name", COMMANDS)
def test_mistyped_words_cannot_steer_the_terminal(fails, name):
    line = fails(name, "--nothing\x1b\u202e", "\x9b")
    assert "--nothing\\x1b\\u202e" in line and not {"\x1b", "\u202e", "\x9b"} & set(line)


@pytest.mark.parametrize("word", ["a\0b", "half\ud800"])
@pytest.mark.parametrize("name", ["train", "sample", "evaluate", "export"])
def test_words_that_no_command_line_has_are_one_line(fails, name, word):
    line = f"error: expected text that the system can encode, without NUL, got {ascii(word)[1:-1]}\n"
    assert fails(name, "--out", word) == line


@pytest.mark.parametrize("option", ["--base", "--words-at=8", "--label_drop"])
def test_an_option_of_before_is_refused_with_its_name_of_today(option):
    with pytest.raises(
        MinidiffError, match=r"^--[a-z_-]+ is now called --(model-channels|cross-attention-at|cond-drop)"
    ):
        command_line.check_words([option, "8"], command_line.setting_names(Config()))


@pytest.mark.parametrize("name", ["gradcheck", "export"])
def test_a_command_does_not_offer_an_option_that_it_lacks(fails, name):
    assert "is now called" not in fails(name, "--batch", "3")
