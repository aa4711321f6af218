"""A page that explains a sampling run: read recording.py, formulas.py, page.py in this order."""

from minidiff.explain.page import Caption, most_frames, write_page
from minidiff.explain.recording import Recording

__all__ = ["Caption", "Recording", "most_frames", "write_page"]
