"""Ask diffusers and PyTorch for the numbers of golden.npz: `python -m tests.interop.make_golden`, from the root.

Made with diffusers 0.42.1 and PyTorch 2.13 on a CPU.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DModel

from minidiff import backend
from minidiff.interop import save_as_diffusers
from tests.interop.foreign import GOLDEN, OURS, THEIRS, inputs, our_network, size_of, their_weights
from tests.interop.random_cases import DRAWS


def answer(network: UNet2DModel, height: int, width: int, channels: int) -> np.ndarray:
    """Its output, channels last."""
    x, t = inputs(height, width, channels)
    with torch.no_grad():
        y = network(torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(t)).sample
    return y.permute(0, 2, 3, 1).contiguous().numpy()


def about(config: dict, network: UNet2DModel) -> np.ndarray:
    shapes = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    return np.array(json.dumps({"config": config, "shapes": shapes}))


def main() -> None:
    """Write the file."""
    found = {}
    for name, options in THEIRS.items():
        network = UNet2DModel(**options).eval()
        shapes = {key: list(tensor.shape) for key, tensor in network.state_dict().items()}
        network.load_state_dict({key: torch.from_numpy(array) for key, array in their_weights(shapes).items()})
        found[f"theirs/{name}/about"] = about(json.loads(network.to_json_string()), network)
        found[f"theirs/{name}/output"] = answer(network, *size_of(options), options.get("in_channels", 3))
    for name, config in OURS.items():
        with backend.using("numpy"), tempfile.TemporaryDirectory() as folder:
            save_as_diffusers(our_network(config), folder)
            network = UNet2DModel.from_pretrained(folder).eval()
            found[f"ours/{name}/about"] = about(json.loads((Path(folder) / "config.json").read_text()), network)
        found[f"ours/{name}/output"] = answer(network, config.height, config.width, config.channels)
    for seed, shapes in DRAWS.items():
        generator = torch.Generator().manual_seed(seed)
        drawn = [torch.randn(shape, generator=generator).numpy().ravel() for shape in shapes]
        found[f"randn/{seed}"] = np.concatenate(drawn)
    np.savez_compressed(GOLDEN, **found)
    print(f"{GOLDEN}: {GOLDEN.stat().st_size} bytes")


if __name__ == "__main__":
    main()
