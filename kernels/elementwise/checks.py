"""Checks of the arguments of an addition and of a concatenation."""

Shape = tuple[int, ...]


def check_same(name: str, a_shape: Shape, b_shape: Shape) -> None:
    """Raise ValueError in one line unless the shapes are equal."""
    if tuple(a_shape) != tuple(b_shape):
        raise ValueError(f"{name}: shapes must be equal, got {tuple(a_shape)} and {tuple(b_shape)}")
