"""What people wrote about their pictures: in a text file beside each, in a list of them, or in the files' names.

Idea: captions stand where people and their tools leave them, dog.txt beside dog.png, a metadata.jsonl as Hugging Face's
image folders have it, one {"file_name": "dog.png", "text": "a dog"} a line, or the name a-small-dog_02.png itself.  All
of it was written by hand or by programs unknown: what cannot be used is named and left out, and the training goes on.
Before folder.py, which asks for them.  Leaves out how they become numbers: conditioning/words.py.
"""

import codecs
import json
import logging
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from minidiff.conditioning.words import LONGEST, split
from minidiff.data.config import Captions
from minidiff.errors import MinidiffError

METADATA = "metadata.jsonl"
NAMED = 5  # how many files a warning names
_MOST = 1 << 16  # bytes of a text file, or of a line of metadata, that are read

log = logging.getLogger(__name__)


def set_apart(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Part files into pictures, or whatever they are, and captions: each metadata.jsonl, each .txt beside its like."""
    stems = {(file.parent, file.stem) for file in files if not _is_text(file)}
    apart = [file.name == METADATA or (_is_text(file) and (file.parent, file.stem) in stems) for file in files]
    return [file for file, is_apart in zip(files, apart) if not is_apart], [
        file for file, is_apart in zip(files, apart) if is_apart
    ]


def captions(root: Path, pictures: Sequence[Path], written: Sequence[Path], where: Captions) -> list[str] | None:
    """Return a caption for each picture, "" where there is none; None for no captions at all.

    pictures, written: as `set_apart` finds them under `root`, without pictures that cannot be read.
    where: "txt", "metadata", "names", "none", or "auto": text files or else metadata if there is a word in them.
    What is missing or wrong is named in a warning.  Raises MinidiffError if captions are asked for and none has a word.
    """
    if where == "none":
        return None
    for name in ("txt", "metadata") if where == "auto" else (where,):
        problems: list[str] = []
        if name == "names":
            found = [name_in_words(picture) for picture in pictures]
        elif name == "txt":
            found = _from_texts(root, pictures, written, problems)
        else:
            found = _from_metadata(root, pictures, written, problems)
        _warn(root, "captions left out or damaged", problems)
        if any(map(split, found)):
            silent = [inside(root, picture) for picture, text in zip(pictures, found) if not split(text)]
            _warn(root, f"of {len(pictures)} pictures have no caption", silent)
            long = [inside(root, picture) for picture, text in zip(pictures, found) if len(split(text)) > LONGEST]
            _warn(root, f"captions have more than {LONGEST} words, of which the rest is not learnt", long)
            return found
    if where == "auto":
        return None
    expected = {
        "txt": "a .txt file with words beside a picture, such as dog.txt beside dog.png",
        "metadata": f'a {METADATA} with lines such as {{"file_name": "dog.png", "text": "a dog"}}',
        "names": "words in the pictures' names, such as small-dog_02.png",
    }
    raise MinidiffError(f"{root}: no captions; --captions {where} expects {expected[where]}")


def name_in_words(picture: Path) -> str:
    """Return what a file's name says: "a-small_dog 02.png" is "a small dog"; a number at the end tells pictures apart.

    A name that is nothing but numbers says nothing.
    """
    words = split(picture.stem)
    while words and words[-1].isdigit():
        words.pop()
    return re.sub(r"\d+$", "", " ".join(words))


def inside(root: Path, file: str | Path) -> str:
    """Return a file's path below `root`, for a message."""
    return Path(file).relative_to(root).as_posix()


def _is_text(file: Path) -> bool:
    return file.suffix.lower() == ".txt"


def _warn(root: Path, what: str, names: list[str]) -> None:
    if names:
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        log.warning("%s", f"{root}: {len(names)} {what}: {'; '.join(names[:NAMED])}{more}")


# -- text files -------------------------------------------------------------------------------------------------------


def _from_texts(root: Path, pictures: Sequence[Path], written: Sequence[Path], problems: list[str]) -> list[str]:
    texts = {(file.parent, file.stem): file for file in written if _is_text(file)}
    found = []
    for picture in pictures:
        file = texts.get((picture.parent, picture.stem))
        text, problem = "", ""
        if file is not None:
            try:
                text, problem = _read(file)
            except OSError as error:
                problem = error.strerror or type(error).__name__
        if file is not None and problem:
            problems.append(f"{inside(root, file)} ({problem})")
        found.append(text)
    return found


def _read(file: Path) -> tuple[str, str]:
    """Return the beginning of a text file, and what is wrong with it, if anything.

    UTF-8, or UTF-16 if it says so by its first two bytes, as Windows' editor once wrote.
    """
    with file.open("rb") as stream:
        data = stream.read(_MOST + 1)
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    decoder = codecs.getincrementaldecoder("utf-16" if wide else "utf-8-sig")(errors="replace")
    text = decoder.decode(data[:_MOST], final=len(data) <= _MOST)  # a cut need not lie between two letters
    if len(data) > _MOST:
        return text, f"only its first {_MOST // 1024} KiB are read"
    return text, "not all of it is UTF-8" if "\ufffd" in text else ""


# -- metadata ---------------------------------------------------------------------------------------------------------


def _from_metadata(root: Path, pictures: Sequence[Path], written: Sequence[Path], problems: list[str]) -> list[str]:
    number = {os.path.normpath(picture): i for i, picture in enumerate(pictures)}
    found: list[str | None] = [None] * len(pictures)
    for file in (file for file in written if file.name == METADATA):
        try:
            for line, entry in _entries(file):
                problem = _take(root, file, entry, number, found)
                if problem:
                    problems.append(f"{inside(root, file)} line {line} ({problem})")
        except OSError as error:
            problems.append(f"{inside(root, file)} ({error.strerror or type(error).__name__})")
    return [text or "" for text in found]


def _entries(file: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the numbers 1, 2, … and the bytes of a file's lines that are not blank, of long ones the beginning."""
    with file.open("rb") as stream:
        number, line_begins = 0, True
        while part := stream.readline(_MOST):
            if line_begins:
                number += 1
                if part.strip():
                    yield number, part
            line_begins = part.endswith(b"\n")


def _take(root: Path, file: Path, line: bytes, number: dict[str, int], found: list[str | None]) -> str:
    """Note the caption of a line of metadata; return what is wrong with it, "" if nothing is."""
    if len(line) == _MOST:
        return f"longer than {_MOST // 1024} KiB"
    try:
        entry = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return "no JSON"
    name, text = (entry.get(key) if isinstance(entry, dict) else None for key in ("file_name", "text"))
    if not isinstance(name, str) or not isinstance(text, str):
        return 'expected {"file_name": …, "text": …}'
    path = os.path.normpath(file.parent / name)
    i = number.get(path)
    if i is None:
        outside = not Path(path).is_relative_to(os.path.normpath(root))
        return f"{name[:60]!r} lies outside the folder" if outside else f"no picture {name[:60]!r}"
    if found[i] is not None:
        return f"{name[:60]!r} has a caption already"
    found[i] = text
    return ""
