"""Training: how a network that knows nothing becomes one that draws.

Read in this order: config.py (what can be set) and settings.py (how settings are kept); optimizer.py and ema.py (what
one step does to the weights); build.py, checkpoint.py and same.py (how they outlive the process); nonfinite.py and
trainer.py (one step, and when it goes wrong); pace.py, stop.py, folder.py and preview.py (what surrounds the steps);
loop.py (all of it together); arguments.py (the command line).
"""
