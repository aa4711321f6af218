"""Checkpoints: all of the state and to the bit, and one line for each way in which a file can be wrong."""

import errno
import json
import math
import os
from pathlib import Path

import make_checkpoint
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from minidiff import checkpoint as checkpoints
from minidiff import files
from minidiff.autograd import no_grad
from minidiff.checkpoint.format import content_digest
from minidiff.data.dataset import ImageDataset
from minidiff.errors import MinidiffError
from minidiff.files import sha256
from minidiff.nn import UNetConfig
from minidiff.training.cli import parse
from minidiff.training.loop import train_step
from minidiff.training.trainer import Trainer
from tests.mistakes import of_call as fails


@pytest.fixture
def it(trainer):
    """A trainer after two steps."""
    trainer = trainer()
    train_step(trainer)
    train_step(trainer)
    return trainer


@pytest.fixture
def run(tmp_path):
    checkpoints.path_of(tmp_path, 0).parent.mkdir()
    return tmp_path


def save(it, run, step=None):
    path = checkpoints.path_of(run, it.step if step is None else step)
    checkpoints.save(path, it.step, it.config, it.network, it.dataset.classes, it.parameters)
    return path


def contents(path):
    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["minidiff"])  # noqa: SIM118 (not a dict)


def rewrite(path, change):
    """Change tensors or metadata of a file; the digest does not come along, as nothing may depend on it being right."""
    tensors, about = contents(path)
    change(tensors, about)
    save_file(tensors, path, {"minidiff": json.dumps(about)})


def test_everything_comes_back_to_the_bit(run, it):
    path = save(it, run)
    found = checkpoints.load(path)
    assert (found.path, found.step, found.config, found.network) == (path, 2, it.config, it.network)
    assert found.classes == it.dataset.classes == ("0", "1", "2")
    model, parameters = checkpoints.restore(found, it.network)
    for name in ("w", "ema", "m", "v"):
        assert np.array_equal(getattr(parameters, name), getattr(it.parameters, name)), name
    assert parameters.n_decay == it.parameters.n_decay
    assert all(np.shares_memory(p.data, parameters.w) for p in model.named_parameters().values())


def test_the_averaged_weights_draw(run, it):
    found = checkpoints.load(save(it, run))
    model = checkpoints.make_network(found)
    ema = it.parameters.split(it.parameters.ema)
    assert all(np.array_equal(p.data, ema[name]) for name, p in model.named_parameters().items())
    model = checkpoints.make_network(found, "model")
    assert all(np.array_equal(p.data, it.parameters.parameters[n].data) for n, p in model.named_parameters().items())


def test_same_state_same_file(run, it):
    one, other = save(it, run, 2), save(it, run, 3)
    assert one.read_bytes() == other.read_bytes()
    assert sha256(one) == sha256(other)
    assert len(sha256(one)) == 64
    train_step(it)
    assert sha256(save(it, run)) != sha256(one)


def test_anybody_can_read_it(run, it):
    """It is plain safetensors: named float32 arrays, and metadata that is JSON."""
    tensors, about = contents(save(it, run))
    assert {name.split("/")[0] for name in tensors} == {"model", "ema", "adam_m", "adam_v"}
    assert {array.dtype for array in tensors.values()} == {np.dtype("float32")}
    assert (about["version"], about["step"], about["config"]["run"]["batch_size"]) == (5, 2, 8)


# -- what can be wrong with a file ------------------------------------------------------------------------------------


def test_a_file_cut_off_anywhere_is_one_line(run, it):
    path = save(it, run)
    whole = path.read_bytes()
    for length in [0, 1, 7, 8, 9, 100, 5000, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:length])
        assert fails(checkpoints.load, path).startswith(f"{path} is damaged or not a checkpoint: ")


def test_a_flipped_bit_anywhere_is_one_line(run, it):
    """In the header or in the weights: nothing is loaded that was not saved.

    The one thing that may change unseen is how the header is written (a space): its content is what the digest covers.
    """
    path = save(it, run)
    whole = path.read_bytes()
    header = int.from_bytes(whole[:8], "little") + 8
    random = np.random.default_rng(0)
    places = [*range(12), *random.integers(0, header, 40), *random.integers(header, len(whole), 10)]
    caught = 0
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(random.integers(0, 8))
        path.write_bytes(damaged)
        try:
            found = checkpoints.load(path)
        except MinidiffError as error:
            assert "\n" not in str(error)
            caught += 1
        else:
            assert (found.step, found.config) == (it.step, it.config)
            assert place < header
    assert caught > 0.9 * len(places)


