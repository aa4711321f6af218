"""What is said of one's own images: in text files, in metadata, in names; and all that can be wrong with it."""

import json
import logging
import os
import unicodedata

import numpy as np
import pytest
from PIL import Image

from minidiff.data import folder_captions
from minidiff.data.config import DataConfig
from minidiff.data.folder import folder
from minidiff.data.folder_captions import name_in_words
from minidiff.data.open import open_data
from minidiff.errors import MinidiffError


def image(path, level=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (level, level, level)).save(path)


def make(root, *names):
    for i, name in enumerate(names):
        image(root / name, i)


def texts(data):
    return [data.tokenizer.decode(row) for row in data.labels]


def read(root, where):
    return folder(root, (8, 8), where=where)


def entry(name, text):
    return json.dumps({"file_name": name, "text": text}, ensure_ascii=False)


def refused(root, where):
    with pytest.raises(MinidiffError) as caught:
        read(root, where)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("where", ["txt", "auto"])
def test_text_files_beside_images(tmp_path, caplog, where):
    make(tmp_path, "a.png", "b.PNG", "sub/a.jpg", "sub/a.b.png")
    for name, text in {
        "a": "A red Dog.\n",
        "b": "a cat",
        "sub/a": "two dogs",
        "sub/a.b": "a blue cat\nat night",
    }.items():
        (tmp_path / f"{name}.txt").write_text(text)
    data = read(tmp_path, where)
    assert texts(data) == ["a red dog", "a cat", "a blue cat at night", "two dogs"]  # in the order of the paths
    assert data.labels.shape == (4, 5) and data.labels.dtype == np.int64 and data.classes == ()
    assert data.tokenizer.words == ("a", "at", "blue", "cat", "dog", "dogs", "night", "red", "two")
    assert not caplog.records  # no caption is called an unreadable image


@pytest.mark.parametrize("where", ["metadata", "auto"])
def test_metadata_in_every_folder(tmp_path, caplog, where):
    make(tmp_path, "a.png", "sub/b.png", "sub/deep/c.png", "sub/deep/d.png")
    (tmp_path / "metadata.jsonl").write_text(
        "\ufeff" + entry("a.png", "ein Hündchen") + "\r\n\n" + entry("./sub/../sub/b.png", "a cat") + "\n", "utf-8"
    )
    (tmp_path / "sub" / "metadata.jsonl").write_text(
        entry("deep/d.png", "狗") + "\n" + entry("deep/c.png", "кот"), "utf-8"
    )
    assert texts(read(tmp_path, where)) == ["ein hündchen", "a cat", "кот", "狗"]
    assert not caplog.records


def test_metadata_as_csv(tmp_path, caplog):
    """With commas, quotes and line ends in a caption, other columns, another order, and whatever else is wrong."""
    make(tmp_path, *(f"{name}.png" for name in "abcde"))
    (tmp_path / "Metadata.CSV").write_bytes(
        'id,caption,file_name\r\n1,a dog,a.png\r\n2,"a ""red"" cat,\r\nasleep",b.png\r\n\r\n3,a bird,no.png\r\n'
        "4,short\r\n5,gone,../c.png\r\n6,кот,d.png,more\r\n".encode()
        + b"7,a H\xfcndchen,e.png"
    )
    data = read(tmp_path, "auto")
    assert texts(data) == ["a dog", "a red cat asleep", "", "кот", "a h ndchen"]
    assert caplog.messages[0] == (
        f"{tmp_path}: 4 captions left out or damaged: Metadata.CSV line 6 (no image 'no.png'); Metadata.CSV line 7 "
        '(expected {"file_name": …, "text": …}); Metadata.CSV line 8 (\'../c.png\' lies outside the folder); '
        "Metadata.CSV line 10 (not all of it is UTF-8)"
    )


