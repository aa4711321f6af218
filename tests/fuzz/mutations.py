"""Ways to spoil what is whole: any bytes, lines and numbers of text, trees of JSON, safetensors from the inside."""

import json
import re
import struct
from random import Random
from typing import Any

from tests.fuzz import odd

_NUMBER = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?")


def spoil_bytes(random: Random, data: bytes) -> bytes:
    """Change a few bits, bytes or stretches; often only one, so that the rest of a reader is reached."""
    for _ in range(random.choice([1, 1, 1, 2, 3, 8])):
        data = random.choice(_WAYS)(random, bytearray(data))
    return data


def _flip(random: Random, data: bytearray) -> bytes:
    if data:
        data[_place(random, data)] ^= 1 << random.randrange(8)
    return bytes(data)


def _set(random: Random, data: bytearray) -> bytes:
    if data:
        data[_place(random, data)] = random.choice([0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)])
    return bytes(data)


def _number(random: Random, data: bytearray) -> bytes:
    """Write an odd whole number over some bytes: sizes and counts stand in headers like that."""
    width, order = random.choice([1, 2, 4, 8]), random.choice(["little", "big"])
    most = (1 << 8 * width) - 1
    number = random.choice(
        [0, 1, most, most >> 1, (most >> 1) + 1, most >> 4, len(data) & most, random.randint(0, most)]
    )
    place = _place(random, data)
    data[place : place + width] = number.to_bytes(width, order)  # type: ignore[arg-type]
    return bytes(data)


def _cut(random: Random, data: bytearray) -> bytes:
    return bytes(data[: random.choice([0, 1, _place(random, data), len(data) - 1, len(data) // 2])])


def _remove(random: Random, data: bytearray) -> bytes:
    place = _place(random, data)
    del data[place : place + random.choice([1, 2, 4, 16, 256])]
    return bytes(data)


def _insert(random: Random, data: bytearray) -> bytes:
    place = _place(random, data)
    data[place:place] = random.choice(
        [bytes([random.randrange(256)]), bytes(16), random.randbytes(random.randrange(64))]
    )
    return bytes(data)


def _repeat(random: Random, data: bytearray) -> bytes:
    place, width = _place(random, data), random.choice([1, 4, 16, 256])
    data[place:place] = data[place : place + width] * random.choice([1, 2, 100])
    return bytes(data)


def _blank(random: Random, data: bytearray) -> bytes:
    """A stretch of zeros or ones, as a disk that lost power leaves it."""
    place, width = _place(random, data), random.choice([4, 64, 4096])
    there = len(data[place : place + width])
    data[place : place + width] = bytes([random.choice([0, 0xFF])]) * there
    return bytes(data)


def _swap(random: Random, data: bytearray) -> bytes:
    a, b, width = _place(random, data), _place(random, data), random.choice([1, 4, 32])
    data[a : a + width], data[b : b + width] = data[b : b + width], data[a : a + width]
    return bytes(data)


def _append(random: Random, data: bytearray) -> bytes:
    return bytes(data) + random.choice([b"\0", bytes(1000), bytes(data), b"\n", random.randbytes(10)])


def _place(random: Random, data: bytearray) -> int:
    """Somewhere, half of the time among the first bytes, where the header is."""
    return random.randrange(max(1, min(len(data), random.choice([64, 1024, len(data) or 1, len(data) or 1]))))


_WAYS = [_flip, _set, _set, _number, _number, _cut, _remove, _insert, _repeat, _blank, _swap, _append]


def spoil_text(random: Random, text: str, numbers: list[str] | None = None) -> bytes:
    """Put odd numbers, words, lines and bytes into a text; return it as bytes, which may be no UTF-8 any more."""
    for _ in range(random.choice([1, 1, 2, 4])):
        choice, lines = random.randrange(9), text.split("\n")
        at = random.randrange(len(lines))
        if choice <= 2 and (found := list(_NUMBER.finditer(text))):
            match = random.choice(found)
            text = text[: match.start()] + random.choice(numbers or odd.NUMBERS) + text[match.end() :]
        elif choice == 3:
            place = random.randrange(len(text) + 1)
            text = text[:place] + random.choice(odd.TEXTS) + text[place:]
        elif choice == 4:
            text = "\n".join(lines[:at] + lines[at + 1 :])
        elif choice == 5:
            text = "\n".join(lines[: at + 1] * random.choice([1, 2]) + lines[at:])
        elif choice == 6:
            text = text[: random.randrange(len(text) + 1)]
        elif choice == 7:
            text = text.replace("\n", random.choice(["\r\n", "\r", "\u2028", "", "\0", "\n\n"]))
        else:
            words = text.split(" ")
            words[random.randrange(len(words))] = random.choice(odd.TEXTS)
            text = " ".join(words)
    encoding = random.choice(["utf-8", "utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1"])
    data = text.encode(encoding, "surrogatepass" if encoding.startswith("utf") else "replace")
    return spoil_bytes(random, data) if random.random() < 0.15 else data


def spoil_json(random: Random, tree: Any) -> str:
    """Change a few places of a tree and return it as text: odd values, lost, renamed and doubled names, other types."""
    tree = json.loads(json.dumps(tree))
    raw: list[str] = []
    for _ in range(random.choice([1, 1, 1, 2, 4])):
        tree = _spoil_tree(random, tree, raw)
    text = json.dumps(tree, ensure_ascii=random.random() < 0.5)
    for number, spelt in enumerate(raw):
        text = text.replace(f'"@{number}@"', spelt)
    return text


def _spoil_tree(random: Random, tree: Any, raw: list[str]) -> Any:
    places = list(_places(tree))
    if not places or random.random() < 0.02:
        raw.append(random.choice(odd.JSON))
        return f"@{len(raw) - 1}@"
    inside, name = random.choice(places)
    choice = random.randrange(8)
    if choice <= 4:
        raw.append(random.choice(odd.JSON))
        inside[name] = f"@{len(raw) - 1}@"
    elif choice == 5:
        del inside[name]
    elif choice == 6 and isinstance(inside, dict):
        inside[random.choice([name + "x", name.upper(), "", *odd.TEXTS])] = inside.pop(name)
    else:
        inside[name] = random.choice([[inside[name]], {"a": inside[name]}, str(inside[name]), [inside[name]] * 3])
    return tree


def _places(tree: Any) -> Any:
    """Yield each (list or table, index or name) in a tree."""
    if isinstance(tree, dict | list):
        for name in list(tree) if isinstance(tree, dict) else range(len(tree)):
            yield tree, name
            yield from _places(tree[name])


def read_safetensors(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the header and the tensors' bytes of a safetensors file."""
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def write_safetensors(header: str | dict[str, Any], tensors: bytes) -> bytes:
    """Return a safetensors file with this header, however wrong it is."""
    text = header if isinstance(header, str) else json.dumps(header)
    coded = text.encode("utf-8", "surrogatepass")
    coded += b" " * (-len(coded) % 8)
    return struct.pack("<Q", len(coded)) + coded + tensors
