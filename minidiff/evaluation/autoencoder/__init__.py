"""Evaluation of autoencoders: how much of an image do latents keep, and are they what a diffusion model can learn?

`judge` measures, and `report` makes the JSON, the table and the contact sheet.
"""
