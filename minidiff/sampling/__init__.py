"""The parts of the command that draws images, `python -m minidiff.sample`."""
