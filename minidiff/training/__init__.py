"""Training: how a network that knows nothing becomes one that draws.

Read in this order: config.py (what can be set), settings.py and arguments.py (how it is set), optimizer.py and
ema.py (what one step does to the weights), checkpoint.py (how they outlive the process), trainer.py (one step),
nonfinite.py (when a step goes wrong), budget.py, stop.py, folder.py and preview.py (what surrounds the steps),
loop.py (all of it together).
"""
