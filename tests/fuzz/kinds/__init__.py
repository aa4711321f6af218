"""All kinds of cases; importing this fills the table in case.py."""

from tests.fuzz.kinds import data, devices, diffusers, known, models, options, pictures, planted, runs  # noqa: F401
