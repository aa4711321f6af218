"""What a training leaves behind and what it is rebuilt from.

Read config.py, settings.py, build.py, file.py in this order.
"""
