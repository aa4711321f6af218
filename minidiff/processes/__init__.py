"""Several processes that work as one: each does a part of the work, and they add up their gradients."""
