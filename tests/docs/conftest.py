"""The modules that build the book."""

import importlib
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def measured():
    return _module("measured")


@pytest.fixture(scope="session")
def make_pages():
    return _module("make_pages")


@pytest.fixture(scope="session")
def make_live():
    return _module("make_live")


@pytest.fixture(scope="session")
def make_notebooks():
    return _module("make_notebooks")


@pytest.fixture(scope="session")
def make_pdf():
    return _module("make_pdf")


def _module(name: str):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[2] / "docs")
        return importlib.import_module(name)
