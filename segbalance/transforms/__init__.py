"""Albumentations pipelines, and which subset gets which.

What comes in is an image size and a name, or a function of one's own; what goes out is a Compose that turns
any uint8 photo (H, W, 3) and mask (H, W) into uint8 (S, S, 3) and (S, S), the same for the same seed.

`pipelines` holds the built-in ones by name, `fast` a Compose that does the tutorial's steps at less cost.
Import `A` from `quiet_albumentations`, which keeps Albumentations from the network and from PyTorch.
"""
