"""Pictures to learn from.

Reading order: config (the choices), dataset (what a source of pictures is, and in which order they come),
scenes (a world of pictures that is drawn), standard (MNIST and its kin, arrays), download (fetching those),
picture (one picture from a file), folder_captions, folder (one's own pictures, and what is said of them), open (from
the choices to the pictures).
Then what steers a picture: edges (where they are), maps (of pictures by number), control (a map that somebody gives),
companions (what is shown beside a picture while an adapter learns).
"""
