"""Pictures to learn from.

Reading order: config (the choices), dataset (what a source of pictures is, and in which order they come), flip (which
are mirrored), scenes (a world of pictures that is drawn), mirror and download (fetching what is published),
standard (MNIST and its kin), arrays (one's own pictures as an array), picture (one picture from a file),
folder_captions, folder (one's own pictures, and what is said of them), open (from the choices to the pictures).
Then what steers a picture: edges (where they are), maps (of pictures by number), control (a map that somebody gives),
companions (what is shown beside a picture while an adapter learns).
"""
