"""Make the golden files of this folder again: `python tests/golden/make.py FOLDER`, in a clone with its history.

Each model is trained and drawn by the version of minidiff that first wrote, or last wrote, its checkpoint format; that
version is checked out of the git history into a temporary work tree.  FOLDER must not exist.  The files in the
repository were made like this once and then never changed: a test that fails is mended in minidiff/, not here.

    folder         commit   format  model
    1-labels       36c9c1d    1     labels; the last commit before captions
    2-captions     6912a40    2     captions, text layers, self-attention; the last commit before format 3
    2-edges        6912a40    2     a ControlNet for edges, added to 2-captions
    2-reference    6912a40    2     an image prompt adapter, added to 2-captions; its config.toml alone
    3-labels       fb484d6    3     labels, flow matching, an added time embedding, patches
    3-captions     fb484d6    3     as 2-captions, with an EDM target
    3-edges        fb484d6    3     as 2-edges, added to 3-captions
    3-reference    fb484d6    3     as 2-reference, added to 3-captions; its config.toml alone
    4-labels       913fb23    4     labels, x0 as the target, dynamic clipping
    4-captions     913fb23    4     as 2-captions, with two text layers
    4-edges        913fb23    4     as 2-edges, added to 4-captions
    5-autoencoder  57f746f    5     an autoencoder of the labelled images
    5-labels       57f746f    5     labels, in the latents of 5-autoencoder
    5-captions     57f746f    5     captions, images that are wider than high
    5-dit          ca940c2    5     captions, a transformer, flow matching
    shipped        fb484d6    2     the weights in minidiff/weights for 32 pixels: prompts alone
    shipped-all    fb484d6    2     the same, with a drawing and a reference
    shipped128     bf1776e    5     the weights in minidiff/weights for 128 pixels

Every folder holds a run (config.toml, metrics.jsonl, and the checkpoint, compressed by xz) and drawn/, what `sample`
wrote: grid.png with the settings inside, samples.npz with the images.  A reference adapter has 131,000 parameters
however small its model is, too many for this folder; the weights in minidiff/weights include one of format 2.
Everything was computed by the numpy backend, with NumPy 2.4 on an x86-64 CPU.
"""

import contextlib
import lzma
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
TINY = "--base 4 --heads 2 --groups 2 --times 8"  # up to format 3
TINY_4 = "--model-channels 4 --heads 2 --groups 2 --num-timesteps 8"
SHORT = "--steps 3 --batch 4 --lr 0.03 --warmup 1 --ema 0.5 --seed 7 --backend numpy --threads 1"
TEXT = "--data folder --data-dir images --size 8 --captions names --text-width 4 --text-layers 1"
TEXT_4 = TEXT.replace("--text-layers 1", "--text-layers 2")
SHORT_5 = SHORT.replace("--batch ", "--batch-size ")
CODE = "--autoencoder-patch 2 --latent-channels 4 --encoder-channels 4 4 --decoder-channels 4 4 --encoder-blocks 0 1 "
CODE += "--decoder-blocks 1 0"
DRAW = "--array --backend numpy --threads 1"

