"""Files that earlier versions of minidiff wrote give the same images and the same trainings as ever.

make.py says which version made which file.  Two kinds of test:
- the images that were drawn then are drawn again, up to the last bits in which CPUs and NumPy's BLAS differ;
- an old file and its form of today (a checkpoint written anew, options in place of config.toml or grid.png) give the
  same bits in this process, on any machine.
Only `resave` and `unpacked` know more of minidiff than its commands.
"""

import json
import lzma
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import minidiff
from minidiff import backend, export, sample, train
from minidiff import checkpoint as checkpoints
from minidiff.pipeline.loading import SMALL
from minidiff.training import preview

HERE = Path(__file__).parent
LAST = "checkpoints/step_00000003.safetensors"
NUMPY = "--backend numpy --threads 1"

_TINY = (
    "--model-channels 4 --heads 2 --groups 2 --num-timesteps 8 --batch-size 4 --lr 0.03 --warmup 1 --ema 0.5 --seed 7"
)
_TEXT = "--data folder --data-dir images --size 8 --captions names --text-width 4 --text-layers 1"
_PROMPTS = ("red cat", "blue owl")
_SMALL = f"--checkpoint {SMALL}"  # the default when their grids were drawn


@dataclass(frozen=True)
class Golden:
    """What config.toml (train) and grid.png (sample) of a folder say, as today's options."""

    train: str = ""
    sample: str = ""
    prompts: tuple[str, ...] = ()
    base: str = ""  # the folder of the model that an adapter was added to


GOLDEN = {
    "1-labels": Golden(
        f"--data npz --data-dir images.npz --channel-mult 1 {_TINY}",
        "--label cat dog --init image.png --strength 0.7 --count 4 --steps 6 --sampler heun --seed 3",
    ),
    "2-captions": Golden(
        f"{_TEXT} --channel-mult 1 1 --attention-at 4 --cross-attention-at 8 4 {_TINY}",
        "--negative dog --guidance-scale 2 --guidance-interval 0.1 30 --count 4 --steps 6 --seed 4",
        _PROMPTS,
    ),
    "2-edges": Golden(
        "--adapter edges --onto 2-captions --batch-size 4 --lr 0.03 --warmup 1 --ema 0.5 --seed 7",
        "--adapter 2-edges --control drawing.png --control-scale 0.8 --count 4 --steps 4",
        _PROMPTS,
        "2-captions",
    ),
    "2-reference": Golden(
        "--adapter reference --onto 2-captions --batch-size 4 --lr 0.03 --warmup 1 --ema 0.5 --seed 7",
        base="2-captions",
    ),
    "3-labels": Golden(
        "--data npz --data-dir images.npz --patch 2 --time add --schedule flow --target flow --shift 2 "
        "--timestep-sampling lognormal --sigma-mean 0 --flip --accumulate 2 --channel-mult 1 "
        f"{_TINY} --heads 1",
        "--label dog --sampler euler --churn 2 --clip dynamic --count 4 --steps 6",
    ),
    "3-captions": Golden(
        f"--schedule karras --target edm --weighting edm --timestep-sampling stratified --cond-dropout 0.2 {_TEXT} "
        f"--channel-mult 1 --attention-at 8 --cross-attention-at 8 {_TINY}",
        "--init image.png --mask drawing.png --resample 2 --eta 0.5 --spacing karras --count 4 --steps 6",
        _PROMPTS,
    ),
    "3-edges": Golden(
        "--adapter edges --onto 3-captions --batch-size 4 --lr 0.03 --warmup 1 --ema 0.5 --seed 7",
        "--adapter 3-edges --control drawing.png --sampler unipc --count 4 --steps 5",
        _PROMPTS,
        "3-captions",
    ),
    "3-reference": Golden(
        "--adapter reference --onto 3-captions --batch-size 4 --lr 0.03 --warmup 1 --ema 0.5 --seed 7",
        base="3-captions",
    ),
    "4-labels": Golden(
        f"--data npz --data-dir images.npz --target x0 --schedule linear --channel-mult 1 {_TINY}",
        "--label owl cat --sampler dpm-solver-sde --clip dynamic --count 4 --steps 6 --seed 6",
    ),
    "4-captions": Golden(
        f"{_TEXT.replace('layers 1', 'layers 2')} --channel-mult 1 1 --attention-at 4 --cross-attention-at 8 4 {_TINY}",
        "--negative dog --guidance-scale 2 --sampler heun --churn 3 --count 4 --steps 5 --seed 4",
        _PROMPTS,
    ),
    "4-edges": Golden(
        "--adapter edges --onto 4-captions --batch-size 4 --lr 0.03 --warmup 1 --ema 0.5 --seed 7",
        "--adapter 4-edges --control drawing.png --sampler euler-ancestral --count 4 --steps 4",
        _PROMPTS,
        "4-captions",
    ),
    "5-autoencoder": Golden(
        "--network autoencoder --data npz --data-dir images.npz --autoencoder-patch 2 --latent-channels 4 "
        "--encoder-channels 4 4 --decoder-channels 4 4 --encoder-blocks 0 1 --decoder-blocks 1 0 "
        "--groups 2 --batch-size 4 --lr 0.03 --warmup 1 --ema 0.5 --seed 7",
    ),
    "5-labels": Golden(
        f"--autoencoder 5-autoencoder --data npz --data-dir images.npz --flip --channel-mult 1 {_TINY}",
        "--label dog owl --init image.png --mask drawing.png --guidance-scale 3 --count 4 --steps 6 --seed 2",
    ),
    "5-captions": Golden(
        f"{_TEXT.replace('--size 8', '--size 8 16')} --channel-mult 1 --attention-at 8 --cross-attention-at 8 {_TINY}",
        "--sampler unipc --count 2 --steps 4 --seed 8",
        _PROMPTS,
    ),
    "5-dit": Golden(
        f"--network dit {_TEXT} --patch 2 --hidden-size 16 --num-layers 1 --heads 2 --schedule flow --target flow "
        "--num-timesteps 8 --batch-size 4 --lr 0.03 --warmup 1 --ema 0.5 --seed 7",
        "--negative dog --guidance-scale 2 --sampler euler --count 4 --steps 5 --seed 9",
        _PROMPTS,
    ),
    "shipped": Golden(sample=f"{_SMALL} --steps 8 --count 2", prompts=("a dog",)),
    "shipped-all": Golden(
        sample=f"{_SMALL} --negative night --control drawing.png --reference image.png --reference-scale 0.8 "
        "--sampler ddpm --seed 5 --variance large --steps 5 --count 2",
        prompts=("a dog",),
    ),
    "shipped128": Golden(sample="--steps 4 --count 2", prompts=("a dog",)),
}
TRAINED = [name for name, golden in GOLDEN.items() if golden.train]
DRAWN = [name for name, golden in GOLDEN.items() if golden.sample]
BOTH = [name for name in TRAINED if name in DRAWN]

