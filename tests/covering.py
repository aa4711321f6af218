"""A small selection of a product of parameters that still has every pair of values."""

from itertools import combinations, product

import pytest


def every_pair(rows):
    """Return those of `rows`, tuples of values, that together have every pair of two columns' values in `rows`."""
    pairs = {row: {*combinations(enumerate(row), 2)} for row in rows}
    missing, chosen = set().union(*pairs.values()), []
    while missing:
        chosen.append(max(rows, key=lambda row: len(pairs[row] & missing)))
        missing -= pairs[chosen[-1]]
    return chosen


def pairs_first(*columns):
    """Return the product of the columns as parameters of a test: what is not among `every_pair` is for the release."""
    rows = list(product(*columns))
    fast = every_pair(rows)
    return [pytest.param(*row, marks=[] if row in fast else pytest.mark.release) for row in rows]
