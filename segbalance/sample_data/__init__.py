"""Rendered photos of hands with masks of their nails, for demo, tests and benchmarks.

What comes in is a seed and a size; what goes out is a data folder of five subsets with five looks, in the
sizes of the nail tutorial, or six classes, or a classification of trinkets. The same seed gives the same
files.

`looks` says how the subsets differ. `canvas` is what is drawn on, `backdrops` and `hand_drawing` draw,
`rendering` photographs and writes, `sample_classes` is the set for classification.
"""
