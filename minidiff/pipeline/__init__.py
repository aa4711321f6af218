"""From a checkpoint to images."""

from minidiff.pipeline.loading import load, load_diffusers
from minidiff.pipeline.pipeline import Pipeline

__all__ = ["Pipeline", "load", "load_diffusers"]