def test_a_foreign_file_is_one_line(tmp_path):
    text, arrays, folder = tmp_path / "a.txt", tmp_path / "b.safetensors", tmp_path / "d"
    text.write_text("an image of a dog")
    save_file({"w": np.zeros(3, np.float32)}, arrays)
    folder.mkdir()
    assert fails(checkpoints.load, text).startswith(f"{text} is damaged or not a checkpoint: ")
    assert fails(checkpoints.load, arrays) == f"{arrays} is a safetensors file, but not a checkpoint of minidiff's"
    assert (
        fails(checkpoints.load, tmp_path / "c") == f"cannot read checkpoint: no such file or folder: {tmp_path / 'c'}"
    )
    assert fails(checkpoints.load, folder) == f"{folder} is a folder; expected a regular file"


def test_another_format_version_is_one_line(run, it):
    """Of a later version nothing else is read: it may spell everything otherwise."""
    path = save(it, run)
    rewrite(path, lambda tensors, about: (about.clear(), about.update(version=6, all_else="new")))
    assert fails(checkpoints.load, path) == f"{path} has format version 6; this minidiff reads versions 1 to 5"


def test_a_training_goes_on_from_a_checkpoint_whose_size_is_one_number(run, trainer):
    """Up to version 4.  The digest is of the metadata as they stand in the file."""
    it = trainer(size=(8,))
    path = save(it, run)
    tensors, about = contents(path)
    about["version"], about["config"]["data"]["size"] = 4, 8
    about["digest"] = content_digest(about, tensors.items())
    save_file(tensors, path, {"minidiff": json.dumps(about)})
    assert checkpoints.load(path).config == it.config
    assert parse(["--resume", str(path), "--size", "8"]).config == it.config
    assert parse(["--resume", str(path), "--size", "8", "8"]).config == it.config
    line = fails(parse, ["--resume", str(path), "--size", "8", "12"])
    assert line == f"{path} was trained with other settings: --size 8 there, 8 12 asked"


@pytest.mark.parametrize("key", ["step", "config", "classes"])
def test_missing_metadata_is_one_line(run, it, key):
    path = save(it, run)
    rewrite(path, lambda tensors, about: about.pop(key))
    assert fails(checkpoints.load, path) == f"{path} is damaged: metadata: {key} is missing"


def test_a_file_of_no_network_is_one_line(run, it):
    path = save(it, run)
    rewrite(path, lambda tensors, about: about.pop("network"))
    assert fails(checkpoints.load, path) == f"{path} is damaged: it describes neither a denoiser nor an autoencoder"


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("step", "many", "metadata: step must be a whole number, got 'many'"),
        ("step", 3.0, "metadata: step must be a whole number, got 3.0"),
        ("step", -1, "metadata: step must be from 0 to 2^32 - 1, got -1"),
        ("step", 10**4000, "metadata: step must be from 0 to 2^32 - 1, got 1000"),
        ("config", [], "metadata: [config]: expected a table of settings, got []"),
        (
            "config",
            {"run": {"bacth_size": 1}},
            "metadata: [config]: [run]: unknown setting 'bacth_size'; did you mean 'batch_size'?",
        ),
        ("network", {"height": 0}, "metadata: [network]: height must be from 1 to 4096, got 0"),
        ("classes", 3, "metadata: classes must be a list, got 3"),
        ("network", {"text_layers": 10**9}, "metadata: [network]: text_layers must be from 0 to 64, got 1000000000"),
        (
            "config",
            {"diffusion": {"num_timesteps": 10**9}},
            "metadata: [config]: [diffusion]: num_timesteps must be from 2 to 1048576",
        ),
        ("config", {"optimizer": {"lr": 10**400}}, "metadata: [config]: [optimizer]: lr must be a number that a float"),
        ("config", {"optimizer": {"lr": math.inf}}, "metadata: [config]: [optimizer]: lr must be above 0, at most"),
        ("config", {"data": {"data_dir": "a\0"}}, "metadata: [config]: [data]: data_dir must be text in valid UTF-8"),
        ("classes", ["a"], "1 class names for 3 classes"),
        (
            "classes",
            ["a", "b", "\x1b[2J"],
            r"expected printable names of up to 255 bytes for classes and words, got '\x1b",
        ),
        ("classes", ["a", "b", "\ud800"], "metadata: classes must be text in valid UTF-8"),
        (
            "classes",
            ["a", "b", "c" * 10**6],
            "expected printable names of up to 255 bytes for classes and words, got 'c",
        ),
        ("digest", "0", "its content does not match its digest"),
        ("digest", "", "its content does not match its digest"),
        ("step", 3, "its content does not match its digest"),
        (
            "extra",
            1,
            "metadata: unknown setting 'extra'; known are "
            "version, step, config, classes, network, words, base, data, autoencoder, latents, dit, drawing, made, "
            "digest",
        ),
    ],
)
def test_metadata_that_makes_no_sense_is_one_line(run, it, key, value, line):
    path = save(it, run)
    rewrite(path, lambda tensors, about: about.update({key: value}))
    said = fails(checkpoints.load, path)
    assert said.startswith(f"{path} is damaged: {line}") and len(said) < 500


