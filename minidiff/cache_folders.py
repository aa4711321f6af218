"""Where compiled kernels are kept between runs, and which folder is safe for them.

Idea: compiling the kernels takes minutes, so compiled kernels are kept in the user's cache folder.  Loading them runs
code from that folder.  So the folder must be one that only the user can write to; a folder that another user could
change is not used.
"""

import hashlib
import os
import sys
import tempfile
from pathlib import Path

from minidiff.errors import one_line, printable


def kernel_folder(sources: Path | None = None) -> Path:
    """Return the folder for kernels that Numba compiles, inside `user_folder`; its name contains a hash of all kernel
    sources.

    Numba itself checks only the file of the function that it loads.  Without the hash it would run outdated code after
    an edit of a function that is called from another file.
    """
    if sources is None:
        inside = Path(__file__).parent / "kernels"
        sources = inside if inside.is_dir() else Path(__file__).parents[1] / "kernels"
    digest = hashlib.sha256()
    for source in sorted(sources.rglob("*.py")):
        digest.update(source.read_bytes())
    return user_folder() / f"kernels-{digest.hexdigest()[:16]}"


def user_folder() -> Path:
    """Return the folder for everything that minidiff keeps between runs: in the user's cache folder, or in the
    system's temporary folder if the user has no home folder."""
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    except RuntimeError:  # neither HOME nor an entry in the list of users
        return _shared_folder()
    return home / "minidiff"


def _shared_folder() -> Path:
    """Return a folder named after the user in the system's temporary folder, where anybody can create files."""
    return Path(tempfile.gettempdir()) / f"minidiff-{os.getuid() if os.name == 'posix' else ''}"


def set_numba_folder() -> None:
    """Set the folder where Numba keeps compiled kernels to one that only the user can write to.

    Numba stores kernels as pickles, and loading a pickle can run any code.
    The folder is NUMBA_CACHE_DIR if that is set, else `kernel_folder`.  If it cannot be used, one line says why, and a
    folder in the system's temporary folder replaces it; if that one cannot be used either, a new one for this process.
    """
    given, ours = os.environ.get("NUMBA_CACHE_DIR"), kernel_folder()
    folder, reasons = _first_usable(Path(given) if given else ours, _shared_folder() / ours.name, given=given)
    folder = folder or Path(tempfile.mkdtemp(prefix="minidiff-kernels-"))  # for this process alone
    if reasons:
        _say_reasons(f"compiled kernels are kept in {printable(folder)}, as another place cannot be used", reasons)
    os.environ["NUMBA_CACHE_DIR"] = str(folder)
    if "numba" in sys.modules:  # other code imported it before the folder was known
        sys.modules["numba"].config.CACHE_DIR = str(folder)


def cuda_folder() -> Path | None:
    """Return the folder for GPU kernels, chosen as for Numba.  If no folder can be used, say why in one line and
    return None."""
    folder, reasons = _first_usable(user_folder() / "cuda", _shared_folder() / "cuda")
    if folder is None:
        _say_reasons("kernels for the GPU are compiled anew each time, as no place for them can be used", reasons)
    elif reasons:
        said = f"kernels for the GPU are kept in {printable(folder)}, as another place cannot be used"
        _say_reasons(said, reasons)
    return folder


def _first_usable(*folders: Path, given: str | None = None) -> tuple[Path | None, list[str]]:
    """Return the first folder that only the user can write to, or None, and the reasons against those before it.

    given: the folder that the user named, if any.
    """
    reasons: list[str] = []
    for folder in dict.fromkeys(folders):
        reason = _unusable(folder, made_here=str(folder) != given)
        if reason is None:
            return folder, reasons
        reasons.append(reason)
    return None, reasons


def _say_reasons(said: str, reasons: list[str]) -> None:
    print(f"{said}: {'; '.join(reasons)}", file=sys.stderr)


def _unusable(folder: Path, made_here: bool) -> str | None:
    """Make a folder that only the user can write to; return why that is impossible, or None if it is done.

    made_here: whether the folder belongs to minidiff, which then sets its permissions and those of its parent.
    """
    try:
        folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        for part in ((folder.parent, folder) if made_here else (folder,)) if os.name == "posix" else ():
            if part.lstat().st_uid != os.getuid():
                return f"{printable(part)} belongs to another user"
            if made_here:
                part.chmod(0o700)
            if part.stat().st_mode & 0o022:
                return f"other users may write into {printable(part)}"
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return one_line(error)
