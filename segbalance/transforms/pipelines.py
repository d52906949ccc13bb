"""The built-in Albumentations pipelines, and how a pipeline is built from its name.

A pipeline is a function of `image_size` that returns a Compose; it takes any photo and mask and delivers
uint8 (image_size, image_size, 3) and (image_size, image_size).
"""

import copy
import importlib
import os
import random
import sys
from collections.abc import Callable, Collection, Mapping

import cv2
import numpy as np

from segbalance.errors import InputError
from segbalance.transforms.fast import FastCompose
from segbalance.transforms.own_file import OwnFile, how_to_begin, is_own, own_file
from segbalance.transforms.quiet_albumentations import A

IMAGE_SIZE = 384  # pixels, the tutorial's


def resize(image_size: int) -> A.Resize:
    """The last step of every pipeline."""
    # Plain nearest neighbour rounds down and so moves the mask by half an output pixel against the photo.
    return A.Resize(image_size, image_size, mask_interpolation=cv2.INTER_NEAREST_EXACT)


def train_transform(image_size: int = IMAGE_SIZE) -> A.Compose:
    """The nail tutorial's augmentation, step by step, in the words of albumentations 2.

    A flip left to right, scale and rotation, noise, blur, one of three changes of colour or light, the size.
    """
    return A.Compose(
        [
            A.HorizontalFlip(p=0.5),
            # The tutorial's ShiftScaleRotate(shift_limit=0, scale_limit=0.2, rotate_limit=30).
            A.Affine(
                scale=(0.8, 1.2),
                keep_ratio=True,
                rotate=(-30, 30),
                border_mode=cv2.BORDER_CONSTANT,
                fill=0,
                fill_mask=0,
                p=0.5,
            ),
            # The tutorial's variance range (0, 50) of uint8 levels has mean 25; sigma uniform in
            # (0, sqrt(75)) has the same mean variance.
            A.GaussNoise(std_range=(0, 75**0.5 / 255), p=0.4),
            A.GaussianBlur(blur_limit=(3, 7), p=0.4),
            A.OneOf(
                [
                    A.HueSaturationValue(10, 15, 15, p=0.5),
                    A.CLAHE(clip_limit=2),
                    A.RandomBrightnessContrast(0.15, 0.3, p=0.5),
                ],
                p=0.3,
            ),
            resize(image_size),
        ]
    )


def fast_train_transform(image_size: int = IMAGE_SIZE) -> A.Compose:
    """`train` at less cost: equal samples from equal seeds, but for noise of equal statistics."""
    return FastCompose(train_transform(image_size).transforms)


def valid_transform(image_size: int = IMAGE_SIZE) -> A.Compose:
    """Resizing alone."""
    return A.Compose([resize(image_size)])


def light_transform(image_size: int = IMAGE_SIZE) -> A.Compose:
    """A flip left to right and mild light: for large subsets that bring their own variety."""
    return A.Compose(
        [
            A.HorizontalFlip(p=0.5),
            A.RandomBrightnessContrast(0.1, 0.1, p=0.3),
            resize(image_size),
        ]
    )


def strong_transform(image_size: int = IMAGE_SIZE) -> A.Compose:
    """Wide geometry, colour and quality changes: for small subsets whose images return often.

    It turns photos up to a quarter and flips them upside down too. Where up and down matter, as for hands
    that hang down, choose another, or write one's own.
    """
    return A.Compose(
        [
            A.HorizontalFlip(p=0.5),
            A.VerticalFlip(p=0.5),
            A.Affine(
                scale=(0.65, 1.5),
                keep_ratio=True,
                translate_percent=(-0.1, 0.1),
                rotate=(-90, 90),
                shear=(-10, 10),
                border_mode=cv2.BORDER_REFLECT_101,
                p=0.8,
            ),
            A.OneOf(
                [
                    A.HueSaturationValue(20, 30, 25),
                    A.RandomBrightnessContrast(0.3, 0.4),
                    A.RandomGamma((60, 160)),
                    A.CLAHE(clip_limit=4),
                ],
                p=0.7,
            ),
            A.OneOf(
                [
                    A.GaussianBlur(blur_limit=(3, 9)),
                    # Symmetric: any other motion blur moves the image against its mask.
                    A.MotionBlur(9, allow_shifted=False, direction_range=(0, 0)),
                ],
                p=0.3,
            ),
            A.GaussNoise(std_range=(0, 0.06), p=0.4),
            A.ImageCompression(quality_range=(40, 95), p=0.3),
            resize(image_size),
        ]
    )


TRANSFORMS: dict[str, Callable[[int], A.Compose]] = {
    "train": train_transform,
    "train_fast": fast_train_transform,
    "valid": valid_transform,
    "light": light_transform,
    "strong": strong_transform,
}
# How the meaning of built-in pipelines has changed, change by change. A run that began before is told when it
# goes on.
CHANGES: dict[str, tuple[str, ...]] = dict.fromkeys(
    ("train", "train_fast", "light"), ("no longer flips photos upside down",)
)


