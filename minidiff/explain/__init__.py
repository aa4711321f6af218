"""A page that explains a sampling run."""

from minidiff.explain.page import Caption, most_frames, page_file, step_content, write_page
from minidiff.explain.recording import Recording

__all__ = ["Caption", "Recording", "most_frames", "page_file", "step_content", "write_page"]
