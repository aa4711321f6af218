"""A file is the old one or the whole new one."""

import errno
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minidiff import files
from minidiff.errors import MinidiffError, one_line
from minidiff.files import remove_temporary, write_atomically

ROOT = Path(__file__).parents[1]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_bytes_and_functions(tmp_path):
    path = tmp_path / "a.bin"
    write_atomically(path, b"one")
    assert path.read_bytes() == b"one"
    write_atomically(str(path), lambda file: (file.write(b"12345"), file.seek(1), file.write(b"x")))
    assert path.read_bytes() == b"1x345"
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("links", [True, False])
def test_a_new_file_takes_no_others_place(tmp_path, monkeypatch, links):
    """Not even that of one that came while it was written."""
    if not links:

        def link(*paths):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), *paths)

        monkeypatch.setattr(files.os, "link", link)
    path = tmp_path / "a.bin"
    write_atomically(path, b"one", new=True)
    assert path.read_bytes() == b"one" and names(tmp_path) == ["a.bin"]
    path.unlink()
    with pytest.raises(MinidiffError, match=rf"^{path} exists, and nothing is overwritten; name another file$"):
        write_atomically(path, lambda file: path.write_bytes(b"another's"), new=True)
    assert path.read_bytes() == b"another's" and names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("error", [RuntimeError("half way"), KeyboardInterrupt(), SystemExit(1)])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.bin"
    write_atomically(path, b"old")

    def write(file):
        file.write(b"half of the new")
        raise error

    with pytest.raises(type(error)):
        write_atomically(path, write)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_a_full_disk_names_the_file(tmp_path):
    def write(file):
        file.write(b"some")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as a write raises it: without a name

    with pytest.raises(OSError) as caught:
        write_atomically(tmp_path / "a.bin", write)
    assert one_line(caught.value) == f"no space left on the disk: {tmp_path / 'a.bin'}"
    assert names(tmp_path) == []


def test_a_missing_folder_names_the_file(tmp_path):
    path = tmp_path / "no" / "a.bin"
    with pytest.raises(FileNotFoundError) as caught:
        write_atomically(path, b"")
    assert one_line(caught.value) == f"no such file or folder: {path}"


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="needs a folder that may not be written to")
def test_a_forbidden_folder_names_the_file(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError) as caught:
            write_atomically(tmp_path / "a.bin", b"")
    finally:
        tmp_path.chmod(0o700)
    assert one_line(caught.value) == f"not allowed (permission denied): {tmp_path / 'a.bin'}"


def test_an_error_about_another_file_keeps_its_name(tmp_path):
    def write(file):
        (tmp_path / "source").read_bytes()

    with pytest.raises(FileNotFoundError) as caught:
        write_atomically(tmp_path / "a.bin", write)
    assert caught.value.filename == str(tmp_path / "source")


def test_content_is_synced_before_the_name_and_the_folder_after(tmp_path, monkeypatch):
    events = []
    sync, replace = os.fsync, Path.replace

    def fsync(descriptor):
        events.append("sync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync file")
        sync(descriptor)

    monkeypatch.setattr(files.os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", lambda *paths: (events.append("rename"), replace(*paths)))
    write_atomically(tmp_path / "a.bin", b"new")
    assert events[:2] == ["sync file", "rename"]
    assert events[2:] == ([] if sys.platform == "win32" else ["sync folder"])  # Windows opens no folders


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
def test_permissions_follow_the_umask(tmp_path):
    write_atomically(tmp_path / "a.bin", b"")
    (tmp_path / "b.bin").write_bytes(b"")
    assert (tmp_path / "a.bin").stat().st_mode == (tmp_path / "b.bin").stat().st_mode


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_writer_leaves_the_old_file_and_a_remainder_that_can_be_removed(tmp_path):
    path = tmp_path / "a.bin"
    write_atomically(path, b"old")
    code = (
        "import sys, time\n"
        "from minidiff.files import write_atomically\n"
        "def write(file):\n"
        "    file.write(b'half'); file.flush(); print('ready', flush=True); time.sleep(60)\n"
        "write_atomically(sys.argv[1], write)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGKILL)
    assert path.read_bytes() == b"old"
    (tmp_path / ".hidden.tmp").write_bytes(b"someone else's")
    assert len(names(tmp_path)) == 3
    assert remove_temporary(tmp_path) == 1
    assert names(tmp_path) == [".hidden.tmp", "a.bin"]


def test_a_reader_sees_only_whole_files(tmp_path):
    """One process rewrites a file as fast as it can, this one reads it: every reading is one of the whole contents."""
    path = tmp_path / "a.bin"
    write_atomically(path, bytes(100_000))
    code = (
        "import sys\n"
        "from minidiff.files import write_atomically\n"
        "for i in range(1, 100): write_atomically(sys.argv[1], bytes([i]) * 100_000)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=ROOT) as process:
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            data = path.read_bytes()
            assert len(data) == 100_000 and data.count(data[0]) == len(data)
    assert process.returncode == 0
    assert path.read_bytes()[0] == 99


# ---- reading ----


def test_a_folder_goes_again_if_no_file_came_into_it(tmp_path):
    (tmp_path / "empty").mkdir()
    for name, file in (("new", False), ("empty", False), ("kept", True)):
        with pytest.raises(KeyboardInterrupt), files.new_folder(tmp_path / name) as folder:
            (folder / "inner").mkdir()
            if file:
                (folder / "file").touch()
            raise KeyboardInterrupt
    assert names(tmp_path) == ["empty", "kept"]
    assert names(tmp_path / "empty") == [] and names(tmp_path / "kept") == ["file", "inner"]


def test_a_regular_file_is_read(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}')  # with the byte order mark that Windows writes
    assert files.read_bytes(path, 11) == path.read_bytes()
    assert files.read_json(path) == {"a": 1}
    files.check_regular(path)


@pytest.mark.parametrize("kind", ["device", "pipe", "folder", "socket", "large", "nul"])
def test_what_is_no_regular_file_of_the_expected_size_is_refused_at_once(tmp_path, kind):
    path = tmp_path / "x"
    expected = f"^{path} is a {kind}; expected a regular file$"
    if kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(path))
        server.close()
        expected = "No such device or address|expected a regular file"  # Linux does not even open one
    elif kind == "large":
        path.write_bytes(b"12345")
        expected = f"^{path} holds 5 bytes; expected at most 4$"
    else:
        path = tmp_path / "a\0b"
        expected = r"a\\x00b cannot be the name of a file"
    with pytest.raises((MinidiffError, OSError), match=expected):
        files.open_regular(path, 4)


def test_a_files_sum(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")  # NIST's example
    assert files.sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(MinidiffError, match=r"is a folder; expected a regular file$"):
        files.sha256(tmp_path)


def test_a_file_that_says_it_is_empty_is_bounded_too():
    with pytest.raises(MinidiffError, match=r"^/proc/self/maps holds more than 10 bytes$"):
        files.read_bytes("/proc/self/maps", 10)


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"{", "is not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"9" * 5000, "is not JSON: Exceeds the limit"),
        (b"\xff", "is not UTF-8 text"),
    ],
)
def test_what_is_no_json_is_refused_in_one_line(tmp_path, data, reason):
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(MinidiffError, match=reason):
        files.read_json(path)
