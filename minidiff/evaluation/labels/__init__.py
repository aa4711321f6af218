"""Evaluation of models with class labels.

`classifier` trains the classifier, `judge` applies it to samples, and `report` makes the JSON and the table.
"""
