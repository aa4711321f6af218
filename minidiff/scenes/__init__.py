"""Scenes: the embedded image world, drawn by code, so that training needs neither files nor network."""

from minidiff.scenes.scenes import Scenes

__all__ = ["Scenes"]
