"""Images to learn from.

Then what conditions an image: maps (of a dataset's images), control (a map that a user gives), conditioning (what an
adapter is shown), training_data (shuffled and augmented batches).
"""
