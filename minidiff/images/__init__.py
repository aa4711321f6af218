"""Images as arrays and as files: read files.py, read.py, edges.py, chart.py."""
