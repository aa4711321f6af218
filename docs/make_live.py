"""Make the pages that compute in the browser: `python docs/make_live.py FOLDER` writes them into FOLDER/live.

The pages themselves are docs/live/, which are copied as they are.  Beside them stand the weights that they draw with:
those of minidiff/weights/, under today's names, without what a page does not need.  conf.py makes them with the book;
any web server can serve the folder, such as `python -m http.server`.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from minidiff import checkpoint as checkpoints
from minidiff.checkpoint import Checkpoint
from minidiff.checkpoint.settings import to_dict
from minidiff.nn import UNetConfig
from minidiff.pipeline.loading import WEIGHTS

PAGES = Path(__file__).parent / "live"
ICON = Path(__file__).parents[1] / "minidiff" / "studio" / "page" / "favicon.svg"


def make(folder: Path, weights: Path = WEIGHTS) -> None:
    """Write FOLDER/live: the pages, the weights, and weights/models.json, which lists the models.

    weights: of the model that comes first; other models, and adapters, are those in the same folder.
    """
    live = folder / "live"
    shutil.copytree(PAGES, live, dirs_exist_ok=True)
    shutil.copyfile(ICON, live / "icon.svg")
    (live / "weights").mkdir(exist_ok=True)
    paths = sorted(weights.parent.glob("*.safetensors"), key=lambda path: (path != weights, path.name))
    found = [checkpoints.load(path) for path in paths]
    models = []
    for model in filter(reads_prompts, found):
        adapters = [one for one in found if one.adapter == "edges" and one.base == model.identity]
        for one in (model, *adapters[:1]):
            (live / "weights" / one.path.name).write_bytes(for_the_page(one))
        edges = adapters[0].path.name if adapters else None
        models.append({"name": model.path.stem, "file": model.path.name, "edges": edges})
    (live / "weights" / "models.json").write_text(json.dumps(models) + "\n", encoding="utf-8")


def reads_prompts(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint is of a whole model that draws what a prompt says, as the page does."""
    return checkpoint.adapter == "none" and isinstance(checkpoint.trained, UNetConfig) and bool(checkpoint.words)


def for_the_page(checkpoint: Checkpoint) -> bytes:
    """Return a checkpoint as a file for docs/live/model.js.

    It is a safetensors file of float16 weights, "ema/<parameter>" and, of a latent model,
    "autoencoder/decoder.<parameter>"; its metadata "live" is JSON of the settings that a page needs.
    """
    tensors = {
        f"{group}/{name}": array.astype(np.float16)
        for group in ("ema", "autoencoder")
        for name, array in checkpoint.tensors.get(group, {}).items()
        if (group, name.split(".")[0]) != ("autoencoder", "encoder")
    }
    settings = {
        "identity": checkpoint.identity,
        "adapter": checkpoint.adapter,
        "base": checkpoint.base,
        "network": to_dict(checkpoint.trained),
        "diffusion": to_dict(checkpoint.config.diffusion),
        "words": checkpoint.words,
        "autoencoder": checkpoint.autoencoder and to_dict(checkpoint.autoencoder),
        "latents": checkpoint.latents and to_dict(checkpoint.latents),
    }
    return save(tensors, {"live": json.dumps(settings)})


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python docs/make_live.py FOLDER")
    make(Path(sys.argv[1]))
