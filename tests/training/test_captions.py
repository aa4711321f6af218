"""Training on captions: it learns, it goes on to the bit, it shows what it was told, and other words are refused."""

import re
from functools import partial

import numpy as np
import pytest
from PIL import Image

from minidiff import backend
from minidiff import checkpoint as checkpoints
from minidiff import sample as sampling
from minidiff import train as command
from minidiff.checkpoint.config import Config
from minidiff.checkpoint.settings import read_toml
from minidiff.data.dataset import ImageDataset
from minidiff.errors import MinidiffError
from minidiff.images.files import make_grid, read_metadata, to_float
from minidiff.nn.tokenizer import build_tokenizer
from minidiff.pipeline import loading as models
from minidiff.scenes import Scenes
from minidiff.training import loop, preview
from minidiff.training.loop import train_step
from minidiff.training.trainer import Trainer
from tests import mistakes

NAMES = ("red_square", "green_bar", "blue_square")
SMALL = ["--patch", "1", "--model-channels", "8", "--channel-mult", "1", "2", "--heads", "2", "--text-width", "8",
         "--text-layers", "1", "--batch-size", "4", "--backend", "numpy"]  # fmt: skip


def image(kind):
    """The image of one of NAMES."""
    array = np.zeros((8, 8, 3), np.uint8)
    place = np.s_[:, 3:5] if "bar" in NAMES[kind] else np.s_[2:6, 2:6]
    array[..., kind][place] = 255
    return array


@pytest.fixture
def folder(tmp_path):
    """A folder of 20 images whose names are their captions."""
    root = tmp_path / "images"
    root.mkdir()
    for i in range(20):
        pixels = image(i % 3)
        pixels[0, 0] = i  # the same image twice would be held out, or not, together
        Image.fromarray(pixels).save(root / f"{NAMES[i % 3]}_{i:02d}.png")
    return root


@pytest.fixture
def captioned(settings):
    """A function from captions to a Trainer on as many images of a random kind."""

    def make(texts, checkpoint=None, known=None, **changes):
        known = known or build_tokenizer(texts)
        images = np.stack([image(i % 3) for i in range(len(texts))])
        data = ImageDataset("captioned", images, known.encode(texts), tokenizer=known, parts=known.caption_parts(texts))
        config = settings(text_width=8, text_layers=1, cross_attention_at=(8, 4), **changes)
        return Trainer(config, data, checkpoint)

    return make


def saved(trainer, path):
    it = trainer
    checkpoints.save(path, it.step, it.config, it.network, it.dataset.classes, it.parameters, it.words)
    return checkpoints.load(path)


def test_captions_are_what_tells_images_apart(captioned):
    """Two images, over and over: the loss falls and, at the noisiest time, where the image itself says nothing, the
    network sees the one that is asked for.

    Measured after 90 steps: the loss a quarter of what it was, the other image six times as far off as the right one.
    """
    backend.use("numba")  # in a third of the time
    it = captioned(["a red square", "a green bar"], batch_size=16, lr=1e-2, cond_dropout=0.0, steps=90)
    losses = [train_step(it).loss for _ in range(90)]
    assert 0.5 < np.mean(losses[:5]) < 2
    assert np.mean(losses[-10:]) < np.mean(losses[:5]) / 2
    x = np.random.default_rng(0).standard_normal((1, 8, 8, 3)).astype(np.float32).repeat(2, 0)
    level = it.process.schedule.level(999)
    output = it.model(x, np.full(2, 999, np.float32), it.model.condition(2, it.dataset.labels)).data
    x0_hat = it.process.to_x0_eps(output, x, level)[0]
    real = to_float(it.dataset.images)
    distance = np.square(x0_hat[:, None] - real[None]).mean(axis=(2, 3, 4))  # (asked, real)
    assert 2 * distance[0, 0] < distance[0, 1] and 2 * distance[1, 1] < distance[1, 0]


def test_every_part_of_the_text_learns(captioned):
    it = captioned(["a red square", "a green bar", "blue"] * 4)
    before = {name: p.data.copy() for name, p in it.model.named_parameters().items()}
    for _ in range(4):  # what starts at zero keeps what stands before it from learning for a step or two
        train_step(it)
    text = [name for name in before if name.startswith(("text.", "text_projection.")) or ".cross_attention." in name]
    assert len(text) > 20
    still = [name for name in text if np.array_equal(before[name], it.model.named_parameters()[name].data)]
    assert not still


