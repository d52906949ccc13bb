"""Which subset gets which transforms: the file to edit.

A pipeline is a function of `image_size` that returns an Albumentations Compose. It gets photos, uint8
(H, W, 3) RGB, with their masks, uint8 (H, W), and must deliver both as uint8 of image_size x image_size: end
it with `resize`, and leave normalisation out, which the model does. It is tried out before training starts.

Built in: `train` (the tutorial's), `train_fast` (the same at less cost), `valid` (resizing alone), `light`
and `strong` (on either side of `train`).
"""

from segbalance.transforms.pipelines import (
    TRANSFORMS,
    fast_train_transform,
    light_transform,
    resize,
    strong_transform,
    train_transform,
    valid_transform,
)
from segbalance.transforms.quiet_albumentations import A

__all__ = [
    "SUBSET_TRANSFORMS",
    "TRANSFORMS",
    "fast_train_transform",
    "gentle",
    "light_transform",
    "strong_transform",
    "train_transform",
    "valid_transform",
]

# {subset: name of a built-in pipeline, or of a function in this file}; `default` is for all other subsets.
# With one's own: {"0": "gentle", "4": "strong", "default": "train"}
SUBSET_TRANSFORMS = {"default": "train"}


def gentle(image_size: int) -> A.Compose:
    """An example of one's own: the tutorial's flip, a small turn, and a little light."""
    return A.Compose(
        [
            A.HorizontalFlip(p=0.5),
            A.Affine(rotate=(-10, 10), p=0.5),
            A.RandomBrightnessContrast(0.1, 0.1, p=0.3),
            resize(image_size),
        ]
    )
