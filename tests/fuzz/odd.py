"""Values that nobody expects: numbers, texts and paths, as they are typed and as JSON or TOML spells them."""

import os
from pathlib import Path
from random import Random

NUMBERS = [
    *("0", "-0", "-1", "1", "2", "3", "7", "+5", "0.5", "-0.5", "1e-320", "1e308", "-1e308", "1e400", "1.0"),
    *("65535", "65536", "2147483647", "2147483648", "4294967295", "4294967296", "9223372036854775808"),
    *("18446744073709551615", "18446744073709551616", "-9223372036854775809", "1" + 30 * "0", "1" + 400 * "0"),
    *("nan", "inf", "-inf", "NaN", "infinity", "9" * 5000, "-" + "9" * 5000, "0." + "0" * 5000 + "1"),
    *("0x10", "0b1", "0o7", "1_000", "1e3", "1,5", "٣", "²", "½", "1 2", " 1 ", "1;", "--1", "1j", "0x1p-3"),
]
TEXTS = [
    *(
        "",
        " ",
        "\t",
        "a",
        "a dog",
        "None",
        "null",
        "true",
        "[]",
        "{}",
        "-",
        "--",
        "=",
        "a=b",
        "\\",
        "'",
        '"',
        "#",
        "%s",
    ),
    *("\0", "\n", "\r\n", "\x1b[31mred\x07", "\x1b]0;title\x07", "\x7f", "\x9b2J", "\u202eabc", "\u2028", "\ufeffa"),
    *("é", "é", "犬", "🐕", "\U0010ffff", "\udcff", "\ud800", "a" * 300, "a" * 5000, "犬" * 100_000, "a " * 50_000),
    *("../../etc/passwd", "{0}", "{x!r}", "$(true)", "`true`", "%n%n%n", "x" * 255 + "/" + "y" * 255),
]
# As JSON has them; what is no JSON at all is found by spoiling text.
JSON = [
    *("0", "-1", "1", "2", "3", "0.5", "-0.0", "1e-320", "1e308", "1e400", "-1e400", "NaN", "Infinity", "-Infinity"),
    *("65536", "4294967296", "18446744073709551616", "1" + 30 * "0", "1" + 400 * "0", "9" * 5000, "true", "false"),
    *("null", "[]", "{}", "[[]]", "[0]", "[null]", '{"a": 0}', '""', '"\\u0000"', '"\\ud800"', '"\\u202e"'),
    *('"\\u001b[31mred\\u0007\\n"', '"犬"', '"' + "a" * 100_000 + '"', '"-1"', "1.0", "100000000", "4096", "1000000"),
    *("[" * 100_000, "[" * 900 + "]" * 900, '{"a":' * 30_000, "[" + "0," * 20_000 + "0]", '"../../x"'),
]
TOML = [
    *("0", "-1", "2", "0.5", "nan", "inf", "-inf", "1e400", "0x10", "0b1", "1_000", "4294967296", "1" + 400 * "0"),
    *("9" * 5000, "true", '""', '"a"', '"\\u0000"', '"\\u001b[31m"', "'''\na\n'''", "[]", "[[]]", "[1, 2]", "[-1]"),
    *("[" * 100_000, "[" * 900 + "]" * 900, "{a = 1}", "1979-05-27", "07:32:00", '"' + "a" * 100_000 + '"', ""),
    *("1000000000", "100000000", "1" + 30 * "0", '["a"]', "[true]", "[1.5]", "[9999999999]", "a.b", '"None"'),
]
DEVICES = ["/dev/zero", "/dev/full", "/dev/null", "/dev/random", "/dev/stdin", "/proc/self/mem", "/proc/self/environ"]


def typed(random: Random) -> str:
    """Return a word as somebody might type it where a number or a text is expected."""
    return random.choice(random.choice([NUMBERS, NUMBERS, TEXTS]))


def to_read(random: Random, folder: Path, others: list[Path]) -> str:
    """Return a path to read from: a device, a pipe, a folder, nothing, a name that no file can have, another file."""
    choice = random.randrange(9)
    if choice == 0:
        return random.choice(DEVICES)
    if choice == 1:
        os.mkfifo(folder / "pipe")
        return str(folder / "pipe")
    if choice == 2:
        (folder / "circle").symlink_to(folder / "circle")
        return str(folder / "circle")
    if choice == 3:
        (folder / "empty").touch()
        return str(folder / "empty")
    if choice == 4:
        return random.choice([str(folder), str(folder / "missing" / "file"), ".", "..", "~", "/"])
    if choice in (5, 6):
        return random.choice(TEXTS)
    return str(random.choice(others))


def to_write(random: Random, folder: Path) -> str:
    """Return a path below `folder` to write to, or one that cannot be written.  Never a device."""
    inside = folder / "made"
    inside.mkdir(exist_ok=True)
    choice = random.randrange(5)
    if choice == 0:
        (inside / "circle").symlink_to(inside / "circle")
        return str(inside / "circle")
    if choice == 1:
        (inside / "file").write_bytes(b"precious")
        return random.choice([str(inside / "file"), str(inside / "file" / "below")])
    if choice == 2:
        return ""
    name = random.choice(TEXTS).lstrip("/").replace("..", "")
    return str(inside / name) if choice == 3 else str(inside / "a" / "b" / name[:50])