def test_same_settings_same_bits_and_parts_are_the_same_batch(captioned):
    texts = ["a red, square", "a green, bar", "blue"] * 4
    one, other, cut = captioned(texts), captioned(texts), captioned(texts, accumulate=4)
    records = [[train_step(it) for _ in range(2)] for it in (one, other, cut)]
    assert records[0] == records[1]
    assert np.array_equal(one.parameters.w, other.parameters.w)
    assert records[2][0].loss == pytest.approx(records[0][0].loss, rel=1e-6)  # sums in another order


def test_a_checkpoint_goes_on_to_the_bit(captioned, tmp_path):
    texts = ["a red, square", "a green, bar", "blue"] * 4
    alone, first = captioned(texts), captioned(texts)
    for _ in range(2):
        train_step(alone)
        train_step(first)
    found = saved(first, tmp_path / "step_00000002.safetensors")
    assert found.words == first.words and found.tokenizer.max_tokens == 3
    second = captioned(texts, found)
    assert [train_step(second) for _ in range(2)] == [train_step(alone) for _ in range(2)]
    for name in ("w", "ema", "m", "v"):
        assert np.array_equal(getattr(second.parameters, name), getattr(alone.parameters, name))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a red square", "a green line", "blue"], "was trained on captions with other words than the data has; only "
         "there is 'bar'"),
        (["a red square", "a green bar", "blue zebra"], "was trained on captions with other words than the data has; "
         "only in the data is 'zebra'"),
        (["a red square", "a green bar blue", "blue"], "was trained on captions of up to 3 words; the data has up to "
         "4"),
    ],
)  # fmt: skip
def test_other_words_are_one_line(captioned, tmp_path, texts, message):
    path = tmp_path / "step_00000000.safetensors"
    found = saved(captioned(["a red square", "a green bar", "blue"]), path)
    with pytest.raises(MinidiffError) as caught:
        captioned(texts, found)
    assert str(caught.value) == f"{path} {message}"


def test_captions_that_came_or_went_are_one_line(captioned, tmp_path):
    path = tmp_path / "step_00000000.safetensors"
    with_captions = captioned(["a dog", "a cat", "a bird"])
    plain = Trainer(with_captions.config, ImageDataset("plain", with_captions.dataset.images))
    with pytest.raises(MinidiffError) as caught:
        Trainer(with_captions.config, plain.dataset, saved(with_captions, path))
    assert str(caught.value) == f"{path} was trained on captions; the data has none"
    with pytest.raises(MinidiffError) as caught:
        captioned(["a dog", "a cat", "a bird"], saved(plain, path))
    assert str(caught.value) == f"{path} was trained without captions; the data has some"


# -- what a sheet shows ---------------------------------------------------------------------------------------------


def shown(it, count=24):
    rows = preview.grid_labels(it, count)
    return None if rows is None else [it.dataset.tokenizer.decode(row) for row in rows]


def test_a_sheet_shows_different_captions_in_turn(captioned):
    it = captioned(["red", "red", "", "bar", "red", "blue"])
    assert preview.num_conditions(it) == 3
    assert shown(it, 7) == ["red", "bar", "blue", "red", "bar", "blue", "red"]
    assert preview.column_names(it, 3) == ["red", "bar", "blue"]
    many = captioned([f"w{i // 2:02d}" for i in range(100)])
    assert preview.column_names(many, preview.num_conditions(many)) == [f"w{i * 50 // 8:02d}" for i in range(8)]


def test_a_sheet_without_a_caption_that_has_words_is_drawn_without(captioned, tmp_path):
    it = captioned(["", "", ""], known=build_tokenizer(["a dog"]))
    assert preview.num_conditions(it) == 0 and preview.grid_labels(it, 3) is None
    preview.Samples(it).save_preview(tmp_path / "a.png")
    assert read_metadata(tmp_path / "a.png")["columns"] == []


def test_a_preview_names_its_captions(captioned, tmp_path):
    it = captioned(["a red square", "a green bar", "blue"] * 4)
    preview.Samples(it).save_preview(tmp_path / "a.png")
    about = read_metadata(tmp_path / "a.png")
    assert about["columns"] == ["a red square", "a green bar", "blue"]
    assert about["guidance_scale"] == it.space.guidance_scale == 3


