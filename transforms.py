"""Albumentations pipelines: the door to segbalance/transforms/."""

from segbalance.transforms.pipelines import (
    SUBSET_TRANSFORMS,
    TRANSFORMS,
    fast_train_transform,
    light_transform,
    strong_transform,
    train_transform,
    valid_transform,
)

__all__ = [
    "SUBSET_TRANSFORMS",
    "TRANSFORMS",
    "fast_train_transform",
    "light_transform",
    "strong_transform",
    "train_transform",
    "valid_transform",
]
