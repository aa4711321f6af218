"""Checks of the arguments of the rasteriser."""

from typing import Any

COLUMNS = 17  # of a row of a display list


def check(shapes: Any, count: Any, size: int) -> None:
    """Raise ValueError unless the arguments fit together."""
    if shapes.ndim != 3 or shapes.shape[2] != COLUMNS:
        raise ValueError(f"raster: shapes must be (N, K, {COLUMNS}), got {shapes.shape}")
    if count.shape != shapes.shape[:1]:
        raise ValueError(f"raster: count must be ({len(shapes)},), got {count.shape}")
    if len(count) and not 0 <= count.min() <= count.max() <= shapes.shape[1]:
        raise ValueError(f"raster: count must lie in 0 to {shapes.shape[1]}, got {count.min()} to {count.max()}")
    if size < 1:
        raise ValueError(f"raster: size must be at least 1, got {size}")
