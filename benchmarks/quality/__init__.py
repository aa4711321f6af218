"""Is faster training as good a training?

    python -m benchmarks.quality same-minutes --data mnist --data-dir DIR --json FILE
    python -m benchmarks.quality winograd --data mnist --data-dir DIR --json FILE

Idea: a step that is faster is worth something only if what it learns is as good.  So two trainings that differ in one
thing alone, who computes the steps or how they convolve, are judged by the same command on the same held-out images,
over several seeds: a difference that is smaller than that between seeds is none.
Reading order: runs (a training and its judging, each in a process of its own), torch_train (our training, its steps
made by PyTorch), verdict (what the numbers say), the command.
Leaves out how fast a step is: that is `python -m benchmarks.peers`.
"""
