"""From a checkpoint to images: read settings.py, model.py, plan.py, pipeline.py, loading.py in this order."""

from minidiff.pipeline.loading import load, load_diffusers
from minidiff.pipeline.pipeline import Pipeline

__all__ = ["Pipeline", "load", "load_diffusers"]