# One of each format, and a transformer, go on training in every run of the tests, the others before a release.
EACH_FORMAT = {"1-labels", "2-edges", "3-captions", "4-labels", "5-labels", "5-dit"}


def mostly_before_a_release(names):
    return [pytest.param(name, marks=[] if name in EACH_FORMAT else pytest.mark.release) for name in names]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The golden files with their checkpoints unpacked.  Tests get copies."""
    copy = tmp_path_factory.mktemp("unpacked") / "golden"
    shutil.copytree(HERE, copy, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    for packed in copy.glob("*/checkpoints/*.xz"):
        packed.with_suffix("").write_bytes(lzma.decompress(packed.read_bytes()))
        packed.unlink()
    return copy


@pytest.fixture(autouse=True)
def folder(unpacked, tmp_path, monkeypatch):
    """A copy of the golden files, unpacked, as the current folder.

    Commands select their backend for the test alone.  Trainings end with one image in one step: sheets of them would
    take most of their time.
    """
    monkeypatch.setattr(backend, "_stack", [])
    monkeypatch.setattr(preview, "FINAL", preview.SampleGrid(count=1, steps=1))
    copy = tmp_path / "golden"
    shutil.copytree(unpacked, copy)
    monkeypatch.chdir(copy)
    return copy


def draw(out, *words):
    """Run the command that draws; return the images, uint8 (N, H, W, C)."""
    sample.main([*words, "--array", "--threads", "1", "--out", out])
    with np.load(Path(out) / "samples.npz") as arrays:
        return arrays["arr_0"]


def draw_as_today(name, out, model=None, adapter=None):
    """Draw with today's options.  model, adapter: files that take the place of the golden ones."""
    golden = GOLDEN[name]
    words = golden.sample.split()
    if golden.train:
        words += ["--checkpoint", str(model or golden.base or name)]
    if adapter:
        words[words.index("--adapter") + 1] = str(adapter)
    return draw(out, *golden.prompts, *words, "--backend", "numpy")


