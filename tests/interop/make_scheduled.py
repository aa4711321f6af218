"""Let diffusers draw the images of scheduled.npz: `python -m tests.interop.make_scheduled`, from the root.

Made with diffusers 0.42.1 and PyTorch 2.13 on a CPU.
"""

import json

import numpy as np

from tests.interop.random_schedulers import KEPT, SCHEDULED, draw, theirs


def main() -> None:
    """Write the file."""
    drawn = {str(number): draw(number) for number in KEPT}
    np.savez_compressed(SCHEDULED, drawn=json.dumps(drawn), **{name: theirs(how) for name, how in drawn.items()})
    print(f"{SCHEDULED}: {len(drawn)} draws, {SCHEDULED.stat().st_size} bytes")


if __name__ == "__main__":
    main()
