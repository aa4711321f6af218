"""Checks of the arguments of the optimiser."""

from typing import Any


def check_flat(name: str, **arrays: Any) -> None:
    """Raise ValueError in one line unless all arrays are 1-D and equally long."""
    length = None
    for what, a in arrays.items():
        if a.ndim != 1:
            raise ValueError(f"{name}: {what} must be flat, got shape {a.shape}")
        length = len(a) if length is None else length
        if len(a) != length:
            raise ValueError(f"{name}: {what} has {len(a)} numbers, {next(iter(arrays))} has {length}")


def check_adamw_ema(w: Any, g: Any, m: Any, v: Any, ema: Any, n_decay: int, hyper: Any) -> None:
    """Raise ValueError in one line unless `adamw_ema` can take these."""
    check_flat("adamw_ema", w=w, g=g, m=m, v=v, ema=ema)
    if not 0 <= n_decay <= len(w):
        raise ValueError(f"adamw_ema: n_decay must lie in 0..{len(w)}, got {n_decay}")
    if len(hyper) != 9:
        raise ValueError(f"adamw_ema: hyper must hold 9 numbers, got {len(hyper)}")