def resave(old, new):
    """Read a checkpoint and write it in the current format."""
    found = checkpoints.load(Path(old))
    with backend.using("numpy"):
        _, parameters = checkpoints.restore(found, found.trained)
    new.parent.mkdir(parents=True)
    checkpoints.save(
        new, found.step, found.config, found.trained, found.classes, parameters, found.words, found.base, found.data,
        checkpoints.make_space(found),
    )  # fmt: skip
    return new


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture(scope="module")
def drawn():
    """A function that draws a golden grid, "like" it or with its "options", once: the images and the grid's pixels."""

    @cache
    def by(how, name):
        images = draw(how, "--like", f"{name}/drawn/grid.png") if how == "like" else draw_as_today(name, how)
        return images, pixels(f"{how}/grid.png")

    return by


@pytest.mark.parametrize("name, chosen", [*((name, "numpy") for name in DRAWN), ("shipped", "numba")])
def test_a_grid_is_drawn_again_as_it_was(drawn, name, chosen):
    """By --like.  Machines and backends round sums otherwise: one level of 255, in one value of a hundred."""
    with np.load(f"{name}/drawn/samples.npz") as arrays:
        then = arrays["arr_0"]
    if chosen == "numpy":  # as it was then
        now, _ = drawn("like", name)
    else:
        now = draw("out", "--like", f"{name}/drawn/grid.png", "--backend", chosen)
    difference = np.abs(now.astype(int) - then)
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 0.01


@pytest.mark.parametrize("name", DRAWN)
def test_a_grid_names_the_options_that_it_was_drawn_with(drawn, name):
    for like, options in zip(drawn("like", name), drawn("options", name)):
        np.testing.assert_array_equal(like, options)


@pytest.mark.parametrize("name", BOTH)
def test_a_checkpoint_written_anew_gives_the_same_images(drawn, name, tmp_path):
    new = resave(f"{name}/{LAST}", tmp_path / "new" / LAST)
    given = {"adapter": new} if GOLDEN[name].base else {"model": new}
    np.testing.assert_array_equal(drawn("options", name)[0], draw_as_today(name, "new", **given))


@pytest.mark.parametrize("name", mostly_before_a_release(BOTH))
def test_a_training_goes_on_from_an_old_checkpoint_as_from_one_written_anew(name, tmp_path):
    new = tmp_path / "new"
    resave(f"{name}/{LAST}", new / LAST)
    for run in (name, new):
        train.main(["--resume", str(run), "--steps", "5"])
    files = [Path(run, "checkpoints/step_00000005.safetensors").read_bytes() for run in (name, new)]
    assert files[0] == files[1]


@pytest.mark.parametrize("name", mostly_before_a_release(TRAINED))
def test_an_old_config_file_asks_for_the_same_training_as_options(name):
    train.main(["--config", f"{name}/config.toml", "--steps", "1", "--out", "file"])
    train.main([*GOLDEN[name].train.split(), *NUMPY.split(), "--steps", "1", "--out", "options"])
    files = [Path(run, "checkpoints/step_00000001.safetensors").read_bytes() for run in ("file", "options")]
    assert files[0] == files[1]


@pytest.mark.parametrize("name", [name for name in TRAINED if name.startswith("3") or name == "5-dit"])
def test_a_training_has_the_losses_that_it_had(name):
    """Since format 3; before it, other images were held out.  Between machines sums are rounded otherwise."""
    train.main(["--config", f"{name}/config.toml", "--out", "again"])
    then, now = (
        [json.loads(line)["loss"] for line in Path(run, "metrics.jsonl").read_text("utf-8").splitlines()]
        for run in (name, "again")
    )
    assert len(then) == 3
    np.testing.assert_allclose(now, then, rtol=1e-4)


def test_shipped_weights_exported_again_give_the_same_images(tmp_path):
    """Weights in float16 lose nothing when they are written in float16 again."""
    images = []
    for exported in (False, True):
        paths = [shipped(name, tmp_path / name) for name in ("scenes", "scenes-edges")]
        if exported:
            for path in paths:
                export.main(["--checkpoint", str(path), "--weights", path.name])
            paths = [path.name for path in paths]
        words = f"--adapter {paths[1]} --control drawing.png --count 1 --steps 3 --backend numpy".split()
        images.append(draw(f"out{exported}", "a dog", "--checkpoint", str(paths[0]), *words))
    np.testing.assert_array_equal(*images)


def shipped(name, run):
    """Copy weights that minidiff comes with into a run's folder, from where alone they can be exported."""
    path = run / "checkpoints" / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(minidiff.__file__).parent / "weights" / path.name, path)
    return path
