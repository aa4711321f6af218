"""Statistics of counts, losses and features.  None of these files knows the networks that the numbers come from.

`intervals`: how precise a measured number is.
`frechet`, `kid`: distances between two sets of images, from their features.
`precision_recall`: fidelity and diversity, one number each.
`nearest`: whether training images were memorised.
"""
