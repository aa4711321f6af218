"""Fixtures that several test files share."""

import pytest

from minidiff import backend

BACKENDS = ("numpy", "numba")


@pytest.fixture(params=BACKENDS)
def each_backend(request):
    """Run a test once on every backend; the value is its table."""
    with backend.using(request.param) as chosen:
        yield chosen
