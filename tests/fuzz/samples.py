"""The small whole files that are spoilt: everything that a command reads, made anew, the same every time.

A network has a few thousand weights, images are 8×8; so a command that reads them whole ends in a tenth of a second.
"""

import contextlib
import gzip
import io
import json
import struct
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save as to_safetensors

from minidiff import backend, sample, train
from minidiff import checkpoint as checkpoints
from minidiff.checkpoint.build import make_model
from minidiff.checkpoint.config import AdditionConfig, Config, DiffusionConfig
from minidiff.interop import scheduler_options
from minidiff.nn import UNetConfig
from minidiff.nn.flat_parameters import FlatParameters
from tests import tiny_model, toy_images
from tests.interop import foreign

TRAIN = (
    *(
        "--backend",
        "numpy",
        "--batch-size",
        "2",
        "--model-channels",
        "8",
        "--channel-mult",
        "1",
        "2",
        "--heads",
        "2",
        "--patch",
        "1",
    ),
    *("--groups", "4", "--num-timesteps", "20", "--warmup", "10", "--hidden-size", "16", "--num-layers", "1"),
)
SAMPLE = ("--backend", "numpy", "--count", "1", "--steps", "1")
CAPTIONS = ("a dog", "two small cats, at night", "an owl", "a dog", "snow", "A Cat!")


