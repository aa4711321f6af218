"""Scenes: images that code renders, with labels, captions and maps, so that training needs no files and no network.

`factors` chooses what an image shows and `captions` describes it.  `stamps` and `palette` are the shapes and colours
that `subjects`, `sky` and `places` draw with; `styles` repaints the image.  `scenes` puts them together as a dataset.
`dice` gives all random numbers, and `alike` makes pairs of scenes with the same look.
"""

from minidiff.scenes.scenes import Scenes

__all__ = ["Scenes"]
