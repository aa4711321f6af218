"""The studio: `python -m minidiff.studio`, a local web page on which noise becomes a picture."""
