"""minidiff on a GPU beside PyTorch on the same one, in one call: see `__main__.py`."""
