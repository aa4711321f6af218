"""Diffusion: how noise is put on a picture, what a network learns from it, and how a picture is born from noise.

Read schedule.py, process.py, guidance.py, samplers.py in this order.
"""

from minidiff.diffusion.guidance import denoiser
from minidiff.diffusion.process import Process
from minidiff.diffusion.samplers import SAMPLERS, Step, ddim, ddpm, start_noise
from minidiff.diffusion.schedule import Schedule, make_schedule

__all__ = ["SAMPLERS", "Process", "Schedule", "Step", "ddim", "ddpm", "denoiser", "make_schedule", "start_noise"]