class Samples:
    """The paths of all samples below one folder; `make` writes them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.npz, self.plain_npz = folder / "toy.npz", folder / "plain.npz"
        self.run = folder / "run"  # a training with labels, after 2 of its steps
        self.labels = folder / "labels" / "checkpoints" / "step_00000010.safetensors"
        self.words = folder / "words" / "checkpoints" / "step_00000010.safetensors"
        self.plain = folder / "plain" / "checkpoints" / "step_00000010.safetensors"
        self.dit = folder / "dit" / "checkpoints" / "step_00000010.safetensors"
        self.edges, self.reference = folder / "edges.safetensors", folder / "reference.safetensors"  # onto words
        self.images = folder / "images"  # one of each format
        self.captioned = folder / "captioned"
        self.idx, self.cifar = folder / "idx", folder / "cifar"
        self.grid = folder / "grid.png"
        self.diffusers = folder / "diffusers"
        self.kernels = folder / "kernels"  # compiled ones, where a run asked for them
        self.first = str(self.run / "checkpoints" / "step_00000001.safetensors")

    @property
    def files(self) -> list[Path]:
        """Every sample that is a file, sorted."""
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    def make(self) -> None:
        """Write all samples."""
        backend.use("numpy")
        self.folder.mkdir(parents=True)
        _write_npz(self)
        _write_models(self)
        _write_images(self.images)
        _write_captioned(self.captioned)
        _write_idx(self.idx)
        _write_cifar(self.cifar)
        _write_diffusers(self.diffusers)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            train.main([*self.training(), "--steps", "2", "--save-every", "1", "--out", str(self.run)])
            words = ["--checkpoint", str(self.words), "--out", str(self.folder / "drawn"), *SAMPLE, "a dog"]
            sample.main(words)
        (self.folder / "drawn" / "grid.png").rename(self.grid)

    def training(self) -> list[str]:
        """Return the options of a training on the toy images."""
        return ["--data", "npz", "--data-dir", str(self.npz), *TRAIN]


def _write_npz(samples: Samples) -> None:
    toy_images.write(samples.npz, 20)
    np.savez(samples.plain_npz, images=toy_images.make(20, channels=1).images[..., 0])


def _write_models(samples: Samples) -> None:
    tiny_model.write(samples.folder / "labels", times=20)
    tiny_model.write(samples.folder / "words", words=tiny_model.WORDS, times=20)
    tiny_model.write(samples.folder / "plain", classes=(), times=20)
    tiny_model.write_transformer(samples.folder / "dit", times=20)
    base = checkpoints.load(samples.words)
    _write_adapter(samples.edges, base.network, "edges", base.identity, samples.words)
    _write_adapter(samples.reference, base.network, "reference", base.identity, samples.words)


def _write_adapter(path: Path, network: UNetConfig, kind: str, base: str, onto: Path) -> None:
    model = make_model(network, kind)  # type: ignore[arg-type]
    model.initialize(1)
    config = Config(addition=AdditionConfig(kind, onto), diffusion=DiffusionConfig(num_timesteps=20))  # type: ignore[arg-type]
    checkpoints.save(path, 5, config, network, (), FlatParameters(model), tiny_model.WORDS, base)


def _write_images(folder: Path) -> None:
    """One small image of each format and kind of pixel that people have."""
    folder.mkdir()
    random = np.random.default_rng(0)
    colour = Image.fromarray(random.integers(0, 255, (10, 12, 3)).astype(np.uint8))
    clear = Image.fromarray(random.integers(0, 255, (10, 12, 4)).astype(np.uint8))
    deep = Image.fromarray(random.integers(0, 65535, (10, 12)).astype(np.uint16))
    frames = [colour, colour.transpose(Image.Transpose.ROTATE_180), colour]
    turned = Image.Exif()
    turned[0x0112] = 6
    colour.save(folder / "colour.png")
    clear.save(folder / "clear.png")
    deep.save(folder / "deep.png")
    colour.convert("L").save(folder / "grey.png")
    colour.convert("1").save(folder / "bit.png")
    clear.convert("LA").save(folder / "grey_clear.png")
    colour.quantize(7).save(folder / "palette.png", transparency=2)
    colour.save(folder / "animated.png", save_all=True, append_images=frames[1:], duration=50)
    colour.save(folder / "colour.jpg", exif=turned, quality=80)
    colour.save(folder / "progressive.jpg", progressive=True)
    colour.convert("CMYK").save(folder / "inks.jpg")
    colour.save(folder / "animated.gif", save_all=True, append_images=frames[1:], duration=50, loop=0)
    clear.save(folder / "clear.webp", lossless=True)
    colour.save(folder / "lossy.webp", quality=50)
    colour.save(folder / "animated.webp", save_all=True, append_images=frames[1:], duration=50)
    colour.save(folder / "plain.bmp")
    colour.save(folder / "plain.tif")
    colour.save(folder / "packed.tif", compression="tiff_lzw")
    colour.save(folder / "jpeg.tif", compression="jpeg")
    deep.save(folder / "deep.tif")
    Image.fromarray(random.random((10, 12)).astype(np.float32)).save(folder / "float.tif")
    colour.save(folder / "pages.tif", save_all=True, append_images=frames[1:])


def _write_captioned(folder: Path) -> None:
    """Twelve images with captions in text files, in metadata.jsonl and in their names."""
    folder.mkdir()
    lines = []
    for k in range(12):
        text, name = CAPTIONS[k % len(CAPTIONS)], f"a-dog_{k:02d}"
        Image.new("RGB", (8, 8), (20 * k, 99, 255 - 20 * k)).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(text)
        lines.append(json.dumps({"file_name": f"{name}.png", "text": text}) + "\n")
    (folder / "metadata.jsonl").write_text("".join(lines))


def idx(array: np.ndarray) -> bytes:
    """Return an array of bytes as an IDX file."""
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def _write_idx(folder: Path) -> None:
    """MNIST's four files, of twelve and of six images, 8×8 as a whole training takes longer on 28×28."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for prefix, count in (("train", 12), ("t10k", 6)):
        images = idx(random.integers(0, 255, (count, 8, 8)).astype(np.uint8))
        labels = idx((np.arange(count) % 10).astype(np.uint8))
        for name, data in ((f"{prefix}-images-idx3-ubyte", images), (f"{prefix}-labels-idx1-ubyte", labels)):
            (folder / f"{name}.gz").write_bytes(gzip.compress(data, mtime=0))


def _write_cifar(folder: Path) -> None:
    """CIFAR-10's files, of two images each."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for name in [*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"]:
        records = random.integers(0, 255, (2, 3073)).astype(np.uint8)
        records[:, 0] %= 10
        (folder / name).write_bytes(records.tobytes())
    (folder / "batches.meta.txt").write_text("airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n")


def _write_diffusers(folder: Path) -> None:
    """A network of the diffusers library, with its scheduler beside it."""
    options, shapes, _ = foreign.golden("theirs", "plain")
    options = {**options, "sample_size": 8}
    foreign.write_folder(folder, options, foreign.their_weights(shapes))
    about = scheduler_options("linear", 1000, "eps")
    (folder / "scheduler_config.json").write_text(json.dumps(about, indent=2))


def tensors_file(tensors: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> bytes:
    """Return tensors as a safetensors file."""
    return to_safetensors(tensors, metadata)
