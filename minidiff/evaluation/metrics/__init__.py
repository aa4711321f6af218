"""Distances between sets of images, and how sure a number is."""
