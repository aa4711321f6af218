"""Rasterising display lists: from rows of numbers to images, edge maps and segmentation maps.

    raster(shapes, count, size) -> (rgb, edge, label)

shapes (N, K, 17) float32: one row for each shape; count (N,) int64: how many rows of each image are drawn, each over
the rows before it; rgb (N, size, size, 3) float32 in the units of the rows' colours; edge
(N, size, size) float32 in [0, 1]; label (N, size, size) uint8.  The 17 numbers of a row are explained in
reference.py.  Both versions do the same float32 additions, multiplications, divisions and square roots in the same
order, and IEEE 754 rounds each of them in one way: they agree to the bit.
"""
