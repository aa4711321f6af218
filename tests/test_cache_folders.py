"""Where compiled kernels are kept: in a folder that follows the sources, and that only the user can write to."""

import os
import re
import sys
import tempfile
from pathlib import Path

import pytest

from minidiff import backend, cache_folders


def test_the_cache_follows_the_sources(tmp_path):
    """The cache folder is named by all kernel sources, so an edit of any of them leads to another one."""
    folder = cache_folders.kernel_folder()
    assert folder.name.startswith("kernels-") and len(folder.name) == len("kernels-") + 16
    source = tmp_path / "conv2d" / "numba_cpu.py"
    source.parent.mkdir()
    source.write_text("a = 1")
    first = cache_folders.kernel_folder(tmp_path)
    source.write_text("a = 2")
    assert cache_folders.kernel_folder(tmp_path) != first


@pytest.fixture
def chosen(tmp_path, monkeypatch):
    """A function that lets the backend choose the folder, as a new process would; it returns the folder."""
    config = sys.modules["numba"].config if backend.get("numba") else None
    monkeypatch.setattr(config, "CACHE_DIR", config.CACHE_DIR)  # put back in the end
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()

    def choose():
        cache_folders.set_numba_folder()
        folder = Path(os.environ["NUMBA_CACHE_DIR"])
        assert str(folder) == config.CACHE_DIR and folder.is_dir()
        return folder

    return choose


def test_kernels_are_kept_in_the_users_cache(chosen, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert chosen() == tmp_path / "minidiff" / cache_folders.kernel_folder().name
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "mine"))
    assert chosen() == tmp_path / "mine" and capsys.readouterr().err == ""


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_a_folder_of_minidiffs_becomes_its_owners_alone(chosen, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "minidiff" / cache_folders.kernel_folder().name
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    folder.parent.chmod(0o755)
    assert chosen() == folder
    assert [path.stat().st_mode & 0o777 for path in (folder, folder.parent)] == [0o700, 0o700]


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
@pytest.mark.parametrize("case", ["no folder", "given, no folder", "no home", "another's", "given, and open to all"])
def test_where_kernels_cannot_be_kept_another_folder_serves_and_is_named(case, chosen, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    reason = ""
    if case == "no folder":
        monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
        reason = "Not a directory: /dev/null/minidiff.*"
    elif case == "given, no folder":
        monkeypatch.setenv("NUMBA_CACHE_DIR", "/dev/null/here")
        reason = "Not a directory: /dev/null/here"
    elif case == "no home":
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.delenv("HOME", raising=False)
        monkeypatch.setattr("pwd.getpwuid", lambda _: {}["nobody"])
    elif case == "another's":
        there = tmp_path / "minidiff" / cache_folders.kernel_folder().name
        there.mkdir(parents=True)
        mine, lstat = os.getuid(), Path.lstat
        monkeypatch.setattr(Path, "lstat", lambda path: Owned(lstat(path), mine + (path == there)))
        reason = f"{there} belongs to another user"
    else:
        (tmp_path / "open").mkdir()
        (tmp_path / "open").chmod(0o777)
        monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "open"))
        reason = f"other users may write into {tmp_path / 'open'}"
    folder = chosen()
    assert folder == tmp_path / "temporary" / f"minidiff-{os.getuid()}" / cache_folders.kernel_folder().name
    assert folder.stat().st_mode & 0o777 == 0o700
    said = f"^compiled kernels are kept in {folder}, as another place cannot be used: {reason}\n$"
    assert re.match(said if reason else "^$", capsys.readouterr().err)
    if "given" not in case:
        monkeypatch.delenv("NUMBA_CACHE_DIR")
        assert chosen() == folder  # the next process finds it again


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_kernels_for_a_gpu_are_kept_where_their_user_alone_can_write(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert cache_folders.cuda_folder() == tmp_path / "home" / "minidiff" / "cuda"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda _: {}["nobody"])
    shared = tmp_path / f"minidiff-{os.getuid()}"
    shared.mkdir(mode=0o777)
    assert cache_folders.cuda_folder() == shared / "cuda" and capsys.readouterr().err == ""
    assert [path.stat().st_mode & 0o777 for path in (shared, shared / "cuda")] == [0o700, 0o700]
    mine, lstat = os.getuid(), Path.lstat
    monkeypatch.setattr(Path, "lstat", lambda path: Owned(lstat(path), mine + (path == shared)))
    assert cache_folders.cuda_folder() is None  # whoever made it could put there what we run
    said = "kernels for the GPU are compiled anew each time, as no place for them can be used"
    assert capsys.readouterr().err == f"{said}: {shared} belongs to another user\n"
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    monkeypatch.setattr(Path, "lstat", lstat)
    assert cache_folders.cuda_folder() == shared / "cuda"
    assert capsys.readouterr().err.startswith(f"kernels for the GPU are kept in {shared / 'cuda'}, as another place ")


class Owned:
    """The status of a file, as if it belonged to that user."""

    def __init__(self, status, owner):
        self.st_mode, self.st_uid = status.st_mode, owner
