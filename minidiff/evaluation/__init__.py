"""Evaluation: do samples show what the label or the prompt asks for, and how close are they to real images?

`split`, `heldout`, `samples`: the held-out images, the loss on them, and the samples that are evaluated.
`reduce`: the size at which classifiers look at images.
`convnet`, `cache`: the convolutional network of the classifiers, its training loop, and the files that keep them.
`metrics/`: statistics of samples.  `labels/`, `scenes/`: evaluation of models with class labels and with prompts.
`autoencoder/`: evaluation of autoencoders.  `report`: what all reports have in common.
"""
