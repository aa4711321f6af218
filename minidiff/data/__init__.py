"""Pictures to learn from.

Reading order: config (the choices), dataset (what a source of pictures is, and in which order they come),
scenes (a world of pictures that is drawn), standard (MNIST and its kin, arrays), download (fetching those),
folder_captions, folder (one's own pictures, and what is said of them), open (from the choices to the pictures).
"""
