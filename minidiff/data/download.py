"""Download a published file from one of its mirrors, check its SHA-256, and rename it into place when it is complete.

TensorFlow Datasets publishes the checksums of the same files.  With them neither a mirror nor the connection needs to
be trusted: http serves as well as https.  From an archive only the files that are expected are unpacked.
Leaves out HTTP, and the bounds on what a server may send: mirror.py.
"""

import hashlib
import tarfile
import zlib
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from minidiff.errors import MinidiffError
from minidiff.files import sha256, write_atomically

_CHUNK = 1 << 16


@dataclass(frozen=True)
class Remote:
    """A published file: its name, its size in bytes, its SHA-256, and the folders (URLs) that offer it."""

    name: str
    size: int
    sha256: str
    mirrors: tuple[str, ...]

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(f"{mirror}/{self.name}" for mirror in self.mirrors)


_MIRRORS = {
    "mnist": (
        "https://storage.googleapis.com/cvdf-datasets/mnist",
        "https://ossci-datasets.s3.amazonaws.com/mnist",
    ),
    "fashion-mnist": (
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    ),
    "cifar10": (
        "https://www.cs.toronto.edu/~kriz",
        "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10",
    ),
}

# Source: tensorflow/datasets, tensorflow_datasets/url_checksums/{mnist,fashion_mnist,cifar10}.txt
_SUMS = {
    "mnist": {
        "train-images-idx3-ubyte.gz": (9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        "train-labels-idx1-ubyte.gz": (28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        "t10k-images-idx3-ubyte.gz": (1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        "t10k-labels-idx1-ubyte.gz": (4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    },
    "fashion-mnist": {
        "train-images-idx3-ubyte.gz": (26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
        "train-labels-idx1-ubyte.gz": (29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
        "t10k-images-idx3-ubyte.gz": (4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
        "t10k-labels-idx1-ubyte.gz": (5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
    },
    "cifar10": {
        "cifar-10-binary.tar.gz": (170052171, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"),
    },
}

REMOTES = {
    data: {name: Remote(name, size, sha256, _MIRRORS[data]) for name, (size, sha256) in sums.items()}
    for data, sums in _SUMS.items()
}


def fetch(remote: Remote, folder: Path, patience: float = 30.0, speed: float = 16 << 10) -> Path:
    """Return the path of this file in `folder`; download it unless it is there already.

    A file with the right sum is left alone.  Otherwise the mirrors are tried in turn; the file appears under its name
    only when it is complete and its sum is right, and nothing else is left behind.
    patience, speed: see `mirror.Bounds`.
    Raises MinidiffError with the error of each mirror.
    """
    path = folder / remote.name
    if path.is_file() and path.stat().st_size == remote.size and sha256(path) == remote.sha256:
        return path
    from minidiff.data import mirror  # only downloading needs its HTTP client

    folder.mkdir(parents=True, exist_ok=True)
    reasons = []
    for url in remote.urls:
        try:
            answer = mirror.content(url, mirror.Bounds(mirror.most(remote.size), patience, speed))
            # closing: the connection ends at once when the disk is full or the user interrupts
            with closing(answer), closing(_verified(remote, answer)) as chunks:
                write_atomically(path, partial(_write, chunks))
            return path
        except mirror.MirrorError as error:
            reasons.append(f"{url}: {error}")
    raise MinidiffError(f"cannot download {remote.name}: {'; '.join(reasons)}")


def _verified(remote: Remote, answer: Iterable[bytes]) -> Generator[bytes, None, None]:
    """Yield the bytes of the file.  Raises MirrorError at the end if they are not the published ones."""
    from minidiff.data.mirror import MirrorError

    digest, received = hashlib.sha256(), 0
    with tqdm(total=remote.size, unit="B", unit_scale=True, desc=remote.name, leave=False, delay=1.0) as bar:
        try:
            for chunk in answer:
                received += len(chunk)
                if received > remote.size:  # never write more than the file's size
                    raise MirrorError(f"longer than the published {remote.size} bytes")
                digest.update(chunk)
                bar.update(len(chunk))
                yield chunk
        except MirrorError as error:
            if 0 < received < remote.size:
                raise MirrorError(f"cut off after {received} of {remote.size} bytes ({error})") from error
            raise
    if received < remote.size:
        raise MirrorError(f"cut off after {received} of {remote.size} bytes")
    if digest.hexdigest() != remote.sha256:
        raise MirrorError(f"wrong SHA-256 {digest.hexdigest()[:16]}..., published is {remote.sha256[:16]}...")


def unpack(archive: Path, wanted: dict[str, int], folder: Path) -> None:
    """Extract the wanted files, {name in the archive: maximum bytes}, from a .tar.gz into `folder`.

    The archive cannot choose where files are written: a member is extracted only if it has a wanted name and is a plain
    file of no more than the stated size, and it is written under the last part of that name.
    Raises MinidiffError if the archive is damaged or lacks one of the files.
    """
    missing = set(wanted)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(archive, "r|gz") as tar:  # a stream: one pass, no jumps back
            for member in tar:
                if member.name in missing and member.isfile() and member.size <= wanted[member.name]:
                    source = tar.extractfile(member)
                    assert source is not None  # it is a plain file
                    chunks = iter(partial(source.read, _CHUNK), b"")
                    write_atomically(folder / Path(member.name).name, partial(_write, chunks))
                    missing.remove(member.name)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise MinidiffError(f"{archive}: damaged archive ({error})") from error
    if missing:
        raise MinidiffError(f"{archive}: the archive lacks {', '.join(sorted(missing))}")


def _write(chunks: Iterable[bytes], file: BinaryIO) -> None:
    file.writelines(chunks)  # one after another, as they come