def test_a_csv_without_names_or_with_endless_fields_is_named(tmp_path, caplog):
    make(tmp_path, "a.png", "sub/b.png", "two/c.png")
    (tmp_path / "metadata.csv").write_text("a.png,a dog\n")
    (tmp_path / "sub" / "metadata.csv").write_text('file_name,text\nb.png,"' + "dog " * 50_000)
    (tmp_path / "two" / "metadata.csv").write_text("file_name,text\nc.png,a cat\n")
    assert texts(read(tmp_path, "metadata")) == ["", "", "a cat"]
    assert (
        "metadata.csv line 1 (expected names of columns, with file_name and text); sub/metadata.csv (field larger"
        in (caplog.messages[0])
    )


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
@pytest.mark.parametrize("name", ["metadata.jsonl", "METADATA.jsonl", "metadata.csv"])
def test_metadata_of_windows(tmp_path, caplog, encoding, name):
    """Wide or marked, lines that end in two characters, paths with backslashes."""
    make(tmp_path, "a.png", "sub/b.png")
    rows = [("a.png", "ein Hündchen"), ("sub\\b.png", "狗")]
    lines = [entry(*row) for row in rows] if name.endswith("l") else ["file_name,text", *map(",".join, rows)]
    (tmp_path / name).write_text("\r\n".join(lines), encoding, newline="")
    assert texts(read(tmp_path, "auto")) == ["ein hündchen", "狗"]
    assert not caplog.records