def subset_transforms(
    choice: Mapping[str, str], subsets: Collection[str], image_size: int, with_masks: bool = True
) -> dict[str, A.Compose]:
    """The pipeline of each subset, tried out once.

    Args:
        choice: {subset or `default`: name}, as `choice.choose_transforms` gives it; a subset that it does not
            name, and has no default, gets `train`.
        subsets: names of the subsets.
        image_size: pixels.
        with_masks: False where the pipelines get images alone.

    Returns:
        {subset: Compose}

    Raises:
        InputError: an unknown subset or pipeline, or one that does not deliver `image_size`.
    """
    unknown = [name for name in choice if name not in subsets and name != "default"]
    if unknown:
        raise InputError(
            f"transforms name unknown subsets {', '.join(unknown)}; known: {', '.join(subsets)}, default"
        )
    names = {subset: choice.get(subset, choice.get("default", "train")) for subset in subsets}
    pipelines = {name: build_transform(name, image_size, with_masks) for name in sorted(set(names.values()))}
    return {subset: pipelines[name] for subset, name in names.items()}


def build_transform(name: str, image_size: int, with_mask: bool = True) -> A.Compose:
    """Builds and tries the pipeline called `name`. Raises InputError as `subset_transforms` does."""
    function = TRANSFORMS.get(name) or _own_function(name)
    try:
        transform = function(image_size)
        # A copy, for a transform may keep what it did last, which would go to every worker process.
        _try_out(name, copy.deepcopy(transform), image_size, with_mask)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"transform {name!r} failed on a trial image: {type(error).__name__}: {error}"
        ) from error
    return transform


def unknown_transform(name: str, file: OwnFile | None = None) -> InputError:
    """The InputError for a name without a colon that is not built in; `file` is the OwnFile, if any."""
    known = [*TRANSFORMS, *(file.functions if file else [])]
    return InputError(f"transform {name!r} is unknown; known: {', '.join(known)}, or package.module:function")


def _own_function(name: str) -> Callable[[int], A.Compose]:
    file = own_file()
    if file and is_own(name):
        return file.function(name)
    module_name, colon, function_name = name.partition(":")
    if not colon:
        raise unknown_transform(name)
    if is_own(name):  # or of an earlier version's module; never imported by its bare name
        raise InputError(
            f"transform {name!r} is a function of a transforms file, which needs its path. Name the "
            "function in SUBSET_TRANSFORMS of that file, and pass the file: --transforms transforms.py; "
            f"{how_to_begin()}."
        )
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # scripts run from anywhere; one's own module lies in the working folder
    try:
        return getattr(importlib.import_module(module_name), function_name)
    except Exception as error:  # whatever one's own module raises when it runs
        raise InputError(
            f"transform {name!r} cannot be imported: {type(error).__name__}: {error}. Expected "
            "package.module:function, the module in the working folder or installed, the function taking "
            "image_size and returning a Compose."
        ) from None


def _try_out(name: str, transform: A.Compose, image_size: int, with_mask: bool) -> None:
    """Runs the pipeline on two made-up photos, taller and wider than the output."""
    for height, width in ((image_size + 40, image_size + 9), (image_size - 7, image_size + 60)):
        image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        reseed(transform, 0)
        mask = (image[..., 0] > 127).view(np.uint8) if with_mask else None
        check_sample(name, *apply_transform(transform, image, mask), image_size)


def delivered_size(transform: A.Compose, with_mask: bool = True) -> int:
    """Side of the squares that a Compose delivers, in pixels, found by a trial.

    Raises:
        InputError: it fails, or does not deliver squares as batches need them.
    """
    image = np.random.default_rng(0).integers(0, 256, (512, 400, 3), np.uint8)
    mask = (image[..., 0] > 127).view(np.uint8) if with_mask else None
    try:
        found = apply_transform(copy.deepcopy(transform), image, mask)
    except Exception as error:
        raise InputError(f"transforms failed on a trial image: {type(error).__name__}: {error}") from error
    height, width = found[0].shape[:2]
    if height != width:
        raise InputError(
            f"transforms deliver {width}x{height} of a photo of 400x512, expected squares of one size. Let "
            "them end with A.Resize."
        )
    check_sample("given", *found, height)
    return height


def check_sample(name: str, image: np.ndarray, mask: np.ndarray | None, image_size: int) -> None:
    """Raises InputError unless a pipeline's output has the shapes and types that batches need.

    Args:
        mask: None where there is none to move with the image.
    """
    if mask is None:
        mask = np.broadcast_to(np.uint8(0), (image_size, image_size))
    wanted = ((image_size, image_size, 3), (image_size, image_size))
    if (image.shape, mask.shape) != wanted:
        raise InputError(
            f"transform {name!r} does not deliver image_size {image_size}: got image {image.shape} and "
            f"mask {mask.shape}, expected {wanted[0]} and {wanted[1]}. Let it end with A.Resize."
        )
    if (image.dtype, mask.dtype) != (np.uint8, np.uint8):
        raise InputError(
            f"transform {name!r} delivers image {image.dtype} and mask {mask.dtype}, expected uint8: the "
            "model does the casting and scaling. Leave A.Normalize and A.ToFloat out."
        )


def reseed(transform: A.Compose, sample_seed: int) -> None:
    """Makes the next call of `transform` a function of `sample_seed` (int) alone.

    Seven times cheaper than Compose.set_random_seed, and as repeatable.
    """
    transform.set_random_state(np.random.default_rng(sample_seed), random.Random(sample_seed))


def apply_transform(
    transform: A.Compose, image: np.ndarray, mask: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """uint8 (H, W, 3) and (H, W) or None through a Compose; the mask comes back as (H, W) or None too."""
    if mask is None:
        return transform(image=image)["image"], None
    changed = transform(image=image, mask=mask)
    return changed["image"], changed["mask"]
