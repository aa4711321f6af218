"""What a test needs and a machine may lack: it is skipped there, and says why."""

import os
from typing import NoReturn

import pytest


def lacking(what: str, why: str) -> NoReturn:
    """Skip a test for want of something; fail it where MINIDIFF_REQUIRE names that, as the gate's does."""
    if what in os.environ.get("MINIDIFF_REQUIRE", "").split():
        pytest.fail(f"{why}; MINIDIFF_REQUIRE asks for {what}")
    pytest.skip(why)
