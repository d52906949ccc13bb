"""Albumentations pipelines, and which subset gets which.

What comes in is an image size and a name, or a function of one's own; what goes out is a Compose that turns
any uint8 photo (H, W, 3) and mask (H, W) into uint8 (S, S, 3) and (S, S), the same for the same seed.

`pipelines` holds the built-in ones by name, `fast` a Compose that does the tutorial's steps at less cost. A
person's own stand in one file: `own_file` runs it, `choice` tells what it, or the command line, or neither
chooses, and `template` is such a file as it is at the beginning, byte by byte the transforms.py of a clone.
Import `A` from `quiet_albumentations`, which keeps Albumentations from the network and from PyTorch.
"""
