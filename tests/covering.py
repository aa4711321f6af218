"""A small selection of a product of parameters that still has every pair of values."""

from itertools import combinations


def every_pair(rows):
    """Return those of `rows`, tuples of values, that together have every pair of two columns' values in `rows`."""
    pairs = {row: {*combinations(enumerate(row), 2)} for row in rows}
    missing, chosen = set().union(*pairs.values()), []
    while missing:
        chosen.append(max(rows, key=lambda row: len(pairs[row] & missing)))
        missing -= pairs[chosen[-1]]
    return chosen
