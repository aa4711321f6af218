""".npz files of images: read right, and refused in one line when they are not what they should be."""

import io
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest

from minidiff.data import arrays
from minidiff.data.arrays import npz
from minidiff.data.dataset import hold_out
from minidiff.errors import MinidiffError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 4, 5, 3), np.uint8)
GREY = RGB[..., 0]


@pytest.mark.parametrize("key", ["images", "arr_0"])
@pytest.mark.parametrize("images", [RGB, GREY, GREY[..., None], np.asfortranarray(RGB)])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, key, images, save):
    path = tmp_path / "a.npz"
    save(path, **{key: images})
    data = npz(path)
    assert np.array_equal(data.images, images if images.ndim == 4 else images[..., None])
    assert data.labels is None and data.classes == () and data.images.flags.c_contiguous
    assert np.array_equal(npz(tmp_path).images, data.images)  # a folder with one .npz


def test_npz_labels(tmp_path):
    labels = np.array([0, 2, 1, 0, 2, 2], np.uint8)
    np.savez(tmp_path / "a.npz", images=RGB, labels=labels)
    data = npz(tmp_path / "a.npz")
    assert np.array_equal(data.labels, labels) and data.labels.dtype == np.int64 and data.classes == ("0", "1", "2")
    np.savez(tmp_path / "a.npz", images=RGB, labels=labels, classes=["cat", "dog", "owl"])
    assert npz(tmp_path / "a.npz").classes == ("cat", "dog", "owl")


class Evil:
    def __reduce__(self):
        return pytest.fail, ("a pickle was loaded",)


@pytest.mark.parametrize(
    "arrays, text",
    [
        ({"pixels": RGB}, "no array `images` or `arr_0`; there are: pixels"),
        ({}, "no array `images` or `arr_0`; there are: none"),
        ({"images": RGB / 255}, r"must be uint8 of shape .* got float64 \(6, 4, 5, 3\)"),
        ({"images": RGB[..., :2]}, r"got uint8 \(6, 4, 5, 2\)"),
        ({"images": RGB[0, 0]}, r"got uint8 \(5, 3\)"),
        ({"images": RGB[:0]}, "no images"),
        ({"images": RGB, "labels": np.zeros(5, int)}, r"labels must be 6 integers, one an image, got int64 \(5,\)"),
        ({"images": RGB, "labels": np.zeros(6)}, r"labels must be 6 integers, one an image, got float64 \(6,\)"),
        ({"images": RGB, "labels": np.arange(6) - 1}, "labels must be from 0 to 65535, got -1 to 4"),
        ({"images": RGB, "labels": np.arange(6) << 40}, "labels must be from 0 to 65535"),
        ({"images": RGB, "labels": np.arange(6), "classes": ["a", "b"]}, "labels must be 0 to 1, got 0 to 5"),
        (
            {"images": RGB, "labels": np.arange(6), "classes": np.arange(6)},
            "classes must be a list of names, got int64",
        ),
        ({"images": np.array([Evil()], object)}, "not a whole .npz file of plain arrays .*Object arrays"),
    ],
)
def test_npz_refused(tmp_path, arrays, text):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(MinidiffError, match=text) as caught:
        npz(tmp_path / "a.npz")
    assert "a.npz" in str(caught.value) and "\n" not in str(caught.value)


