"""The edges of an image: Canny's detector, for colour images as small as 32 × 32.

Idea: an edge is a place where the colours change fastest, along the direction in which they change.  Canny's four
steps: smooth the image; take its gradient; keep the pixels where the gradient has a maximum along its own direction;
and follow such edges from steep pixels on to less steep ones (hysteresis).
Leaves out learnt detectors.

Two things differ from the paper, so that the result resembles the exact outlines of rendered scenes.  The gradient is
that of all colours together (Di Zenzo), since red beside green of the same brightness is an edge too.  And the maximum
is located between pixels, and the line is drawn through it with antialiasing, like the outlines of scenes.

Sources: Canny 1986, "A computational approach to edge detection", doi:10.1109/TPAMI.1986.4767851; Di Zenzo 1986, "A
note on the gradient of a multi-image", doi:10.1016/0734-189X(86)90223-9.
"""

import numpy as np

SIGMA = 0.6  # pixels; outlines in 32 × 32 images are 3 pixels apart, and more smoothing would join them
LOW, HIGH = (
    0.04,
    0.08,
)  # gradients in (white - black) per pixel: an edge starts above HIGH and continues while above LOW
# Both are fixed: thresholds relative to each image's gradients found the outlines of scenes no better, day or night.
_FLAT = 1e-6  # curvature below this is rounding error
_AT_ONCE = 64  # images at a time, so that their arrays stay in the processor's cache


def edges(images: np.ndarray) -> np.ndarray:
    """Return the edges of images, white on black: (N, H, W, C) uint8 -> (N, H, W, 1) uint8.

    A pixel at a distance of d pixels from an edge has the value 255 max(0, 1 - |d|), as in the outlines of scenes.
    Raises ValueError for another shape or dtype.
    """
    if images.ndim != 4 or images.dtype != np.uint8:
        raise ValueError(f"edges: expected (N, H, W, C) uint8, got {images.shape} {images.dtype}")
    found = np.empty((*images.shape[:3], 1), np.uint8)
    for first in range(0, len(images), _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        x = images[part].transpose(3, 0, 1, 2).astype(np.float32) / np.float32(255)  # (C, N, H, W)
        found[part, ..., 0] = _detect(_smooth(x))
    return found


def _detect(x: np.ndarray) -> np.ndarray:
    slope, nx, ny = _gradient(x)
    line = _crests(slope, nx, ny)
    kept = _follow((line > 0) & (slope > LOW), (line > 0) & (slope > HIGH))
    return np.where(kept, line * np.float32(255) + np.float32(0.5), 0).astype(np.uint8)


def _smooth(x: np.ndarray) -> np.ndarray:
    """Blur the last two axes with a Gaussian of standard deviation SIGMA."""
    side = np.exp(np.float32(-0.5 / SIGMA**2))
    x = _padded(x)
    x = (x[..., 1:-1] + side * (x[..., :-2] + x[..., 2:])) / (1 + 2 * side)
    return (x[..., 1:-1, :] + side * (x[..., :-2, :] + x[..., 2:, :])) / (1 + 2 * side)


def _gradient(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the size of the colour gradient and the unit vector (nx, ny) of its direction: each (N, H, W).

    The Sobel differences of each colour make the matrix J = sum over colours of (gx, gy) (gx, gy)ᵀ.  Its larger
    eigenvalue is the squared gradient, and the eigenvector its direction.  x: (C, N, H, W).
    """
    x = _padded(x)
    across, down = x[..., 2:] - x[..., :-2], x[..., 2:, :] - x[..., :-2, :]
    gx = (across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]) / 8
    gy = (down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]) / 8
    xx, yy, xy = (gx * gx).sum(0), (gy * gy).sum(0), (gx * gy).sum(0)
    root = np.sqrt((xx - yy) ** 2 + 4 * xy * xy)
    slope = np.sqrt((xx + yy + root) / 2)
    cos2 = (xx - yy) / np.maximum(root, np.float32(1e-12))  # cosine of twice the direction's angle
    return slope, np.sqrt(np.clip((1 + cos2) / 2, 0, 1)), np.copysign(np.sqrt(np.clip((1 - cos2) / 2, 0, 1)), xy)


def _crests(slope: np.ndarray, nx: np.ndarray, ny: np.ndarray) -> np.ndarray:
    """Return max(0, 1 - |d|), where d is the distance to the maximum of the slope along (nx, ny): (N, H, W).

    A parabola through the slopes at the pixel and one step to each side has its maximum at d.  A step leads to the next
    column or row, whichever is nearer, where the slope is interpolated between two pixels (Canny's section VI).
    """
    p = _padded(slope)
    north, south, west, east = p[:, :-2, 1:-1], p[:, 2:, 1:-1], p[:, 1:-1, :-2], p[:, 1:-1, 2:]
    north_east, south_west, south_east, north_west = p[:, :-2, 2:], p[:, 2:, :-2], p[:, 2:, 2:], p[:, :-2, :-2]
    steep, down = np.abs(ny) > nx, ny >= 0  # nx >= 0, and rows count downwards
    long, short = np.where(steep, np.abs(ny), nx), np.where(steep, nx, np.abs(ny))
    aside = short / long

    def step(straight: np.ndarray, diagonal: np.ndarray) -> np.ndarray:
        return straight + aside * (diagonal - straight)

    # Towards (nx, |ny|) if ny points down, else towards (nx, -|ny|) for flat steps and (-nx, |ny|) for steep ones.
    ahead = step(np.where(steep, south, east), np.where(down, south_east, np.where(steep, south_west, north_east)))
    behind = step(np.where(steep, north, west), np.where(down, north_west, np.where(steep, north_east, south_west)))
    bend = 2 * slope - ahead - behind
    concave = bend > _FLAT
    d = np.abs(ahead - behind) / (2 * np.where(concave, bend, 1) * long)  # a step is 1 / long pixels
    return np.where(concave, np.maximum(1 - d, 0), 0)


def _follow(weak: np.ndarray, strong: np.ndarray) -> np.ndarray:
    """Return the weak pixels that are connected to strong ones: (N, H, W) bool."""
    kept = strong
    while True:
        p = np.pad(kept, ((0, 0), (1, 1), (1, 1)))
        p = p[:, :-2] | p[:, 1:-1] | p[:, 2:]
        grown = (p[..., :-2] | p[..., 1:-1] | p[..., 2:]) & weak
        if np.array_equal(grown, kept):
            return kept
        kept = grown


def _padded(x: np.ndarray) -> np.ndarray:
    """Repeat the outermost pixels once around the last two axes, since the border of an image is no edge."""
    return np.pad(x, [(0, 0)] * (x.ndim - 2) + [(1, 1), (1, 1)], mode="edge")
