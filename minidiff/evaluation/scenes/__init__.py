"""Evaluation of models that draw scenes from prompts, edge maps and reference images.

`attributes` trains the classifiers; `prompts`, `edges`, `hue` and `steering` measure one thing each; `judge` applies
all of them to a model; `report` makes the JSON and the table.
"""
