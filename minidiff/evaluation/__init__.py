"""Judging: is what was asked on the picture, are the samples like real pictures, was anything but noise learnt?

Read in this order: intervals.py (how sure a number is), split.py (which pictures judge), frechet.py (how far two
heaps of pictures are apart), heldout.py (the loss on unseen pictures), classifier.py and cache.py (the judge, and
where it is kept), judge.py (all of it for one checkpoint), report.py (how it is shown and kept).
"""
