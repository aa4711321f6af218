"""Checkpoints: the settings of a training, and the files that keep them together with its weights.

`config` has the settings, `settings` reads and writes them, and `build` makes the network from them.  `format` defines
the content of a checkpoint file, which `write` writes and `read` reads; `folder` finds the checkpoints of a run.
"""

from minidiff.checkpoint.folder import CHECKPOINTS, find, newest, path_of, paths_in, prune, step_of
from minidiff.checkpoint.format import GROUPS, KEY, Checkpoint, check_names, content_digest
from minidiff.checkpoint.read import load, make_network, make_space, restore
from minidiff.checkpoint.write import save, save_for_sampling

__all__ = [
    "CHECKPOINTS",
    "GROUPS",
    "KEY",
    "Checkpoint",
    "check_names",
    "content_digest",
    "find",
    "load",
    "make_network",
    "make_space",
    "newest",
    "path_of",
    "paths_in",
    "prune",
    "restore",
    "save",
    "save_for_sampling",
    "step_of",
]
