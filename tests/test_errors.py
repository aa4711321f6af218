"""A user's mistake is one line and an exit code; a bug keeps its traceback."""

import errno
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from minidiff.errors import MinidiffError, exit_with_one_line, one_line, printable

ROOT = Path(__file__).parents[1]


def run(error):
    @exit_with_one_line
    def main():
        raise error

    with pytest.raises(SystemExit) as leaving:
        main()
    return leaving.value.code


@pytest.mark.parametrize(
    "error, line",
    [
        (MinidiffError("steps 0: expected at least 1"), "steps 0: expected at least 1"),
        (MinidiffError("two\nlines  and\tmore"), "two lines and more"),
        (OSError(errno.ENOSPC, "No space left on device", "out/a.png"), "no space left on the disk: out/a.png"),
        (PermissionError(errno.EACCES, "Permission denied", "out"), "not allowed (permission denied): out"),
        (FileNotFoundError(errno.ENOENT, "No such file", Path("x.npz")), "no such file or folder: x.npz"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (OSError("cannot identify it"), "cannot identify it"),
        (MemoryError("Unable to allocate 9 TiB"), "out of memory: Unable to allocate 9 TiB"),
        (
            MemoryError("Out of memory allocating 8 bytes (so far: 9)."),
            "out of memory: allocating 8 bytes (so far: 9).",
        ),
        (MemoryError(), "out of memory"),
    ],
)
def test_mistakes_end_as_one_line(error, line, capsys):
    assert run(error) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"error: {line}\n")
    assert one_line(error) == line


def test_interrupt_is_silent(capsys):
    assert run(KeyboardInterrupt()) == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("bug", [ValueError("shapes"), TypeError("x"), ZeroDivisionError(), AssertionError()])
def test_bugs_keep_their_traceback(bug):
    @exit_with_one_line
    def main():
        raise bug

    with pytest.raises(type(bug)):
        main()


def test_result_arguments_and_name_pass_through():
    @exit_with_one_line
    def main(a, *, b=1):
        """Add."""
        return a + b

    assert main(2, b=3) == 5
    assert (main.__name__, main.__doc__) == ("main", "Add.")


def test_minidiff_error_is_a_value_error():
    assert issubclass(MinidiffError, ValueError)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGPIPE")
def test_a_reader_that_hangs_up_is_no_error():
    """Like `command | head -1`: the pipe is closed while the command still writes."""
    code = (
        "from minidiff.errors import exit_with_one_line\n"
        "@exit_with_one_line\n"
        "def main():\n"
        "    for i in range(200_000): print(i)\n"
        "main()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        error = process.stderr.read()
        assert (process.wait(60), error) == (141, b"")


@pytest.mark.parametrize(
    "text, shown",
    [
        ("a plain name, übergroß, 犬, 👨‍👩‍👧", "a plain name, übergroß, 犬, 👨‍👩‍👧"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("one\ntwo\r\tthree\x9b", "one\\ntwo\\r\\tthree\\x9b"),
        ("\u202egnp.exe\u2066\u2028", "\\u202egnp.exe\\u2066\\u2028"),
        (b"\xff".decode("utf-8", "surrogateescape"), "\\udcff"),
        ("x" * 1000, "x" * 199 + "…"),
        ("x" * 200, "x" * 200),
        ("\x8a" * 1000, "\\x8a" * 49 + "…"),
        ("\x8a" * 51, "\\x8a" * 49 + "…"),
        ("x" * 197 + "\x8a", "x" * 197 + "…"),
        ("x" * 196 + "\x8a", "x" * 196 + "\\x8a"),
    ],
)
def test_text_from_outside_is_safe_to_print(text, shown):
    """The limit is that of what is printed, escapes included, and no escape is cut."""
    assert printable(text) == shown and len(shown) <= 200


def test_an_error_is_safe_to_print():
    assert one_line(MinidiffError("a\x1b[2Jb")) == "a\\x1b[2Jb"


def test_ctrl_c_is_an_exception_only_while_a_command_runs(request):
    """Before and after it nobody would catch one: there the system's own way ends the process."""
    request.addfinalizer(partial(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT)))
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    @exit_with_one_line
    def main():
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(SystemExit) as leaving:
        main()
    assert leaving.value.code == 130
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
