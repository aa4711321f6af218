r"""Captions of a user's images: from a text file beside each image, from metadata, or from the file names.

Idea: captions are read where people and their tools write them: dog.txt beside dog.png; a metadata.jsonl or a
metadata.csv as in the image folders of Hugging Face, with lines such as {"file_name": "dog.png", "text": "a dog"}; or
the file name a-small-dog_02.png.  People and unknown programs wrote them, so what cannot be used is named in a warning
and left out, and the training goes on.  Spellings with one meaning are equal: é as one character or two, / or \ in a
path, and the keys text, caption and prompt.
Leaves out how captions become tokens: nn/tokenizer.py.
"""

import codecs
import csv
import io
import logging
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from minidiff.data.config import Captions
from minidiff.errors import MinidiffError, listed, printable
from minidiff.files import open_regular, parse_json
from minidiff.nn.tokenizer import MAX_TOKENS, split

METADATA = "metadata.jsonl", "metadata.csv"  # in any case
KEYS = "text", "caption", "prompt"  # of metadata; of several in one line, the first of these is used
NAMED = 5  # how many files a warning names
MAX_METADATA = 1 << 28  # bytes of a file of metadata
_MOST = 1 << 16  # bytes of a text file, or of a line of metadata, that are read

log = logging.getLogger(__name__)


