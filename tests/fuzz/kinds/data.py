"""What a training learns from: npz, IDX, CIFAR-10, and captions beside images."""

import gzip
import io
import re
import shutil
import zipfile
from pathlib import Path
from random import Random

from tests.fuzz import odd
from tests.fuzz.case import Case, kind
from tests.fuzz.mutations import spoil_bytes, spoil_text
from tests.fuzz.samples import TRAIN, Samples

_LABELS = "labels.npy"
_HEADERS = ["<U0", "<U1", "<U100000000", "|S3", "|O", "<f8", "|u1", "|b1", "<i8", ">i2", "<M8[s]", "|V0", "|u0", "<c16"]
_SHAPES = ["()", "(0,)", "(20,)", "(1000000000,)", "(20, 8, 8)", "(20, 8, 8, 3)", "(20, 8, 8, 4)", "(0, 8, 8, 3)"]
_SHAPES += ["(20, 1, 1, 3)", "(-1,)", "(20, 8, 8, 3, 1)", "(2147483648, 2147483648, 4)", "(1.5,)", "(True,)", "20"]
_NAMES = ["images.npy", "arr_0.npy", "labels.npy", "classes.npy", "\x1b[31mred.npy", "a" * 5000, " ", "../x", "images"]


def training(data: str, place: Path, *more: str) -> Case:
    """A training of one step on such data."""
    return Case("train", ["--data", data, "--data-dir", str(place), *TRAIN, "--steps", "1", "--out", "out", *more])


@kind("npz", weight=2)
def npz(random: Random, folder: Path, samples: Samples) -> Case:
    """Bytes of the archive, or of a member, or its header, its name, its packing."""
    path, source = folder / "in.npz", random.choice([samples.npz, samples.npz, samples.plain_npz])
    if random.random() < 0.3:
        path.write_bytes(spoil_bytes(random, source.read_bytes()))
    else:
        path.write_bytes(_spoil_archive(random, source.read_bytes()))
    return training("npz", path, *random.choice([[], [], ["--grey"], ["--flip"]]))


def _spoil_archive(random: Random, data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for _ in range(random.choice([1, 1, 2])):
        name = random.choice(sorted(members))
        choice = random.randrange(6)
        if choice == 0:
            members[name] = spoil_bytes(random, members[name])
        elif choice <= 3:
            members[name] = _spoil_header(random, members[name])
        elif choice == 4:
            members[random.choice(_NAMES)] = members.pop(name)
        else:
            del members[name]
        if not members:
            break
    packing = random.choice([zipfile.ZIP_STORED] * 3 + [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w", packing) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    whole = result.getvalue()
    return spoil_bytes(random, whole) if random.random() < 0.2 else whole


def _spoil_header(random: Random, array: bytes) -> bytes:
    """Another dtype, shape or order in the header of a .npy; sometimes text that is no header."""
    length = int.from_bytes(array[8:10], "little")
    text, content = array[10 : 10 + length].decode("latin-1"), array[10 + length :]
    found = re.match(r"\{'descr': (.*?), 'fortran_order': .*?, 'shape': (\(.*?\)), \}", text)
    if found is None:  # it was spoilt before
        return spoil_bytes(random, array)
    dtype, shape = found.groups()
    choice = random.randrange(6)
    if choice <= 1:
        text = text.replace(dtype, f"'{random.choice(_HEADERS)}'")
    elif choice <= 3:
        text = text.replace(shape, random.choice(_SHAPES))
    elif choice == 4:
        text = text.replace("False", random.choice(["True", "None", "0", "1 if 1 else 0"]))
    else:
        text = spoil_text(random, text).decode("latin-1")
    coded = text.encode("latin-1", "replace")[:65535]
    return array[:8] + len(coded).to_bytes(2, "little") + coded + content


@kind("idx")
def idx(random: Random, folder: Path, samples: Samples) -> Case:
    """One of MNIST's files spoilt: plain, or packed, before packing or after it."""
    place = folder / "in"
    shutil.copytree(samples.idx, place)
    path = random.choice([place / "train-images-idx3-ubyte.gz", place / "train-labels-idx1-ubyte.gz"])
    whole = gzip.decompress(path.read_bytes())
    choice = random.randrange(5)
    if choice == 0:
        path.write_bytes(spoil_bytes(random, path.read_bytes()))
    elif choice == 1:
        path.write_bytes(gzip.compress(spoil_bytes(random, whole), mtime=0))
    elif choice == 2:
        path.with_suffix("").write_bytes(spoil_bytes(random, whole))
    elif choice == 3:  # packed twice, and what unpacks to far more than there are images
        path.write_bytes(
            random.choice([gzip.compress(path.read_bytes(), mtime=0), path.read_bytes() + zeros(16 << 24)])
        )
    else:
        path.unlink()
        path.with_suffix(random.choice(["", ".gz"])).symlink_to(random.choice(["/dev/zero", "missing", "."]))
    return training(random.choice(["mnist", "fashion-mnist"]), place)


def zeros(count: int) -> bytes:
    """Return a gzip file of a multiple of 16 MiB of zeros; its parts are packed once."""
    return gzip.compress(bytes(1 << 24), 1, mtime=0) * (count >> 24)


@kind("cifar", weight=0.5)
def cifar(random: Random, folder: Path, samples: Samples) -> Case:
    """A file of CIFAR-10, or its list of names."""
    place = folder / "in"
    shutil.copytree(samples.cifar, place)
    path = random.choice([place / "data_batch_3.bin", place / "batches.meta.txt"])
    choice = random.randrange(4)
    if choice <= 1:
        path.write_bytes(spoil_bytes(random, path.read_bytes()))
    elif choice == 2:
        text = path.read_bytes().decode("latin-1") if path.suffix == ".bin" else path.read_text()
        path.write_bytes(spoil_text(random, text))
    else:
        path.unlink()
        path.symlink_to(random.choice(["/dev/zero", "missing", ".", "/dev/null"]))
    return training("cifar10", place, *random.choice([[], ["--grey"]]))


@kind("captions", weight=1.5)
def captions(random: Random, folder: Path, samples: Samples) -> Case:
    """Captions in text files, in metadata.jsonl, in names; spoilt, missing, odd."""
    place = folder / "in"
    shutil.copytree(samples.captioned, place)
    where = random.choice(["txt", "metadata", "names", "auto", "auto"])
    for _ in range(random.choice([1, 1, 3])):
        image = random.choice(sorted(place.glob("*.png")))
        choice = random.randrange(5)
        if choice == 0:
            text = image.with_suffix(".txt")
            text.write_bytes(spoil_text(random, text.read_text("utf-8", "replace") if text.is_file() else "a dog"))
        elif choice <= 2:
            metadata = place / "metadata.jsonl"
            metadata.write_bytes(spoil_text(random, metadata.read_bytes().decode("utf-8", "replace"), odd.JSON))
        elif choice == 3:
            name = random.choice(odd.TEXTS).replace("/", "").replace("\0", "")[:80].replace("\ud800", "")
            image.rename(image.with_name(name.strip(".") + "x.png"))
        else:
            text = image.with_suffix(".txt")
            text.unlink(missing_ok=True)
            text.symlink_to(random.choice(["/dev/zero", "missing", "."]))
    if where != "txt" and random.random() < 0.5:
        for text in place.glob("*.txt"):
            text.unlink()
    return training("folder", place, "--size", "8", "--captions", where, "--text-width", "8")
