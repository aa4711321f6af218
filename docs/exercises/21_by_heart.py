"""Exercise 21: does it know them by heart?

A model was trained on one part of the images of a folder; the rest was held out. It has drawn samples. Some of them may
be copies of training images: all but equal to one. How many? Estimate their share from distances alone, by asking for
each sample which image of the whole folder is nearest to it. Your estimate is

- 1 if every sample is a copy of a training image, and 1/2 if every second one is;
- 0 on average if the samples are new, and as different from the training images as the held-out ones are;

and all of that whether a tenth of the folder is held out or nine tenths.

Hint: to which part does the nearest image of a new image belong, if it is pure chance?
"""

import sys

import numpy as np
from checking import expect, report


def share_of_copies(samples: np.ndarray, training: np.ndarray, held_out: np.ndarray) -> float:
    """samples: (n, D), training: (m, D), held_out: (k, D), an image in each row. Returns the estimated share."""
    raise NotImplementedError


def circle(turns: np.ndarray) -> np.ndarray:
    """Images of two pixels, on a circle: (n, 2)."""
    return np.stack([np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)], axis=1)


def check() -> None:
    """Raise an error that says what is missing, unless `share_of_copies` is right."""
    rng = np.random.default_rng(0)
    folder = circle(np.arange(100) / 100)
    new = circle((np.arange(1000) + 0.5) / 1000)  # each image of the folder is nearest to ten of these
    for held_out in (10, 50, 90):
        chosen = np.isin(np.arange(100), rng.permutation(100)[:held_out])
        training = folder[~chosen]
        copies = training[np.arange(1000) % len(training)] + 0.001 * rng.normal(size=(1000, 2))
        for name, samples, expected in (
            ("copies alone", copies, 1.0),
            ("new images alone", new, 0.0),
            ("as many new images as copies", np.concatenate([new, copies]), 0.5),
        ):
            found = share_of_copies(samples, training, folder[chosen])
            expect(np.ndim(found) == 0, f"the result has shape {np.shape(found)}, expected one number")
            # the samples are so even that nothing is left to chance: only rounding
            expect(
                abs(found - expected) < 1e-9,
                f"{name}, {held_out} of 100 images held out: expected {expected}, got {found:.3f}",
            )


if __name__ == "__main__":
    sys.exit(report(check))
