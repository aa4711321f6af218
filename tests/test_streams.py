"""A command prints whatever its streams are: closed, full, or of an encoding that lacks the characters."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from minidiff.__main__ import main as overview
from minidiff.errors import MinidiffError, exit_with_one_line
from minidiff.streams import _dropped, _ErrorStream, flush_or_silence
from minidiff.training.signals import SIGPIPE, StopRequest

ROOT = Path(__file__).parents[1]
FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no device that is always full")


@pytest.fixture
def streams(monkeypatch, tmp_path):
    """A function that makes two files, by default new ones, the process's streams; it returns what they hold."""
    opened = []

    def use(out=None, err=None, encoding="utf-8"):
        files = {"stdout": tmp_path / "out", "stderr": tmp_path / "err"}
        for (name, path), file in zip(files.items(), (out or files["stdout"], err or files["stderr"]), strict=True):
            stream = io.TextIOWrapper(io.BufferedWriter(io.FileIO(file, "w")), encoding)
            opened.append(stream)
            monkeypatch.setattr(sys, name, stream)
            monkeypatch.setattr(sys, f"__{name}__", stream)
            path.touch()
        return lambda: tuple(path.read_bytes().decode(encoding) for path in files.values())

    yield use
    for stream in opened:
        stream.close()


def command(*, out="", err="", raised=None):
    """A command that prints; return its exit code, and whether the streams are afterwards what they were."""

    @exit_with_one_line
    def main():
        print(out)
        print(err, file=sys.stderr)
        sys.stdout.isatty(), sys.stderr.isatty()
        if raised is not None:
            raise raised

    before, code = (sys.stdout, sys.stderr), 0
    try:
        main()
    except SystemExit as leaving:
        code = leaving.code
    assert (sys.stdout, sys.stderr) == before
    for stream in filter(None, before):
        stream.flush()  # as the interpreter does at its end
    return code


@pytest.mark.parametrize("encoding", ["ascii", "cp437", "cp1251", "latin-1", "utf-8"])
def test_characters_that_an_encoding_lacks_are_escaped(streams, encoding):
    held = streams(encoding=encoding)
    text = "32×32, x² …,犬, \udcff"
    assert command(out=text, err=text, raised=MinidiffError(text)) == 2
    shown = text.encode(encoding, "backslashreplace").decode(encoding)
    assert held() == (f"{shown}\n", f"{shown}\nerror: {shown}\n")


@needs_full
def test_a_full_standard_output_is_one_line(streams):
    held = streams(out=FULL)
    assert command(out="a line") == 2
    assert held()[1] == "\nerror: no space left on the disk: standard output\n"


@needs_full
def test_a_full_standard_error_is_passed_over(streams):
    held = streams(err=FULL)
    assert command(out="a line", err="progress") == 0
    assert held()[0] == "a line\n"


@needs_full
def test_a_mistake_between_full_streams_keeps_its_code(streams):
    streams(out=FULL, err=FULL)
    assert command(out="a line", raised=MinidiffError("a mistake")) == 2


@needs_full
def test_help_into_a_full_standard_output_is_one_line(streams):
    held = streams(out=FULL)
    with pytest.raises(SystemExit) as leaving:
        overview([])
    assert leaving.value.code == 2
    assert held()[1] == "error: no space left on the disk: standard output\n"


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell closes them")
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_are_no_error(tmp_path, closed):
    """Nor does a file that the command opens get what is printed, for having the number of the closed stream."""
    program = (
        "import sys, os\n"
        "from minidiff.errors import exit_with_one_line\n"
        "@exit_with_one_line\n"
        "def main():\n"
        "    file = open(sys.argv[1], 'w')\n"
        "    print('lost \\udcff', flush=True), print('lost', file=sys.stderr)\n"
        "    os.write(1, b''), os.write(2, b''), sys.stdout.isatty(), sys.stderr.isatty()\n"
        "    assert file.fileno() > 2\n"
        "    file.write('kept')\n"
        "main()\n"
    )
    (tmp_path / "program.py").write_text(program)
    shell = f'"$0" program.py kept.txt {closed}'
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    assert subprocess.run(["sh", "-c", shell, sys.executable], cwd=tmp_path, env=environment).returncode == 0
    assert (tmp_path / "kept.txt").read_text() == "kept"


class Broken(io.TextIOWrapper):
    """A stream in memory that cannot be emptied, and has no number that could be pointed elsewhere."""

    def __init__(self, error):
        super().__init__(io.BytesIO())
        self.error = error

    def flush(self):
        raise self.error


def test_a_stream_without_a_number_is_let_go(monkeypatch):
    monkeypatch.setattr("minidiff.streams._redirect_to_null", lambda number: pytest.fail("there is none"))
    flush_or_silence(Broken(OSError(errno.ENOSPC, "full")))
    flush_or_silence(None)
    telling = _ErrorStream(io.BytesIO(), encoding="utf-8")
    with _dropped(telling):
        raise OSError(errno.ENOSPC, "full")


@pytest.mark.parametrize("stdout", [None, Broken(BrokenPipeError(errno.EPIPE, "closed"))])
def test_a_reader_that_hangs_up_is_heard_without_files(monkeypatch, stdout):
    """Of standard error, where standard output was closed from the beginning, and of a stream in memory."""
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setattr(sys, "stderr", None)
    stop = StopRequest()
    with stop.on_broken_pipe():
        raise BrokenPipeError(errno.EPIPE, "closed")
    assert stop.signal == SIGPIPE


def test_a_command_prints_to_no_stream_at_all(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert command(out="lost", err="lost", raised=MinidiffError("lost")) == 2


def test_streams_that_are_not_the_processs_are_left_alone(monkeypatch):
    """A notebook's, for example, which know nothing of files."""
    own = io.StringIO()
    monkeypatch.setattr(sys, "stdout", own)

    @exit_with_one_line
    def main():
        assert sys.stdout is own
        print("×")

    main()
    assert own.getvalue() == "×\n"
