"""What surrounds the drawing of images by the command: read outputs.py, viewer.py, like.py."""
