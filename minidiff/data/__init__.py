"""Datasets, and the images that condition a network.

`config` has the settings, `dataset` says what a dataset is, and `open` makes one: scenes, a published dataset
(`standard`, `download`, `mirror`), or a user's images (`arrays`; `folder`, `folder_captions`).  `maps`, `control` and
`conditioning` make conditioning images.  `training_data` makes the batches of training; `flip` mirrors their images.
"""
