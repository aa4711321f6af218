"""Images of a training's folder, those that a drawing starts from or follows, and the settings in a grid."""

import json
import shutil
import struct
import zlib
from pathlib import Path
from random import Random

from PIL import Image, PngImagePlugin

from minidiff.images.files import METADATA_KEY
from tests.fuzz import odd
from tests.fuzz.case import Case, kind
from tests.fuzz.kinds.data import training
from tests.fuzz.mutations import spoil_bytes, spoil_json, spoil_text
from tests.fuzz.samples import SAMPLE, Samples


@kind("image", weight=3)
def image(random: Random, folder: Path, samples: Samples) -> Case:
    """An image of any format, spoilt, given in any of the ways in which one can be given."""
    source = random.choice(sorted(samples.images.iterdir()))
    path = folder / source.name
    spoil_image(random, source, path)
    given, words = str(path), ["--checkpoint", str(samples.words), *SAMPLE, "--out", "out"]
    whole = str(samples.images / "colour.png")
    return random.choice([
        lambda: Case("sample", [*words, "--init", given]),
        lambda: Case("sample", [*words, "--init", whole, "--mask", given]),
        lambda: Case("sample", [*words, "--init", whole, "--to", given]),
        lambda: Case("sample", [*words, "--init", given, "--noise-level", "auto"]),
        lambda: Case("sample", [*words, "--adapter", str(samples.edges), "--control", given]),
        lambda: Case("sample", [*words, "--adapter", str(samples.reference), "--reference", given]),
        lambda: _folder_with(path, samples, random),
        lambda: _folder_with(path, samples, random),
    ])()  # fmt: skip


def _folder_with(path: Path, samples: Samples, random: Random) -> Case:
    place = path.parent / "in"
    shutil.copytree(samples.captioned, place)
    shutil.move(path, place / path.name)
    more = random.choice([[], ["--grey"], ["--background", "#ff00ff"], ["--captions", "none"]])
    return training("folder", place, "--size", "8", "--text-width", "8", *more)


def spoil_image(random: Random, source: Path, path: Path) -> None:
    """Write a spoilt copy: any bytes, or of a PNG its chunks with right sums, to reach more of the decoder."""
    data = source.read_bytes()
    choice = random.randrange(6)
    if choice == 0 and source.suffix == ".png":
        data = _png(random, data)
    elif choice == 1:
        size = random.choice([(1, 1), (1, 2000), (2000, 1), (9000, 9000), (30_000, 2), (12_000, 8000)])
        mode = random.choice(["1", "L", "RGB", "I;16"])
        Image.new(mode, size).save(path, "PNG", compress_level=1)
        data = path.read_bytes()
    else:
        data = spoil_bytes(random, data)
    path.write_bytes(data)


def _png(random: Random, data: bytes) -> bytes:
    """Spoil the content of one chunk of a PNG, or its type, and sum it anew."""
    chunks, place = [], 8
    while place + 8 <= len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        chunks.append([data[place + 4 : place + 8], data[place + 8 : place + 8 + length]])
        place += 12 + length
    chunk = random.choice([*chunks, chunks[0]])
    chunk[1] = spoil_bytes(random, chunk[1])
    if random.random() < 0.2:
        chunks.insert(random.randrange(len(chunks)), [random.choice([b"tEXt", b"zTXt", b"iCCP", b"eXIf"]), chunk[1]])
    if random.random() < 0.2:
        chunks.remove(chunk)
    return data[:8] + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )


@kind("like", weight=2)
def like(random: Random, folder: Path, samples: Samples) -> Case:
    """A grid.png whose settings are odd, are many, are none."""
    path = folder / "grid.png"
    choice = random.randrange(6)
    if choice == 0:
        path.write_bytes(spoil_bytes(random, samples.grid.read_bytes()))
    elif choice == 1:
        path.write_bytes(_png(random, samples.grid.read_bytes()))
    else:
        with Image.open(samples.grid) as grid:
            text = grid.info[METADATA_KEY]
            about = json.loads(text)
            if choice <= 4:
                settings = json.dumps(about["settings"])
                spoilt = random.choice([spoil_json(random, about), None]) or json.dumps(about).replace(
                    settings, spoil_json(random, about["settings"])
                )
            else:
                spoilt = spoil_text(random, text, odd.JSON).decode("latin-1")
            chunks = PngImagePlugin.PngInfo()
            (chunks.add_itxt if random.random() < 0.5 else chunks.add_text)(
                METADATA_KEY, spoilt.encode("utf-8", "replace").decode(), zip=random.random() < 0.5
            )
            grid.save(path, pnginfo=chunks)
    return Case("sample", ["--like", str(path), "--backend", "numpy", "--out", "out"])
