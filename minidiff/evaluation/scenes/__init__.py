"""Judging models that are asked for scenes by prompts, drawings and reference images."""
