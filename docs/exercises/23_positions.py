"""Exercise 23: where a patch is.

Write `positions`, which gives each place of a grid a vector. The waves of the row r fill its first half, and those of
the column c, in the same way, the second half:

    [sin(r f_0), ..., sin(r f_k), cos(r f_0), ..., cos(r f_k)],    f_i = 10000^(-i / k),    k + 1 = size / 4

The check then looks at what such vectors are good for: the scalar product of two of them depends on how far apart the
places are, and not on where they are.

Hint: compute the waves of all rows, (height, size / 2), and those of all columns, (width, size / 2). Then let NumPy
repeat each of them along the other axis.
"""

import sys

import numpy as np
from checking import expect, report


def positions(height: int, width: int, size: int) -> np.ndarray:
    """Return the vectors, (height, width, size). size: 8, 12, 16, ..."""
    raise NotImplementedError


def check() -> None:
    """Raise an error that says what is missing, unless `positions` is right."""
    height, width, size = 6, 8, 32
    p = positions(height, width, size)
    expect(np.shape(p) == (height, width, size), f"the result has shape {np.shape(p)}, expected (6, 8, 32)")
    rows, columns = p[..., :16], p[..., 16:]
    expect(np.allclose(rows, rows[:, :1]), "the first half must be the same for all columns of a row")
    expect(np.allclose(columns, columns[:1]), "the second half must be the same for all rows of a column")
    for name, waves in (("row", rows[3, 0]), ("column", columns[0, 3])):
        found, expected = waves[[0, 7, 8]], np.array([np.sin(3), np.sin(3e-4), np.cos(3)])
        expect(np.allclose(found, expected), f"numbers 0, 7 and 8 of {name} 3 should be {expected}, got {found}")

    product = np.einsum("rcd,ijd->rcij", p, p)  # of each place with each
    on = product[np.arange(5)[:, None], np.arange(6), np.arange(1, 6)[:, None], np.arange(2, 8)]
    expect(np.allclose(on, on[0, 0]), "one row down and two columns on should give the same scalar product everywhere")
    others = product[3, 4].copy()
    others[3, 4] = -np.inf
    nearest = {(int(r), int(c)) for r, c in np.argwhere(others > np.sort(others, axis=None)[-5])}
    expect(nearest == {(2, 4), (4, 4), (3, 3), (3, 5)}, f"most like (3, 4) should be what is beside it, got {nearest}")


if __name__ == "__main__":
    sys.exit(report(check))
