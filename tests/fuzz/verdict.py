"""What is wrong with how a case ended: one word for each fault, and what to compare it by with others."""

import hashlib
import os
import re
import stat
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

FAULTS = ("traceback", "hang", "peak", "exit", "text", "files", "broken")
MAX_PEAK = 1500  # megabytes
LONGEST_LINE = 5000  # characters; a message is cut at 4,000
BROKEN = 99
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")
_REWRITTEN = ("metrics.jsonl", "config.toml", "grid.png", "noise_to_image.gif", "loss.png")  # of a run that goes on
_REWRITTEN += ("evaluation.json", "misread.png")  # of an evaluation that is repeated
_JOINERS = "\u200c\u200d"


@dataclass
class Ended:
    """How a case ended.

    before, after: the files in its folder, name to digest.  stack: where it was when it failed or took too long.
    """

    kind: str
    seed: int
    command: str
    words: list[str]
    code: int
    codes: tuple[int, ...]
    hung: bool
    seconds: float
    cpu: float
    peak: int
    out: bytes
    err: bytes
    before: dict[str, str] = field(default_factory=dict)
    after: dict[str, str] = field(default_factory=dict)
    stack: str = ""
    encoding: str = "utf-8"
    note: str = ""
    heard: bool = True

    @property
    def errors(self) -> str:
        """What it printed on stderr, and what it would have, had there been one."""
        text = self.err.decode(self.encoding, "replace")
        return text if "Traceback" in text or self.hung else f"{text}\n{self.stack}"


def faults(ended: Ended, most_peak: float = MAX_PEAK) -> dict[str, str]:
    """Return what is wrong: fault to a line on it, {} if all is well.  most_peak: megabytes that it may have held."""
    found: dict[str, str] = {}
    if ended.code == BROKEN or not ended.command:
        return {"broken": f"the case could not be made: {_last_line(ended.errors)}"}
    if "Traceback (most recent call last)" in ended.errors or "Exception ignored" in ended.errors:
        found["traceback"] = where(ended.errors)
    if ended.hung:
        at = _where_it_hangs(ended.stack)
        found["hang"] = f"in {at}: at work after {ended.seconds:.0f} s, {ended.cpu:.0f} of them computing"
    if ended.peak > most_peak * 1e6 or re.search("out of memory|MemoryError|Unable to allocate", ended.errors):
        found["peak"] = f"{ended.peak / 1e6:.0f} MB; {_last_line(ended.errors)[:200]}"
    if ended.code not in ended.codes and not ended.hung and "traceback" not in found:
        found["exit"] = f"exit code {ended.code}; {_last_line(ended.errors)[:200]}"
    if said := _said_badly(ended):
        found["text"] = said
    if not ended.hung and (left := _files(ended)):
        found["files"] = left
    return found


def signature(fault: str, line: str) -> str:
    """Return what findings of one cause share: the line without what differs from case to case."""
    return f"{fault}: " + re.sub(r"\d+", "N", re.sub(r"'[^']*'|(?<!\w)/\S+", "…", line))[:160]


def where(text: str) -> str:
    """Return the place in minidiff and the error of the last traceback."""
    places = re.findall(r'File "[^"]*/((?:minidiff|kernels)/[^"]+)", line (\d+)', text)
    own = [place for place in places if "/fuzz/" not in place[0] and not place[0].endswith("errors.py")]
    at = f"{own[-1][0]}:{own[-1][1]}" if own else "outside minidiff"
    errors = re.findall(r"^(\w[\w.]*(?:Error|Exception|Interrupt|Exit|Bomb|Warning)\b.*)$", text, re.MULTILINE)
    return f"{at} {errors[-1][:200] if errors else _last_line(text)[:200]}"


def _where_it_hangs(text: str) -> str:
    """The innermost place in minidiff of the main thread, whose frames faulthandler prints last, innermost first."""
    frames = re.findall(r'File "([^"]*)", line (\d+)', text.split("Current thread")[-1] if "Current" in text else text)
    own = [f"{file.split('/')[-2]}/{file.split('/')[-1]}:{line}" for file, line in frames if "/minidiff/" in file]
    return own[0] if own else "nowhere"


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _said_badly(ended: Ended) -> str:
    """Control characters, lines without end, warnings, a refusal without a word or with several."""
    for name, data in (("stdout", ended.out), ("stderr", ended.err)):
        try:
            text = data.decode(ended.encoding)
        except UnicodeDecodeError as error:
            if error.start < len(data) - 4:  # but for a character that was cut after a megabyte
                return f"{name}: bytes that are no {ended.encoding}"
            text = data.decode(ended.encoding, "replace")
        for line in re.split("[\r\n]", text):
            if len(line) > LONGEST_LINE:
                return f"{name}: a line of {len(line)} characters: {line[:60]!a}"
            bad = next((c for c in line if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")), "")
            if bad and bad not in _JOINERS:
                at = line.index(bad)
                return f"{name}: the raw character {bad!a}, after {line[max(at - 60, 0) : at]!a}"
    if warning := re.search(r"^.*\b\w*Warning: .*$", ended.errors, re.MULTILINE):
        return f"stderr: {warning[0][:200]}"
    if ended.code == 2 and ended.heard and not ended.hung:
        said = len(re.findall("(?:^|[\r\n])error: ", ended.errors)) + ("╭─" in ended.errors or "+-" in ended.errors)
        if said != 1:
            return f"{said} lines say what is wrong"
    return ""


def _files(ended: Ended) -> str:
    """Files that were left half written, lost or changed."""
    if half := [name for name in ended.after if _TEMPORARY.fullmatch(Path(name).name) and name not in ended.before]:
        return f"left behind: {half[0]}"
    there = set(ended.after.values())
    for name, digest in ended.before.items():
        own = Path(name).name
        if digest not in there and own not in _REWRITTEN and not _TEMPORARY.fullmatch(own):  # a run that goes on tidies
            return f"lost or changed: {name}"
    return ""


def tree(folder: Path) -> dict[str, str]:
    """Return each file below a folder, name to a digest of its content; of what is no file, its kind."""
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            try:
                mode = path.lstat().st_mode
                digest = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(mode) else oct(stat.S_IFMT(mode))
            except OSError as error:
                digest = str(error.errno)
            found[os.fsencode(path.relative_to(folder)).decode("utf-8", "backslashreplace")] = digest
    return found
