"""Section `latent`: diffusion on the latents of images of 128 pixels, and the decoder that makes images of them."""

from dataclasses import replace

from benchmarks.peers.network import measure, measure_memory
from benchmarks.peers.problems import LATENT, Decoding, Sampling
from benchmarks.peers.records import Log
from benchmarks.peers.settings import Settings


def measure_latents(settings: Settings, log: Log) -> None:
    """Measure a training step and its memory, 50 steps of DDIM without labels, and the decoder."""
    measure("step/latent", LATENT, settings.rounds if settings.quick else 3 * settings.rounds, settings, log)
    measure_memory("memory/latent", LATENT, settings, log)
    fewer = (settings.rounds + 1) // 2  # what follows takes seconds
    measure("sample/latent", Sampling(replace(LATENT, classes=0)), fewer, settings, log)
    measure("decode/latent", Decoding(), fewer, settings, log)