def test_scenes_show_the_captions_of_their_first_images(settings):
    data = Scenes(16, captions=True)
    it = Trainer(settings(data="scenes", data_dir=None, text_width=8, text_layers=1), data)
    assert preview.num_conditions(it) == preview.CAPTIONS
    expected = [data.tokenizer.decode(row) for row in data.batch(np.arange(8))[1]]
    assert shown(it, 10) == [*expected, *expected[:2]]


# -- from the command line ------------------------------------------------------------------------------------------


fails = partial(mistakes.of_command, command.main)


def train(*words):
    command.main([str(word) for word in words])


def test_a_folder_with_names_from_training_to_prompts(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(loop, "FIRST_PREVIEW_SECONDS", 0.0)
    run, data = tmp_path / "run", ["--data", "folder", "--data-dir", folder, "--size", 8, "--captions", "names"]
    train(*data, *SMALL, "--steps", 2, "--out", run)
    out = capsys.readouterr().out
    assert re.search(r"data     images, 8×8 in colour, captions of 5 words: \d+ images, \d+ more held out\n", out)
    last = checkpoints.path_of(run, 2)
    assert f"  python -m minidiff.sample --checkpoint {last} 'blue square'\n" in out
    assert "minidiff.evaluate" not in out  # it judges labels, and a folder's captions are none
    assert f"  python -m minidiff.train --resume {run} --steps 4\n" in out
    assert read_toml(Config, run / "config.toml").data.captions == "names"
    for sheet in (run / "grid.png", run / "previews" / "step_00000001.png"):
        assert read_metadata(sheet)["columns"] == ["blue square", "green bar", "red square"]

    train("--resume", run, "--steps", 4)
    assert "from step 2" in capsys.readouterr().out
    train(*data, *SMALL, "--steps", 4, "--out", tmp_path / "alone")
    one, other = (checkpoints.load(checkpoints.path_of(tmp_path / name, 4)).tensors for name in ("run", "alone"))
    for group in checkpoints.GROUPS:
        assert all(np.array_equal(one[group][name], other[group][name]) for name in one[group])

    sampling.main(["--checkpoint", str(last), "blue square", "--count", "2", "--steps", "2", "--backend", "numpy",
                   "--out", str(tmp_path / "drawn")])  # fmt: skip
    with backend.using("numpy"):
        arr = models.load(last).sample(2, prompt="blue square", steps=2)
    with Image.open(tmp_path / "drawn" / "grid.png") as grid:
        assert np.array_equal(np.asarray(grid), make_grid(arr))


def test_a_run_whose_captions_changed_is_refused(folder, tmp_path, capsys):
    run, data = tmp_path / "run", ["--data", "folder", "--data-dir", folder, "--size", 8]
    for image in list(folder.iterdir()):
        image.with_suffix(".txt").write_text("a dog")
    train(*data, *SMALL, "--steps", 1, "--out", run)
    assert "captions of 2 words" in capsys.readouterr().out  # found without being asked for
    line = fails(capsys, "--resume", run, "--steps", 2, "--captions", "names")
    path = checkpoints.path_of(run, 1)
    assert line == f"{path} was trained with other settings: --captions auto there, names asked"
    (folder / "red_square_00.txt").write_text("a cat")
    line = fails(capsys, "--resume", run, "--steps", 2)
    assert line == f"{path} was trained on captions with other words than the data has; only in the data is 'cat'"
    for text in folder.glob("*.txt"):
        text.unlink()
    assert fails(capsys, "--resume", run, "--steps", 2) == f"{path} was trained on captions; the data has none"


def test_captions_that_are_not_there(folder, tmp_path, capsys):
    data = ["--data", "folder", "--data-dir", folder, "--size", 8, *SMALL, "--steps", 1, "--out", tmp_path / "run"]
    assert fails(capsys, *data, "--captions", "txt").startswith(f"{folder}: no captions; --captions txt expects")
    line = fails(capsys, *data, "--captions", "names", "--folder-labels")
    assert line == "--captions names: a network learns captions or --folder-labels, not both"
    assert not (tmp_path / "run").exists()
