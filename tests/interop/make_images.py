"""Let diffusers draw the images of images.npz: `python -m tests.interop.make_images`, from the root.

Made with diffusers 0.42.1 and PyTorch 2.13 on a CPU.
"""

import numpy as np

from tests.interop.drawings import DRAWN, IMAGES, calm_weights, theirs


def main() -> None:
    """Write the file."""
    found = {}
    for name, (network, *how) in DRAWN.items():
        found[name] = theirs(network, *how, calm_weights(network, how[1]))
        print(f"{name}: {found[name].shape}, spread {found[name].std():.0f} of 255")
    np.savez_compressed(IMAGES, **found)
    print(f"{IMAGES}: {IMAGES.stat().st_size} bytes")


if __name__ == "__main__":
    main()
