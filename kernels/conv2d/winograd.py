"""3x3 convolution with a quarter of the multiplications, in NumPy: Winograd's F(4x4, 3x3).

A filter w of 3 weights moved along 6 numbers d makes 4 outputs y with 12 multiplications. Six are enough. Take any 4
numbers g: the sum of g_i y_i is the sum of s_l d_l, where the s_l are the six coefficients of the product of two
polynomials, s(p) = g(p) w(p). This product has degree 5, so it is known once its values at 6 points are (0, 1, -1, 2,
-2 and infinity): evaluate both factors at the points (A g and G w), multiply point by point, and interpolate (B). The
factor of g in the result is y = A' [ (G w) * (B' d) ]; docs/chapter16.md derives the matrices. In two dimensions that
takes 36 multiplications for 16 outputs instead of 144:

    y = A' [ (G w G') * (B' d B) ] A          d: 6x6 pixels, w: 3x3 filter, y: 4x4 outputs, *: number by number

G, B' and A' are the filter, input and output transforms, and what lies between them is the Winograd domain. Over many
channels and tiles, the product at each of the 36 points is one of matrices, (tiles, C_in) by (C_in, C_out), whereas a
transform is a few additions a channel. In the letters of the paper: U = G w G', V = B' d B, M = U V.

The gradient of the filter is the transposed formula: dL/dw = G' [ (B' d B) * (A gy A') ] G, summed over tiles. The
gradient of the input is a convolution with the filter rotated by 180 degrees and its channels swapped.

The price is precision. The powers of the points are large and cancel, so the error is up to ten times that of a direct
sum: at most 3e-5 of the largest output.

Reading order: after `reference.py`, which it equals, and before the fast version: `winograd_transforms.py`,
`winograd_forward.py`, `winograd_backward_filter.py`. Leaves out speed, and every shape but 3x3 with stride 1.
Source: Lavin & Gray 2015, arXiv:1509.09308, section 4.1 and eq. 15; Winograd 1980, Arithmetic Complexity of
Computations.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

B_t = np.array(  # B', G and A' of the paper, for the points 0, 1, -1, 2, -2 and infinity
    [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
     [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]]
)  # fmt: skip
G = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
A_t = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])


def conv2d(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Convolve x (N, H, W, C_in) with w (3, 3, C_in, C_out), padded by zeros; returns (N, H, W, C_out)."""
    V, U = input_tiles(x), np.einsum("ik,klcd,jl->ijcd", G, w, G)  # (6, 6, N, tiles, tiles, C_in), (6, 6, C_in, C_out)
    M = np.einsum("ijnabc,ijcd->ijnabd", V, U, optimize=True)  # 36 products of matrices
    y = np.einsum("ki,ijnabd,lj->nakbld", A_t, M, A_t, optimize=True)  # (N, tiles, 4, tiles, 4, C_out)
    N, H, W, _ = x.shape
    return y.reshape(N, 4 * y.shape[1], 4 * y.shape[3], -1)[:, :H, :W].astype(x.dtype)


def conv2d_grad_w(gy: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The gradient (3, 3, C_in, C_out) of the filter, for gy (N, H, W, C_out) and x (N, H, W, C_in)."""
    N, H, W, C_out = gy.shape
    gy = np.pad(gy, ((0, 0), (0, -H % 4), (0, -W % 4), (0, 0)))  # to whole tiles
    tiles = gy.reshape(N, gy.shape[1] // 4, 4, gy.shape[2] // 4, 4, C_out)
    gM = np.einsum("ki,nakbld,lj->ijnabd", A_t, tiles, A_t, optimize=True)
    gU = np.einsum("ijnabc,ijnabd->ijcd", input_tiles(x), gM, optimize=True)
    return np.einsum("ik,ijcd,jl->klcd", G, gU, G, optimize=True).astype(x.dtype)


def input_tiles(x: np.ndarray) -> np.ndarray:
    """V = B' d B of every tile of x (N, H, W, C): (6, 6, N, ceil(H / 4), ceil(W / 4), C)."""
    _, H, W, _ = x.shape
    padded = np.pad(x, ((0, 0), (1, 1 + -H % 4), (1, 1 + -W % 4), (0, 0)))
    tiles = sliding_window_view(padded, (6, 6), axis=(1, 2))[:, ::4, ::4]  # (N, tiles, tiles, C, 6, 6)
    return np.einsum("ik,nabckl,jl->ijnabc", B_t, tiles, B_t, optimize=True)
