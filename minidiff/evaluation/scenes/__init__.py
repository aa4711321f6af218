"""Evaluation of models that draw scenes from prompts, edge maps and reference images.

`attributes` trains the classifiers.  `prompts` measures whether samples follow their prompts.  `steering` measures
whether they follow edge maps and reference images, by means of `edges` and `hue`.  `judge` applies all this to a model,
and `report` makes the JSON and the table.
"""