@pytest.mark.parametrize("text", ["", "{", "[" * 10**5, "9" * 10**5])
def test_metadata_that_is_no_json_is_one_line(run, it, text):
    path = save(it, run)
    save_file(contents(path)[0], path, {"minidiff": text})
    assert fails(checkpoints.load, path).startswith(f"{path} is damaged: its metadata is not JSON")


@pytest.mark.parametrize("group", checkpoints.GROUPS)
def test_numbers_that_are_not_finite_are_named_also_where_the_digest_is_right(run, it, group):
    flat = dict(zip(checkpoints.GROUPS, (it.parameters.w, it.parameters.ema, it.parameters.m, it.parameters.v)))[group]
    it.parameters.split(flat)["conv_out.w"][0, 0, 0, 0] = np.inf
    path = save(it, run)
    line = f"{path} is damaged: {group}/conv_out.w has numbers that are not finite"
    assert fails(checkpoints.load, path) == line


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes with names")
def test_a_pipe_is_no_checkpoint(run):
    os.mkfifo(run / "pipe")
    assert fails(checkpoints.load, run / "pipe") == f"{run / 'pipe'} is a pipe; expected a regular file"
    assert fails(sha256, run / "pipe") == f"{run / 'pipe'} is a pipe; expected a regular file"


@pytest.mark.parametrize("change", [{"num_res_blocks": 10**9}, {"model_channels": 10**9}, {"channel_mult": [1, 10**9]}])
def test_sizes_in_the_metadata_are_not_believed(run, it, change):
    """A network of a billion blocks, or 4e9 × 4e9 weights, is refused before it takes time or memory."""
    path = save(it, run)
    rewrite(path, lambda tensors, about: about["network"].update(change))
    assert f"{path} is damaged: " in fails(checkpoints.load, path)


def test_missing_or_misshapen_tensors_are_one_line(run, it):
    path = save(it, run)
    rewrite(path, lambda tensors, about: tensors.pop("ema/conv_out.w"))
    assert fails(checkpoints.load, path) == f"{path} is damaged: 1 tensors are missing, the first is ema/conv_out.w"
    path = save(it, run)
    rewrite(path, lambda tensors, about: tensors.update({"adam_m/conv_out.b": np.zeros(4, np.float32)}))
    assert fails(checkpoints.load, path) == f"{path} is damaged: expected adam_m/conv_out.b as F32 (3,), got F32 (4,)"
    path = save(it, run)
    rewrite(path, lambda tensors, about: tensors.update({"adam_m/conv_out.b": np.zeros(3, np.float64)}))
    assert fails(checkpoints.load, path) == f"{path} is damaged: expected adam_m/conv_out.b as F32 (3,), got F64 (3,)"


def test_a_checkpoint_of_another_network_is_one_line(run, it):
    path = save(it, run)
    found = checkpoints.load(path)
    wider = UNetConfig(**{**vars(it.network), "model_channels": 16})
    assert fails(checkpoints.restore, found, wider) == (
        f"{path} is of another network: expected embedding.linear1.w (16, 64), it has embedding.linear1.w (8, 32)"
    )
    deeper = UNetConfig(**{**vars(it.network), "num_res_blocks": 2})
    assert fails(checkpoints.restore, found, deeper).startswith(f"{path} is of another network: expected down.1.block")
    without = UNetConfig(**{**vars(it.network), "classes": 0})
    assert fails(checkpoints.restore, found, without) == (
        f"{path} is of another network: it has embedding.class_embedding.table, this one has not"
    )
    heads = UNetConfig(**{**vars(it.network), "heads": 4})  # all shapes are the same
    assert fails(checkpoints.restore, found, heads) == f"{path} is of another network: its heads is 2, expected 4"


