"""IDX and CIFAR-10 binary files: read right, and refused in one line when they are not what they should be."""

import contextlib
import gzip
import os
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minidiff.data import standard
from minidiff.data.standard import CIFAR_CLASSES, cifar10, fashion_mnist, mnist, read_idx
from minidiff.errors import MinidiffError

RNG = np.random.default_rng(0)


def idx(array):
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_mnist(folder, packed=True, n=(12, 5)):
    folder.mkdir(exist_ok=True)
    arrays = {}
    for prefix, count in zip(("train", "t10k"), n, strict=True):
        arrays[prefix] = RNG.integers(0, 256, (count, 28, 28), np.uint8), (np.arange(count) % 10).astype(np.uint8)
        for array, suffix in zip(arrays[prefix], ("images-idx3-ubyte", "labels-idx1-ubyte"), strict=True):
            data, name = idx(array), f"{prefix}-{suffix}"
            if packed:
                data, name = gzip.compress(data), name + ".gz"
            (folder / name).write_bytes(data)
    return arrays


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("read, name", [(mnist, "mnist"), (fashion_mnist, "fashion-mnist")])
def test_mnist(tmp_path, read, name, packed):
    arrays = write_mnist(tmp_path, packed)
    for split, prefix in (("train", "train"), ("test", "t10k")):
        data = read(tmp_path, split)
        images, labels = data.batch(np.arange(len(data)))
        assert np.array_equal(images[..., 0], arrays[prefix][0]) and images.shape[1:] == (28, 28, 1)
        assert np.array_equal(labels, arrays[prefix][1]) and labels.dtype == np.int64
        assert data.name == name and len(data.classes) == 10 and not data.endless


def test_class_names(tmp_path):
    write_mnist(tmp_path)
    assert mnist(tmp_path, "train").classes[7] == "7"
    # Source of the numbers: the table "Labels" of github.com/zalandoresearch/fashion-mnist
    assert fashion_mnist(tmp_path, "train").classes[9] == "ankle boot"


@pytest.mark.parametrize("file", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"])
def test_a_missing_file_says_which_where_and_how(tmp_path, file):
    write_mnist(tmp_path)
    (tmp_path / f"{file}.gz").unlink()
    with pytest.raises(MinidiffError) as caught:
        mnist(tmp_path, "train")
    assert str(caught.value) == (
        f"{tmp_path}: no {file}.gz (or {file}) in this folder: get it from "
        f"https://storage.googleapis.com/cvdf-datasets/mnist/{file}.gz or add --download (--data mnist)"
    )
    assert len(mnist(tmp_path, "test")) == 5  # the other split needs other files


def test_a_missing_folder_says_so_as_well(tmp_path):
    with pytest.raises(MinidiffError, match=r"no such folder, so no t10k-images.*get it from https.*--download"):
        fashion_mnist(tmp_path / "no", "test")
    with pytest.raises(MinidiffError, match=r"no data_batch_1.bin.*get it from https://www.cs.toronto.edu.*--download"):
        cifar10(tmp_path, "train")


def test_as_many_labels_as_images(tmp_path):
    write_mnist(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros(11, np.uint8))))
    with pytest.raises(MinidiffError, match="there are 12 images but 11 labels"):
        mnist(tmp_path, "train")


def test_labels_without_end_are_not_unpacked(tmp_path):
    """A small .gz of a header that claims 2^30 labels, and of zeros: it is refused before they are unpacked."""
    write_mnist(tmp_path)
    path = tmp_path / "train-labels-idx1-ubyte.gz"
    for claim, said in (
        (1 << 30, "unreasonably large"),
        (1 << 24, "12 images but 16777216 labels"),
        (12, "is longer"),
    ):
        with gzip.open(path, "wb") as file:
            file.write(struct.pack(">4BI", 0, 0, 8, 1, claim))
            for _ in range(20):
                file.write(bytes(1 << 20))
        tracemalloc.start()
        try:
            with pytest.raises(MinidiffError, match=said):
                mnist(tmp_path, "train")
            assert tracemalloc.get_traced_memory()[1] < 8 << 20
        finally:
            tracemalloc.stop()


def test_labels_beyond_the_classes(tmp_path):
    write_mnist(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.full(12, 10, np.uint8))))
    with pytest.raises(MinidiffError, match="mnist: labels must be 0 to 9, got 10 to 10"):
        mnist(tmp_path, "train")


WHOLE = idx(np.zeros((3, 4, 5), np.uint8))


