"""Probabilities and truth -> scores: over the data, of each subset and image, with intervals.

What comes in are predictions and masks, or a run folder and a manifest; what goes out are the figures of
evaluation_<split>.json and .csv, the same that training counts.

`scores` is for foreground alone, `class_scores` for several classes and for classification, `evaluators` says
which is for which task, `gates` what they have to reach. `of_a_run` reads what a run has trained on and gives
its best weights their scores.
"""
