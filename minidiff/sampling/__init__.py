"""The command that draws images, in parts: read request.py, inputs.py, like.py, outputs.py, viewer.py, draw.py."""
