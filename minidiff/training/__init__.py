"""Training: how a network of random weights learns to denoise images.

Read in this order: optimizer.py (what one step does to the weights); resume.py (whether a run may go on); nonfinite.py
(where a NaN comes from); trainer.py (what is trained, and its loss); budget.py, signals.py, run_dir.py, preview.py and
console.py (what surrounds the steps); loop.py (all of it together); cli.py (the command line).
"""
