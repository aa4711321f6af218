"""Diffusion: how noise is added to an image, what a network learns from it, and how noise becomes an image."""

from minidiff.diffusion.guidance import denoiser
from minidiff.diffusion.process import Process
from minidiff.diffusion.run import Noise, Run, Step
from minidiff.diffusion.samplers import ddim, ddpm, euler_ancestral
from minidiff.diffusion.schedule import CLEAN, Level, Schedule, make_schedule
from minidiff.diffusion.solvers import SAMPLERS, dpm_solver, dpm_solver_sde, euler, heun, unipc
from minidiff.diffusion.timesteps import levels

__all__ = [
    "CLEAN",
    "SAMPLERS",
    "Level",
    "Noise",
    "Process",
    "Run",
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
