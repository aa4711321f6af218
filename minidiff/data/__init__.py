"""Images to learn from.

Reading order: config (the choices), dataset (what a source of images is, and in which order they come), flip (which
are mirrored), scenes (a world of images that is drawn), mirror and download (fetching what is published),
standard (MNIST and its kin), arrays (one's own images as an array), image (one image from a file),
folder_captions, folder (one's own images, and what is said of them), open (from the choices to the images).
Then what steers an image: edges (where they are), maps (of images by number), control (a map that somebody gives),
companions (what is shown beside an image while an adapter learns).
"""