def test_npz_files(tmp_path):
    with pytest.raises(MinidiffError, match=r"b.npz: no such .npz file"):
        npz(tmp_path / "b.npz")
    with pytest.raises(MinidiffError, match=r"expected one .npz file in this folder, got 0"):
        npz(tmp_path)
    np.save(tmp_path / "a.npz.npy", RGB)
    with pytest.raises(MinidiffError, match=r"not a whole .npz file"):
        npz(tmp_path / "a.npz.npy")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_damaged(tmp_path, save):
    path = tmp_path / "a.npz"
    save(path, images=RGB)
    data = path.read_bytes()
    for broken in (b"", data[: len(data) // 2], data[:-1], data[:200] + b"\xff" * 20 + data[220:]):
        path.write_bytes(broken)
        with pytest.raises(MinidiffError, match=r"a.npz: not a whole .npz file of plain arrays"):
            npz(path)


@pytest.mark.parametrize(
    "shape, text",
    [
        ((1 << 40, 4, 5, 3), "1099511627776 images; at most"),
        ((1 << 20, 64, 64, 3), r"images.npy claims \d+ bytes and"),
    ],
)
def test_npz_header_alone_takes_no_memory(tmp_path, shape, text):
    """An array's header inside the .npz claims terabytes, or gigabytes that are not in the file."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", header.getvalue() + bytes(100))
    tracemalloc.start()
    try:
        with pytest.raises(MinidiffError, match=text):
            npz(tmp_path / "a.npz")
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


def test_the_limit_on_memory_is_stated(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "MAX_BYTES", 100)
    np.savez(tmp_path / "a.npz", images=RGB)
    with pytest.raises(MinidiffError, match="claims 360 bytes and holds 488; at most 100"):
        npz(tmp_path / "a.npz")


def npy(descr="'|u1'", shape="(6, 4, 5, 3)", data=b"", version=1, text=None):
    """An array's bytes with a header of one's own."""
    header = (text or f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}").encode() + b"\n"
    length = len(header).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + length + header + data


def write(path, method=zipfile.ZIP_DEFLATED, **members):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)


IMAGES = npy(data=RGB.tobytes())
LABELS = npy("'<i8'", "(6,)", np.arange(6).tobytes())
ODD = {
    "names of no letters": ({"classes": npy("'<U0'", "(100000000,)")}, "from 1 to 65536 names .* got <U0 .100000000,"),
    "names without end": ({"classes": npy("'<U9'", "(100000000,)", bytes(100))}, "from 1 to 65536 names"),
    "long names": (
        {"classes": npy("'<U100000'", "(6,)", bytes(2400000))},
        "from 1 to 65536 names of up to 200 letters",
    ),
    "no names": ({"classes": npy("'<U1'", "(0,)")}, "from 1 to 65536 names"),
    "too few names": ({"classes": npy("'<U1'", "(1,)", "a".encode("utf-32-le"))}, "labels must be 0 to 0, got 0 to 5"),
    "numbers for names": ({"classes": LABELS}, "classes must be a list of names, got int64"),
    "labels without end": ({"labels": npy("'<i8'", "(1000000000000,)")}, "labels must be 6 integers"),
    "records": ({"images": npy("[('a', '|u1')]", "(6, 4, 5, 3)", RGB.tobytes())}, "Object arrays and records"),
    "an open bracket": ({"images": npy(text="{'descr': (")}, "not a whole .npz"),
    "no table": ({"images": npy(text="[1, 2]")}, "not a whole .npz"),
    "keys of two kinds": ({"images": npy(text="{1: 2, 'descr': 3, 'shape': ()}")}, "not a whole .npz"),
    "deep nesting": ({"images": npy(text="(" * 5000)}, "not a whole .npz"),
    "a type that is none": ({"images": npy("'|x9'", data=RGB.tobytes())}, "not a whole .npz"),
    "an empty list as type": ({"images": npy("[]")}, "images must be uint8"),
    "a negative side": ({"images": npy(shape="(-6, 4, 5, 3)")}, "an array of shape"),
    "a bool as side": ({"images": npy(shape="(True, 4, 5, 3)")}, "1 bytes|claims|shape"),
    "a side of 5,000 digits": ({"images": npy(shape=f"({'9' * 5000}, 4, 5, 3)")}, "not a whole .npz"),
    "another version": ({"images": npy(data=RGB.tobytes(), version=9)}, "not a whole .npz"),
    "too short": ({"images": npy(data=bytes(100))}, "claims 360 bytes and holds"),
    "too long": ({"images": npy(data=bytes(400))}, "images.npy is longer than the 360 bytes it claims"),
    "many small images": ({"images": npy(shape="(300000000, 1, 1)")}, "300000000 images; at most 16777216"),
    "other members": ({"images\x1b[2J": IMAGES, "a\nb": b""}, r"there are: a\\nb, images\\x1b\[2J$"),
}


@pytest.mark.parametrize("name", ODD)
def test_npz_with_odd_headers(tmp_path, name):
    """Each in one line, without a warning of NumPy's, and before much memory is taken."""
    members, said = ODD[name]
    named = {"labels": LABELS} if "classes" in members else {}
    write(tmp_path / "a.npz", **({} if name == "other members" else {"images": IMAGES}) | named | members)
    tracemalloc.start()
    try:
        with pytest.raises(MinidiffError, match=said) as caught, warnings.catch_warnings():
            warnings.simplefilter("error")
            npz(tmp_path / "a.npz")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < len(str(tmp_path)) + 400


def test_npz_members_that_numpy_does_not_write(tmp_path):
    for method in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
        write(tmp_path / "a.npz", method, images=IMAGES)
        with pytest.raises(MinidiffError, match=r"images.npy is compressed in a way that NumPy does not use"):
            npz(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a second member of that name
        for name in ("images.npy", "images.npy"):
            archive.writestr(name, IMAGES)
    with pytest.raises(MinidiffError, match="holds `images` more than once"):
        npz(tmp_path / "a.npz")
    write(tmp_path / "a.npz", images=IMAGES, **{"x" * 2000 + str(i): b"" for i in range(600)})
    with pytest.raises(MinidiffError, match=r"a directory of \d+ bytes"):
        npz(tmp_path / "a.npz")


def test_npz_that_unpacks_without_end(tmp_path):
    """What follows an array in its member stays packed."""
    write(tmp_path / "a.npz", images=IMAGES + bytes(50 << 20))
    assert (tmp_path / "a.npz").stat().st_size < 100_000
    tracemalloc.start()
    try:
        with pytest.raises(MinidiffError, match="longer than the 360 bytes it claims"):
            npz(tmp_path / "a.npz")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_npz_names_are_printed_safely(tmp_path):
    np.savez(tmp_path / "a\x1b[2J.npz", images=RGB, labels=np.arange(6) % 2, classes=["a\x1b[31m", "b\u202e"])
    data = npz(tmp_path / "a\x1b[2J.npz")
    assert data.name == r"a\x1b[2J.npz" and data.classes == (r"a\x1b[31m", r"b\u202e")
    assert np.array_equal(hold_out(data, "train").images, RGB)


FIELDS = "'fortran_order': False, 'shape': (6, 4, 5)}"


@pytest.mark.parametrize(
    "header",
    ["{", "-" * 9000 + "1", "(" * 150, f"{{'descr': (), {FIELDS}", f"{{'descr': [(1, 2, 3, 4)], {FIELDS}",
     "{[]: 1}", "{1: 2, 'a': 3}", f"{{'descr': 0777, {FIELDS}", "\0", "\n\t {"],
)  # fmt: skip
def test_npz_with_a_header_that_says_nothing(tmp_path, header):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        text = header.encode()
        file.writestr("images.npy", b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + bytes(120))
    with pytest.raises(MinidiffError, match=r"a\.npz: not a whole \.npz file of plain arrays"):
        npz(tmp_path / "a.npz")


def test_npz_that_lies_beyond_all_files(tmp_path):
    """The zip's directory says that an array begins at byte 2^64 - 1."""
    np.savez(tmp_path / "a.npz", images=GREY)
    data = (tmp_path / "a.npz").read_bytes()
    extra = b"\1\0\x08\0" + b"\xff" * 8
    directory, end = data.rindex(b"PK\1\2"), data.rindex(b"PK\5\6")
    entry = bytearray(data[directory:end])
    entry[30:32], entry[42:46] = len(extra).to_bytes(2, "little"), b"\xff" * 4
    last = bytearray(data[end:])
    last[12:16] = (len(entry) + len(extra)).to_bytes(4, "little")
    (tmp_path / "a.npz").write_bytes(data[:directory] + entry + extra + last)
    with pytest.raises(MinidiffError, match=r"not a whole \.npz file of plain arrays"):
        npz(tmp_path / "a.npz")


def test_a_mistake_of_ours_is_not_said_to_be_the_files(tmp_path, monkeypatch):
    def wrong(*arguments):
        raise TypeError("ours")

    np.savez(tmp_path / "a.npz", images=RGB, labels=np.zeros(6, int))
    monkeypatch.setattr(arrays, "_labels", wrong)
    with pytest.raises(TypeError, match="ours"):
        npz(tmp_path / "a.npz")
