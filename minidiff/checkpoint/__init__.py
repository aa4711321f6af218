"""What a training leaves behind, and what it is rebuilt from."""

from minidiff.checkpoint.folder import CHECKPOINTS, find, newest, path_of, paths_in, prune, step_of
from minidiff.checkpoint.format import GROUPS, KEY, Checkpoint, check_names, content_digest
from minidiff.checkpoint.read import load, make_network, restore
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
    "newest",
    "path_of",
    "paths_in",
    "prune",
    "restore",
    "save",
    "save_for_sampling",
    "step_of",
]