@pytest.mark.parametrize("key", ["text", "caption", "prompt"])
def test_keys_of_metadata(tmp_path, key):
    make(tmp_path, "a.png", "b.png")
    lines = [
        {"file_name": "a.png", key: "a dog", "license": 3},
        {"prompt": "no", "file_name": "b.png", "text": "a cat"},
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert texts(read(tmp_path, "auto")) == ["a dog", "a cat"]


@pytest.mark.parametrize("there, here", [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_are_the_same_in_one_character_and_in_two(tmp_path, caplog, there, here):
    """A name as one system writes it, in a list or beside an image from another."""
    name = "été"
    image(tmp_path / f"{unicodedata.normalize(there, name)}.png")
    (tmp_path / f"{unicodedata.normalize(here, name)}.txt").write_text("a summer")
    (tmp_path / "metadata.jsonl").write_text(entry(f"{unicodedata.normalize(here, name)}.png", "a meadow"))
    assert texts(read(tmp_path, "txt")) == ["a summer"]
    assert texts(read(tmp_path, "metadata")) == ["a meadow"]
    assert not caplog.records


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_pipes_are_no_captions(tmp_path, caplog):
    make(tmp_path, "a.png", "b.png")
    (tmp_path / "b.txt").write_text("a dog")
    for name in ("a.txt", "metadata.jsonl", "metadata.csv"):
        os.mkfifo(tmp_path / name)
    assert texts(read(tmp_path, "txt")) == ["", "a dog"]
    assert "1 captions left out or damaged: a.txt (is a pipe; expected a regular file)" in caplog.messages[0]
    assert refused(tmp_path, "metadata").startswith(f"{tmp_path}: no captions; --captions metadata expects")


@pytest.mark.parametrize("bad", ["[" * 50_000, '{"file_name": "a.png", "text": ' + "9" * 5000 + "}"])
def test_numbers_and_nesting_beyond_measure(tmp_path, caplog, bad):
    make(tmp_path, "a.png")
    (tmp_path / "metadata.jsonl").write_text(bad + "\n" + entry("a.png", "a dog"))
    assert texts(read(tmp_path, "metadata")) == ["a dog"]
    assert caplog.messages == [f"{tmp_path}: 1 captions left out or damaged: metadata.jsonl line 1 (no JSON)"]


def test_names(tmp_path, caplog):
    make(tmp_path, "a-small_dog 02.png", "Red Cat (3).png", "sub/BIRD12.jpg", "sub/кот_1_2.png", "2024-05-01.png")
    with caplog.at_level(logging.WARNING):
        data = read(tmp_path, "names")
    assert sorted(texts(data)) == ["", "a small dog", "bird", "red cat", "кот"]
    (record,) = caplog.records
    assert record.getMessage() == f"{tmp_path}: 1 of 5 images have no caption: 2024-05-01.png"


@pytest.mark.parametrize(
    ("name", "words"),
    [("3d-dog.png", "3d dog"), ("dog.01.png", "dog"), ("कुत्ता_7.png", "कुत्ता"), ("IMG_2031.png", "img"), ("7.png", "")],
)
def test_numbers_at_the_end_of_a_name_only_tell_images_apart(tmp_path, name, words):
    assert name_in_words(tmp_path / name) == words


def test_none_reads_none_and_still_knows_captions_from_images(tmp_path, caplog):
    make(tmp_path, "a.png")
    (tmp_path / "a.txt").write_text("a dog")
    (tmp_path / "metadata.jsonl").write_text("no JSON")
    data = read(tmp_path, "none")
    assert data.labels is None and data.tokenizer is None
    assert not caplog.records


def test_auto_without_captions_is_a_folder_without(tmp_path, caplog):
    make(tmp_path, "a.png", "b.png")
    assert read(tmp_path, "auto").tokenizer is None
    (tmp_path / "a.txt").write_text(" …\n")
    assert read(tmp_path, "auto").tokenizer is None
    (tmp_path / "metadata.jsonl").write_text(entry("b.png", "a dog"))
    assert texts(read(tmp_path, "auto")) == ["", "a dog"]  # text files without a word do not hide the metadata


def test_auto_prefers_text_files(tmp_path):
    make(tmp_path, "a.png")
    (tmp_path / "a.txt").write_text("a dog")
    (tmp_path / "metadata.jsonl").write_text(entry("a.png", "a cat"))
    assert texts(read(tmp_path, "auto")) == ["a dog"]
    assert texts(read(tmp_path, "metadata")) == ["a cat"]


def test_missing_captions_are_named_in_one_warning(tmp_path, caplog):
    make(tmp_path, *(f"{i}.png" for i in range(8)))
    (tmp_path / "3.txt").write_text("a dog")
    (tmp_path / "4.txt").write_text("")
    with caplog.at_level(logging.WARNING):
        assert texts(read(tmp_path, "txt")) == ["", "", "", "a dog", "", "", "", ""]
    (record,) = caplog.records
    expected = "7 of 8 images have no caption: 0.png; 1.png; 2.png; 4.png; 5.png and 2 more"
    assert record.getMessage() == f"{tmp_path}: {expected}"


def test_a_text_beside_no_image_is_named_as_before(tmp_path, caplog):
    make(tmp_path, "a.png")
    (tmp_path / "notes.txt").write_text("buy milk")
    with caplog.at_level(logging.WARNING):
        read(tmp_path, "auto")
    assert "1 of 2 not readable: notes.txt" in caplog.text


def test_the_caption_of_a_damaged_image_is_left_out_with_it(tmp_path, caplog):
    make(tmp_path, "a.png")
    (tmp_path / "b.png").write_bytes(b"damaged")
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text(f"a {name}")
    (tmp_path / "metadata.jsonl").write_text(entry("a.png", "a") + "\n" + entry("b.png", "b"))
    with caplog.at_level(logging.WARNING):
        data = read(tmp_path, "txt")
    assert texts(data) == ["a a"] and data.tokenizer.words == ("a",)
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}: 1 of 2 not readable: b.png (not an image that can be read)"
    ]


def test_texts_in_other_encodings(tmp_path, caplog):
    make(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "a.txt").write_bytes("ein Hündchen".encode("utf-16"))
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbfone dog")
    (tmp_path / "c.txt").write_bytes("ein Hündchen schläft".encode("latin-1"))
    with caplog.at_level(logging.WARNING):
        data = read(tmp_path, "txt")
    assert texts(data) == ["ein hündchen", "one dog", "ein h ndchen schl ft"]
    (record,) = caplog.records
    assert record.getMessage() == f"{tmp_path}: 1 captions left out or damaged: c.txt (not all of it is UTF-8)"


def test_a_huge_text_is_not_read_to_its_end(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(folder_captions, "_MOST", 64)
    make(tmp_path, "a.png", "b.png")
    (tmp_path / "a.txt").write_bytes(b"dog " * 15 + "cat€".encode() + b" bird" * 10**5)  # the € is cut in two
    (tmp_path / "b.txt").write_bytes(b"a" + b" " * 61 + b"b" + b" ")
    with caplog.at_level(logging.WARNING):
        data = read(tmp_path, "txt")
    assert data.tokenizer.words == ("a", "b", "cat", "dog")
    (record,) = caplog.records
    assert "1 captions left out or damaged: a.txt (only its first 0 KiB are read)" in record.getMessage()


def test_a_long_caption_is_cut_and_named(tmp_path, caplog):
    make(tmp_path, "a.png")
    (tmp_path / "a.txt").write_text("dog " * 40 + "cat")
    with caplog.at_level(logging.WARNING):
        data = read(tmp_path, "txt")
    assert data.labels.tolist() == [[1] * 32] and data.tokenizer.words == ("dog",)
    assert "1 captions have more than 32 words, of which the rest is not learnt: a.png" in caplog.text


def test_bad_metadata_lines_are_named_with_their_numbers(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(folder_captions, "_MOST", 200)
    monkeypatch.setattr(folder_captions, "NAMED", 20)
    make(tmp_path / "in", "a.png", "b.png")
    image(tmp_path / "out.png")
    lines = [
        entry("a.png", "a dog"),
        "{not json",
        "",
        "[1, 2]",
        '{"file_name": "b.png"}',
        '{"file_name": 3, "text": "a"}',
        '{"file_name": "b.png", "text": ["a"]}',
        entry("no.png", "gone"),
        entry("../out.png", "outside"),
        entry("/etc/passwd", "outside"),
        entry("a.png", "a cat"),
        entry("b.png", "long " * 100),
        "[" * 150,
        '{"file_name": "x\\u0000\\ud800.png", "text": "odd"}',
        entry("b.png", "a bird"),
    ]
    (tmp_path / "in" / "metadata.jsonl").write_bytes("\n".join(lines).encode() + b'\n{"\xff"}')
    with caplog.at_level(logging.WARNING):
        data = read(tmp_path / "in", "metadata")
    assert texts(data) == ["a dog", "a bird"]
    (record,) = caplog.records
    line = record.getMessage()
    assert "\n" not in line and line.startswith(f"{tmp_path / 'in'}: 13 captions left out or damaged: ")
    expected = {
        2: "no JSON", 4: 'expected {"file_name": …, "text": …}', 5: 'expected {"file_name": …, "text": …}',
        6: 'expected {"file_name": …, "text": …}', 7: 'expected {"file_name": …, "text": …}', 8: "no image 'no.png'",
        9: "'../out.png' lies outside the folder", 10: "'/etc/passwd' lies outside the folder",
        11: "'a.png' has a caption already", 12: "longer than 0 KiB", 13: "no JSON",
        14: r"no image 'x\x00\ud800.png'",
        16: "no JSON",
    }  # fmt: skip
    for number, why in expected.items():
        assert f"metadata.jsonl line {number} ({why})" in line


def test_asked_for_and_not_there_is_one_line(tmp_path):
    make(tmp_path, "1.png", "2.png")
    assert refused(tmp_path, "txt") == (
        f"{tmp_path}: no captions; --captions txt expects a .txt file with words beside an image, such as dog.txt "
        "beside dog.png"
    )
    line = refused(tmp_path, "metadata")
    assert line.startswith(f"{tmp_path}: no captions; --captions metadata expects a metadata.jsonl with lines such as")
    assert "--captions names expects words in the images' names" in refused(tmp_path, "names")
    (tmp_path / "1.txt").write_text("???")
    assert "no captions" in refused(tmp_path, "txt")


def test_both_splits_have_the_vocabulary_of_all(tmp_path):
    make(tmp_path, *(f"{'dog' if i % 10 < 9 else 'bird'}_{i:02d}.png" for i in range(20)))
    for i in range(20):
        (tmp_path / f"{'dog' if i % 10 < 9 else 'bird'}_{i:02d}.txt").write_text(f"number w{i}")
    config = DataConfig("folder", tmp_path, size=(8,))
    train, test = (open_data(config, split) for split in ("train", "test"))
    assert train.tokenizer.words == test.tokenizer.words and len(train.tokenizer.words) == 21
    assert len(train) + len(test) == 20
    said = [set(texts(data)) for data in (train, test)]
    assert not said[0] & said[1] and len(said[0] | said[1]) == 20


def test_labels_or_captions(tmp_path):
    make(tmp_path, *(f"{'ab'[i % 2]}/{i}.png" for i in range(20)))
    for i in range(20):
        (tmp_path / "ab"[i % 2] / f"{i}.txt").write_text("a dog")
    for where in ("auto", "none"):
        data = open_data(DataConfig("folder", tmp_path, folder_labels=True, captions=where))
        assert data.classes == ("a", "b") and data.tokenizer is None
    for where in ("txt", "metadata", "names"):
        with pytest.raises(MinidiffError) as caught:
            open_data(DataConfig("folder", tmp_path, folder_labels=True, captions=where))
        assert str(caught.value) == f"--captions {where}: a network learns captions or --folder-labels, not both"
    assert open_data(DataConfig("folder", tmp_path)).tokenizer.words == ("a", "dog")