@pytest.mark.parametrize(
    "data, text",
    [
        (b"", "got an empty file"),
        (WHOLE[:10], r"first bytes 00 00 08 03\), got 00 00 08 03"),
        (b"\x89PNG" + WHOLE, r"got 89 50 4e 47"),
        (idx(np.zeros(3, np.uint8)) + bytes(20), r"expected an IDX file of bytes with 3 dimensions .* got 00 00 08 01"),
        (bytes([0, 0, 0x0D, 3]) + WHOLE[4:], "got 00 00 0d 03"),  # 0x0d: float32
        (WHOLE[:-1], "the header says 3 x 4 x 5 = 60 bytes of data, the file ends after 59"),
        (WHOLE + b"x", "the file is longer"),
        (idx(np.zeros((0, 4, 5), np.uint8)), "claims 0 x 4 x 5 bytes: empty"),
        (struct.pack(">4B3I", 0, 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1), "unreasonably large"),
    ],
)
@pytest.mark.parametrize("packed", [True, False])
def test_damaged_idx(tmp_path, data, text, packed):
    path = tmp_path / ("a.gz" if packed else "a")
    path.write_bytes(gzip.compress(data) if packed else data)
    with pytest.raises(MinidiffError, match=text) as caught:
        read_idx(path, 3)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "damage", [lambda d: d[:-20], lambda d: d[:3000] + b"\xff" * 8 + d[3008:], lambda d: b"no gzip"]
)
def test_damaged_gzip(tmp_path, damage):
    path = tmp_path / "a.gz"
    path.write_bytes(damage(gzip.compress(idx(RNG.integers(0, 256, (3, 40, 50), np.uint8)))))
    with pytest.raises(MinidiffError, match=r"damaged gzip file \(.+\): remove it and --download it again"):
        read_idx(path, 3)


def test_a_header_alone_takes_no_memory(tmp_path):
    """The header claims 4 GiB and nothing follows: what is allocated grows with the data, not with the claim."""
    path = tmp_path / "a"
    path.write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, 1 << 16, 1 << 8, 1 << 8))
    tracemalloc.start()
    try:
        with pytest.raises(MinidiffError, match="ends after 0"):
            read_idx(path, 3)
        assert tracemalloc.get_traced_memory()[1] < 100 << 20  # one reading part is 16 MiB
    finally:
        tracemalloc.stop()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=40), prefix=st.sampled_from([0, 4, 16]))
def test_any_bytes_are_read_or_refused(tmp_path, data, prefix):
    path = tmp_path / "a"
    path.write_bytes(WHOLE[:prefix] + data)
    with contextlib.suppress(MinidiffError):
        assert read_idx(path, 3).dtype == np.uint8


def write_cifar(folder, n=4):
    folder.mkdir(parents=True, exist_ok=True)
    labels = RNG.integers(0, 10, (6, n), np.uint8)
    images = RNG.integers(0, 256, (6, n, 32, 32, 3), np.uint8)
    for i, name in enumerate([*(f"data_batch_{j}.bin" for j in range(1, 6)), "test_batch.bin"]):
        planes = images[i].transpose(0, 3, 1, 2).reshape(n, 3072)
        np.concatenate([labels[i][:, None], planes], axis=1).tofile(folder / name)
    return images, labels


@pytest.mark.parametrize("inside", ["", "cifar-10-batches-bin"])
def test_cifar10(tmp_path, inside):
    images, labels = write_cifar(tmp_path / inside)
    train, test = cifar10(tmp_path, "train"), cifar10(tmp_path, "test")
    assert np.array_equal(train.images, images[:5].reshape(-1, 32, 32, 3))
    assert np.array_equal(train.labels, labels[:5].reshape(-1)) and train.labels.dtype == np.int64
    assert np.array_equal(test.images, images[5]) and np.array_equal(test.labels, labels[5])
    assert train.classes == CIFAR_CLASSES
    (tmp_path / inside / "batches.meta.txt").write_text("\n".join("abcdefghij") + "\n\n")
    assert cifar10(tmp_path, "test").classes == tuple("abcdefghij")


@pytest.mark.parametrize("keep", [0, 3072, 3 * 3073 + 1])
def test_cifar10_cut_off(tmp_path, keep):
    write_cifar(tmp_path)
    path = tmp_path / "data_batch_3.bin"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(MinidiffError, match=f"data_batch_3.bin: {keep} bytes is no whole number of records of 3073"):
        cifar10(tmp_path, "train")


def test_cifar10_one_file_missing(tmp_path):
    write_cifar(tmp_path)
    (tmp_path / "data_batch_4.bin").unlink()
    with pytest.raises(MinidiffError, match=r"no data_batch_4.bin in this folder"):
        cifar10(tmp_path, "train")


def test_cifar10_of_other_files(tmp_path, monkeypatch):
    write_cifar(tmp_path)
    monkeypatch.setattr(standard, "MAX_CIFAR", 3)
    with pytest.raises(MinidiffError, match=r"data_batch_1.bin holds 12292 bytes; expected at most 9219"):
        cifar10(tmp_path, "train")
    monkeypatch.undo()
    (tmp_path / "batches.meta.txt").write_bytes(b"a\x1b[2J\0 b c d e f g h i j")
    assert cifar10(tmp_path, "test").classes[0] == r"a\x1b[2J\x00"
    for names in ("a b c", "a " * 11, "a" * (1 << 21)):
        (tmp_path / "batches.meta.txt").write_text(names)
        with pytest.raises(MinidiffError, match=r"batches.meta.txt(: expected the names of 10 classes| holds 2097152)"):
            cifar10(tmp_path, "test")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_only_regular_files(tmp_path):
    """Of pipes and devices, which are no files of a collection, only a named one is spoken of; none is waited for."""
    os.mkfifo(tmp_path / "train-images-idx3-ubyte")
    with pytest.raises(MinidiffError, match=r"no train-images-idx3-ubyte.gz"):
        mnist(tmp_path, "train")
    for name in ("train-images-idx3-ubyte", "a.gz"):
        if name == "a.gz":
            os.mkfifo(tmp_path / name)
        with pytest.raises(MinidiffError, match=f"{name} is a pipe; expected a regular file"):
            read_idx(tmp_path / name, 3)