def set_apart(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Return all other files, and the files of captions: metadata, and each .txt beside a file of the same name."""
    beside = {_stem(file) for file in files if not _is_text(file)}
    apart = [_is_metadata(file) or (_is_text(file) and _stem(file) in beside) for file in files]
    return [file for file, is_apart in zip(files, apart) if not is_apart], [
        file for file, is_apart in zip(files, apart) if is_apart
    ]


def captions(root: Path, images: Sequence[Path], written: Sequence[Path], where: Captions) -> list[str] | None:
    """Return a caption for each image, "" where there is none; None for no captions at all.

    images, written: as `set_apart` finds them under `root`, without images that cannot be read.
    where: "txt", "metadata", "names", "none", or "auto": text files or else metadata if there is a word in them.
    Warnings name what is missing or wrong.  Raises MinidiffError if captions are asked for and none has a word.
    """
    if where == "none":
        return None
    for name in ("txt", "metadata") if where == "auto" else (where,):
        problems: list[str] = []
        if name == "names":
            found = [name_in_words(image) for image in images]
        elif name == "txt":
            found = _from_texts(root, images, written, problems)
        else:
            found = _from_metadata(root, images, written, problems)
        warn(root, "captions left out or damaged", problems)
        if any(map(split, found)):
            silent = [inside(root, image) for image, text in zip(images, found) if not split(text)]
            warn(root, f"of {len(images)} images have no caption", silent)
            long = [inside(root, image) for image, text in zip(images, found) if len(split(text)) > MAX_TOKENS]
            warn(root, f"captions have more than {MAX_TOKENS} words, of which the rest is not learnt", long)
            return found
    if where == "auto":
        return None
    expected = {
        "txt": "a .txt file with words beside an image, such as dog.txt beside dog.png",
        "metadata": 'a metadata.jsonl with lines such as {"file_name": "dog.png", "text": "a dog"}, or a metadata.csv '
        "with file_name,text as its first line",
        "names": "words in the images' names, such as small-dog_02.png",
    }
    raise MinidiffError(f"{root}: no captions; --captions {where} expects {expected[where]}")


def name_in_words(image: Path) -> str:
    """Return the caption in the name of a file: "a small dog" for "a-small_dog 02.png", without the number at the end.

    A name of numbers alone gives "".
    """
    words = split(image.stem)
    while words and words[-1].isdigit():
        words.pop()
    return re.sub(r"\d+$", "", " ".join(words))


def inside(root: Path, file: str | Path) -> str:
    """Return a file's path below `root`, for a message."""
    return printable(Path(file).relative_to(root).as_posix())


def warn(root: Path, what: str, names: list[str]) -> None:
    """Log a warning in one line: how many files it is about, and the names of the first ones."""
    if names:
        log.warning("%s", f"{printable(root)}: {len(names)} {what}: {listed(names, NAMED, '; ')}")


def _is_text(file: Path) -> bool:
    return file.suffix.lower() == ".txt"


def _is_metadata(file: Path) -> bool:
    return file.name.lower() in METADATA


def _stem(file: Path) -> tuple[Path, str]:
    return file.parent, unicodedata.normalize("NFC", file.stem)


# -- text files -------------------------------------------------------------------------------------------------------


def _from_texts(root: Path, images: Sequence[Path], written: Sequence[Path], problems: list[str]) -> list[str]:
    texts = {_stem(file): file for file in written if _is_text(file)}
    found = []
    for image in images:
        file = texts.get(_stem(image))
        text, problem = "", ""
        if file is not None:
            try:
                text, problem = _read(file)
            except (OSError, MinidiffError) as error:
                problem = _why(error, file)
        if file is not None and problem:
            problems.append(f"{inside(root, file)} ({problem})")
        found.append(text)
    return found


def _why(error: Exception, file: Path) -> str:
    """Return why a file cannot be read, without its name."""
    said = error.strerror if isinstance(error, OSError) else None
    return (said or str(error) or type(error).__name__).removeprefix(f"{file} ")


def _read(file: Path) -> tuple[str, str]:
    """Return the beginning of a text file, and what is wrong with it, "" for nothing.

    It is UTF-8, or UTF-16 if it begins with a byte order mark, as files from Windows Notepad once did.
    """
    with open_regular(file) as stream:
        data = stream.read(_MOST + 1)
    decoder = codecs.getincrementaldecoder(_encoding(data))(errors="replace")
    text = decoder.decode(data[:_MOST], final=len(data) <= _MOST)  # the cut may lie within a character
    if len(data) > _MOST:
        return text, f"only its first {_MOST // 1024} KiB are read"
    return text, "not all of it is UTF-8" if "\ufffd" in text else ""


def _encoding(data: bytes) -> str:
    return "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"


# -- metadata ---------------------------------------------------------------------------------------------------------


def _from_metadata(root: Path, images: Sequence[Path], written: Sequence[Path], problems: list[str]) -> list[str]:
    exact = {os.path.normpath(image): i for i, image in enumerate(images)}
    number = {unicodedata.normalize("NFC", path): i for path, i in exact.items()} | exact
    found: list[str | None] = [None] * len(images)
    for file in filter(_is_metadata, written):
        entries = _table if file.name.lower().endswith(".csv") else _lines
        try:
            with _text(file) as stream:
                for line, entry in entries(stream):
                    problem = entry if isinstance(entry, str) else _take(root, file, entry, number, found)
                    if problem:
                        problems.append(f"{inside(root, file)} line {line} ({problem})")
        except (OSError, MinidiffError, csv.Error) as error:
            problems.append(f"{inside(root, file)} ({_why(error, file)})")
    return [text or "" for text in found]


def _text(file: Path) -> io.TextIOWrapper:
    stream = open_regular(file, MAX_METADATA)
    encoding = _encoding(stream.read(2))
    stream.seek(0)
    # Line ends are left to the reader of CSV, since they may be part of a caption.
    return io.TextIOWrapper(stream, encoding, errors="replace", newline="")


def _lines(file: io.TextIOWrapper) -> Iterator[tuple[int, Any]]:
    """Yield the number 1, 2, … of each line of JSON that is not blank, and its object, or a text on what is wrong."""
    number, line_begins = 0, True
    while part := file.readline(_MOST):
        if line_begins:
            number += 1
            if len(part) == _MOST:
                yield number, f"longer than {_MOST // 1024} KiB"
            elif part.strip():
                try:
                    entry = parse_json(part, "it")
                except MinidiffError:
                    entry = None
                yield number, entry if isinstance(entry, dict) else _EXPECTED if entry is not None else "no JSON"
        line_begins = part.endswith("\n")


def _table(file: io.TextIOWrapper) -> Iterator[tuple[int, Any]]:
    """Yield the number 2, 3, … of each line of CSV, and its values by the names in the first line, as `_lines` does."""
    rows = csv.DictReader(file)
    if "file_name" not in (rows.fieldnames or ()):
        yield 1, "expected names of columns, with file_name and text"
        return
    for entry in rows:
        yield rows.line_num, entry


_EXPECTED = 'expected {"file_name": …, "text": …}'


def _take(root: Path, file: Path, entry: dict[str, Any], number: dict[str, int], found: list[str | None]) -> str:
    """Store the caption of a line of metadata; return what is wrong with the line, "" for nothing."""
    name, text = entry.get("file_name"), next((entry[key] for key in KEYS if entry.get(key) is not None), None)
    if not isinstance(name, str) or not isinstance(text, str):
        return _EXPECTED
    path = os.path.normpath(file.parent / name)
    ways = [path, os.path.normpath(file.parent / name.replace("\\", "/"))]
    ways += [unicodedata.normalize("NFC", way) for way in ways]
    i = next((number[way] for way in ways if way in number), None)
    shown = f"'{printable(name, 60)}'"
    if i is None:
        outside = not Path(path).is_relative_to(os.path.normpath(root))
        return f"{shown} lies outside the folder" if outside else f"no image {shown}"
    if found[i] is not None:
        return f"{shown} has a caption already"
    found[i] = text
    return "not all of it is UTF-8" if "\ufffd" in text else ""