# -- several in a folder ----------------------------------------------------------------------------------------------


def test_the_newest_good_one_is_found_and_the_skipped_are_named(run, it):
    first = save(it, run)
    train_step(it)
    second = save(it, run)
    train_step(it)
    third = save(it, run)
    said = []
    assert checkpoints.find(run, said.append).path == third
    assert said == []
    third.write_bytes(third.read_bytes()[:-1])
    assert checkpoints.find(run, said.append).path == second
    assert len(said) == 1
    assert said[0].startswith(f"skipped: {third} is damaged")
    second.write_bytes(b"")
    assert checkpoints.newest(run, said.append).path == first
    first.write_bytes(b"")
    assert fails(checkpoints.newest, run, said.append).startswith(
        f"none of the 3 checkpoints in {run} can be used; the newest: {third} is damaged"
    )


def test_the_folder_of_a_runs_checkpoints_stands_for_the_run(run, it, monkeypatch):
    path = save(it, run)
    assert checkpoints.find(run / "checkpoints").path == path
    monkeypatch.chdir(run / "checkpoints")
    assert checkpoints.find(Path()).step == it.step


def test_a_folder_without_any_is_one_line(run):
    line = f"no checkpoint in {run}: expected {run / 'checkpoints'}/step_….safetensors"
    assert fails(checkpoints.newest, run) == line


def test_the_last_k_are_kept(run, it):
    for step in (2, 10, 9, 100):
        save(it, run, step)
    (run / "checkpoints" / "mine.safetensors").write_bytes(b"a user's own file")
    checkpoints.prune(run, 2)
    assert [checkpoints.step_of(path) for path in checkpoints.paths_in(run)] == [10, 100]
    assert (run / "checkpoints" / "mine.safetensors").exists()


def test_links_and_folders_are_not_counted_among_the_last_k(run, it):
    path = save(it, run, 1)
    folder, link = (path.with_name(f"step_{step}.safetensors") for step in (2, 3))
    folder.mkdir()
    link.symlink_to(path)
    checkpoints.prune(run, 1)
    assert path.exists()
    save(it, run, 4)
    checkpoints.prune(run, 1)
    assert [checkpoints.step_of(path) for path in checkpoints.paths_in(run)] == [2, 3, 4]


def test_names_that_no_training_writes_are_not_counted_among_the_last_k(run, it):
    path = save(it, run, 1)
    path.with_name("step_2.safetensors").write_bytes(path.read_bytes())
    checkpoints.prune(run, 1)
    assert [file.name for file in checkpoints.paths_in(run)] == ["step_00000001.safetensors", "step_2.safetensors"]


def test_a_failed_write_leaves_the_old_file(run, it, monkeypatch):
    path = save(it, run)
    before = path.read_bytes()
    train_step(it)

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save(it, run, 2)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


# -- for ever after ---------------------------------------------------------------------------------------------------


def test_a_checkpoint_of_version_1_is_read_for_ever():
    """It draws and goes on training as it did when it was written; see make_checkpoint.py.

    1e-4: float32 through some forty layers, where another machine's BLAS adds up in another order.
    """
    expected = json.loads(make_checkpoint.EXPECTED.read_text())
    found = checkpoints.load(make_checkpoint.CHECKPOINT)
    assert (found.step, found.config, found.classes) == (20, make_checkpoint.CONFIG, ("even", "odd"))
    with no_grad():
        model, (x, t, labels) = checkpoints.make_network(found), make_checkpoint.question()
        answer = model(x, t, model.condition(len(t), labels)).data
    assert np.abs(answer[:, ::3, ::3, 0] - np.array(expected["answer"])).max() < 1e-4
    assert np.abs(answer).max() > 0.1  # it has something to say

    images = (np.arange(16 * 64) % 251).astype(np.uint8).reshape(16, 8, 8, 1)
    data = ImageDataset("stripes", images, np.arange(16) % 2, ("even", "odd"))
    trainer = Trainer(found.config, data, found)
    record = train_step(trainer)
    assert record.loss == pytest.approx(expected["loss"], rel=1e-4)
    assert record.grad_norm == pytest.approx(expected["grad_norm"], rel=1e-3)
    assert np.abs(trainer.parameters.w, dtype=np.float64).sum() == pytest.approx(expected["weight_sum"], rel=1e-4)


def test_the_committed_checkpoint_is_small():
    assert make_checkpoint.CHECKPOINT.stat().st_size < 150_000
