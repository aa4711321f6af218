"""Evaluation: do samples show what the label or the prompt asks for, and how close are they to real images?

`split`, `heldout`, `samples`: the held-out images, the loss on them, and the samples that are evaluated.
`convnet`, `cache`: the network of the classifiers, how it is trained, and the files that keep it.
`metrics/`: statistics of samples.  `labels/`, `scenes/`: the evaluation of models with class labels, and with prompts.
`report`: what the reports of both have in common.
"""
