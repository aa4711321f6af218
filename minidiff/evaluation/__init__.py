"""Judging: is what was asked on the image, are the samples like real images, was anything but noise learnt?

Read in this order: intervals.py (how sure a number is), split.py (which images judge), frechet.py (how far two
heaps of images are apart), heldout.py (the loss on unseen images), classifier.py and cache.py (the judge, and
where it is kept), judge.py (all of it for one checkpoint), report.py (how it is shown and kept).
"""