# folder: commit, options of train, options of sample
MODELS = {
    "1-labels": (
        "36c9c1d",
        f"--data npz --data-dir images.npz --multipliers 1 {TINY} {SHORT}",
        f"--label cat dog --init image.png --strength 0.7 --count 4 --steps 6 --sampler heun --seed 3 {DRAW}",
    ),
    "2-captions": (
        "6912a40",
        f"{TEXT} --multipliers 1 1 --attention 4 --words-at 8 4 {TINY} {SHORT}",
        f"--negative dog --guidance-scale 2 --guidance-interval 0.1 30 --count 4 --steps 6 --seed 4 {DRAW}",
    ),
    "2-edges": (
        "6912a40",
        f"--adapter edges --onto 2-captions {SHORT}",
        f"--adapter 2-edges --control drawing.png --control-scale 0.8 --count 4 --steps 4 {DRAW}",
    ),
    "2-reference": (
        "6912a40",
        f"--adapter reference --onto 2-captions {SHORT}",
        "",
    ),
    "3-labels": (
        "fb484d6",
        f"--data npz --data-dir images.npz --patch 2 --time add --schedule flow --target flow --shift 2 "
        f"--draw-t lognormal --sigma-mean 0 --flip --accumulate 2 --base 4 --multipliers 1 --heads 1 --groups 2 "
        f"--times 8 {SHORT}",
        f"--label dog --sampler euler --churn 2 --clip dynamic --count 4 --steps 6 {DRAW}",
    ),
    "3-captions": (
        "fb484d6",
        f"--schedule karras --target edm --weighting edm --draw-t stratified --label-drop 0.2 {TEXT} "
        f"--multipliers 1 --attention 8 --words-at 8 {TINY} {SHORT}",
        f"--init image.png --mask drawing.png --resample 2 --eta 0.5 --spacing karras --count 4 --steps 6 {DRAW}",
    ),
    "3-edges": (
        "fb484d6",
        f"--adapter edges --onto 3-captions {SHORT}",
        f"--adapter 3-edges --control drawing.png --sampler unipc --count 4 --steps 5 {DRAW}",
    ),
    "3-reference": (
        "fb484d6",
        f"--adapter reference --onto 3-captions {SHORT}",
        "",
    ),
    "4-labels": (
        "913fb23",
        f"--data npz --data-dir images.npz --target x0 --schedule linear --channel-mult 1 {TINY_4} {SHORT}",
        f"--label owl cat --sampler dpm-solver-sde --clip dynamic --count 4 --steps 6 --seed 6 {DRAW}",
    ),
    "4-captions": (
        "913fb23",
        f"{TEXT_4} --channel-mult 1 1 --attention-at 4 --cross-attention-at 8 4 {TINY_4} {SHORT}",
        f"--negative dog --guidance-scale 2 --sampler heun --churn 3 --count 4 --steps 5 --seed 4 {DRAW}",
    ),
    "4-edges": (
        "913fb23",
        f"--adapter edges --onto 4-captions {SHORT}",
        f"--adapter 4-edges --control drawing.png --sampler euler-ancestral --count 4 --steps 4 {DRAW}",
    ),
    "5-autoencoder": (
        "57f746f",
        f"--network autoencoder --data npz --data-dir images.npz {CODE} --groups 2 {SHORT_5}",
        "",
    ),
    "5-labels": (
        "57f746f",
        f"--autoencoder 5-autoencoder --data npz --data-dir images.npz --flip --channel-mult 1 {TINY_4} {SHORT_5}",
        f"--label dog owl --init image.png --mask drawing.png --count 4 --steps 6 --seed 2 {DRAW}",
    ),
    "5-captions": (
        "57f746f",
        f"{TEXT.replace('--size 8', '--size 8 16')} --channel-mult 1 --attention-at 8 --cross-attention-at 8 {TINY_4} "
        f"{SHORT_5}",
        f"--sampler unipc --count 2 --steps 4 --seed 8 {DRAW}",
    ),
    "5-dit": (
        "ca940c2",
        f"--network dit {TEXT} --patch 2 --hidden-size 16 --num-layers 1 --heads 2 --schedule flow --target flow "
        f"--num-timesteps 8 {SHORT_5}",
        f"--negative dog --guidance-scale 2 --sampler euler --count 4 --steps 5 --seed 9 {DRAW}",
    ),
    "shipped": ("fb484d6", "", f"--steps 8 --count 2 {DRAW}"),
    "shipped-all": (
        "fb484d6",
        "",
        f"--negative night --control drawing.png --reference image.png --reference-scale 0.8 --sampler ddpm --seed 5 "
        f"--variance large --steps 5 --count 2 {DRAW}",
    ),
    "shipped128": ("bf1776e", "", f"--steps 4 --count 2 {DRAW}"),
}
KEPT = ("checkpoints", "config.toml", "metrics.jsonl")  # of what a training writes


def main(arguments: Sequence[str]) -> None:
    """Write all golden files into the new folder that the arguments name."""
    (folder,) = map(Path, arguments)
    folder.mkdir()
    write_images(folder)
    for commit in sorted({commit for commit, _, _ in MODELS.values()}):
        with work_tree(commit) as tree:
            for name, (made_by, train, sample) in MODELS.items():
                if made_by == commit:
                    make(folder, tree, name, train.split(), sample.split())
    for path in folder.glob("*/checkpoints/*.safetensors"):
        path.with_suffix(".safetensors.xz").write_bytes(lzma.compress(path.read_bytes()))
        path.unlink()


def make(folder: Path, tree: Path, name: str, train: list[str], sample: list[str]) -> None:
    """Train and draw one model with the minidiff of a work tree; keep what the docstring above lists."""
    if train:
        run(tree, folder, "train", *train, "--out", name)
        for path in (folder / name).iterdir():
            if path.name not in KEPT or (path.name == "checkpoints" and "reference" in name):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    if sample:
        (folder / name).mkdir(exist_ok=True)
        model = f"{name[0]}-captions" if "--adapter" in sample else name
        which = ["--checkpoint", model] if train else []
        prompts = [] if "labels" in name else ["a dog"] if "shipped" in name else ["red cat", "blue owl"]
        run(tree, folder, "sample", *prompts, *which, "--out", f"{name}/drawn", *sample)


def run(tree: Path, folder: Path, command: str, *words: str) -> None:
    """Run a command of the minidiff in a work tree, in the folder."""
    environment = os.environ | {"PYTHONPATH": str(tree)}
    subprocess.run([sys.executable, "-m", f"minidiff.{command}", *words], cwd=folder, env=environment, check=True)


def write_images(folder: Path) -> None:
    """Write what the models learn from and are given: labelled 8×8 images, captioned ones, and a drawing."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 90, (20, 8, 8, 3)).astype(np.uint8)
    labels = np.arange(20) % 3
    for image, label in zip(images, labels):
        image[2 + label : 6, 1 + label : 5] += np.array([[150, 40, 20], [20, 150, 40], [40, 20, 150]], np.uint8)[label]
    np.savez_compressed(folder / "images.npz", images=images, labels=labels, classes=np.array(["cat", "dog", "owl"]))
    (folder / "images").mkdir()
    names = [f"{colour} {animal}" for colour in ("red", "green", "blue", "big red") for animal in ("cat", "dog", "owl")]
    for name, image in zip(names, images):
        Image.fromarray(image).save(folder / "images" / f"{name}.png")
    Image.fromarray(images[12]).save(folder / "image.png")
    drawing = np.zeros((8, 8), np.uint8)
    drawing[2:6, 2:6] = 255
    Image.fromarray(drawing).save(folder / "drawing.png")


@contextlib.contextmanager
def work_tree(commit: str) -> Iterator[Path]:
    """Check a commit out into a temporary folder."""
    with tempfile.TemporaryDirectory() as temporary:
        tree = Path(temporary) / commit
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), commit], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
