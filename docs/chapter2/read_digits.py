"""Draws a thousand digits with mini.npz, and has the package's classifier read them.

python docs/chapter2/read_digits.py data/mnist
"""

import sys
from pathlib import Path

import mini
import numpy as np

from minidiff.data.standard import mnist
from minidiff.evaluation.cache import classifier_for
from minidiff.evaluation.labels.classifier import classify, count_correct, train_config_for
from minidiff.evaluation.report import percent, share


def read(network, classifier, each=100, guidance_scale=2.0):
    """Draw so many digits of each label, fifty at a time. Return how many the classifier reads as their label."""
    label = np.repeat(np.arange(10), each)
    parts = np.split(label, range(50, len(label), 50))
    digits = [mini.sample(network, part, guidance_scale=guidance_scale, seed=seed) for seed, part in enumerate(parts)]
    found, _ = classify(classifier, np.concatenate(digits)[..., None])
    return int((found == label).sum())


def main(folder, weights="mini.npz"):
    training, test = mnist(Path(folder), "train"), mnist(Path(folder), "test")
    classifier = classifier_for(training, train_config_for(training)).model
    network = mini.UNet()
    mini.load(network, weights)
    print("test images, read correctly:               ", percent(share(count_correct(classifier, test), len(test))))
    for scale in (1.0, 2.0):
        right = read(network, classifier, guidance_scale=scale)
        print(f"digits read as their label, guidance scale {scale:g}:", percent(share(right, 1000)))


if __name__ == "__main__":
    main(*sys.argv[1:])
