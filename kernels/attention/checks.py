"""Checks of the arguments of attention."""

Shape = tuple[int, ...]


def check_attention(
    name: str,
    q_shape: Shape,
    k_shape: Shape,
    v_shape: Shape,
    heads: int,
    gy_shape: Shape | None = None,
    p_shape: Shape | None = None,
) -> None:
    """Raise ValueError in one line unless the shapes fit each other."""
    if len(q_shape) != 3:
        raise ValueError(f"{name}: q must be (N, L, D), got shape {tuple(q_shape)}")
    N, L, D = q_shape
    if len(k_shape) != 3 or (k_shape[0], k_shape[2]) != (N, D):
        raise ValueError(f"{name}: k must be ({N}, M, {D}), got shape {tuple(k_shape)}")
    if tuple(v_shape) != tuple(k_shape):
        raise ValueError(f"{name}: v must be {tuple(k_shape)} like k, got shape {tuple(v_shape)}")
    if D == 0 or k_shape[1] == 0:
        raise ValueError(f"{name}: a query needs channels and at least one key, k has shape {tuple(k_shape)}")
    if heads < 1 or D % heads:
        raise ValueError(f"{name}: {heads} heads do not divide {D} channels")
    if gy_shape is not None and tuple(gy_shape) != tuple(q_shape):
        raise ValueError(f"{name}: gy must be {tuple(q_shape)}, got shape {tuple(gy_shape)}")
    if p_shape is not None and tuple(p_shape) != (N, heads, L, k_shape[1]):
        raise ValueError(f"{name}: p must be {(N, heads, L, k_shape[1])}, got shape {tuple(p_shape)}")
