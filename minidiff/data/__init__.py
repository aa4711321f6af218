"""Images to learn from.

Reading order: config (the choices), dataset (what a source of images is, and the order of its images), flip (which
images are mirrored), mirror and download (fetching published files), standard (MNIST and its kin), arrays (a user's
images as an array), folder_captions and folder (a user's images and their captions), open (from the choices to a
dataset).
Then what conditions an image: maps (of a dataset's images), control (a map that a user gives), conditioning (what an
adapter is shown), training_data (shuffled and augmented batches).
"""
