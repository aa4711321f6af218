"""One page that shows a sampling run from inside: recorded (recording.py), put into formulas (formulas.py), written as
a page (page.py)."""

from minidiff.explain.page import Asked, most_frames, write_page
from minidiff.explain.recording import Recording

__all__ = ["Asked", "Recording", "most_frames", "write_page"]
