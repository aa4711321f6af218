"""All kinds of cases; importing this fills the table in case.py."""

from tests.fuzz.kinds import data, devices, diffusers, images, known, models, options, planted, runs  # noqa: F401
