"""Diffusion: how noise is put on an image, what a network learns from it, and how an image is born from noise.

Read schedule.py, spacing.py, process.py, guidance.py, clipping.py, samplers.py, solvers.py in this order.
"""

from minidiff.diffusion.guidance import denoiser
from minidiff.diffusion.process import Process
from minidiff.diffusion.samplers import Noise, Step, ddim, ddpm, euler_ancestral
from minidiff.diffusion.schedule import CLEAN, Level, Schedule, make_schedule
from minidiff.diffusion.solvers import SAMPLERS, dpm_solver, dpm_solver_sde, euler, heun, unipc
from minidiff.diffusion.timesteps import levels

__all__ = [
    "CLEAN",
    "SAMPLERS",
    "Level",
    "Noise",
    "Process",
    "Schedule",
    "Step",
    "ddim",
    "ddpm",
    "denoiser",
    "dpm_solver",
    "dpm_solver_sde",
    "euler",
    "euler_ancestral",
    "heun",
    "levels",
    "make_schedule",
    "unipc",
]
