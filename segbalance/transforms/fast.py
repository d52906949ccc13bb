"""A Compose that applies the steps of the tutorial's pipeline at less cost.

Each function below stands for one library transform. It draws the same parameters from the same random state
and delivers the same pixels; only `gauss_noise` delivers other noise, of the same distribution. What is left
out are the checks, the targets that are not needed here (boxes, key points, volumes) and repeated work.

Images are uint8 (H, W, 3), RGB; masks are uint8 (H, W), or None throughout where an image has none.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from albucore import add_constant, sz_lut

from segbalance.transforms.quiet_albumentations import A

# By way of A: importing them from the library would come first, and bring PyTorch with it.
create_gaussian_kernel_1d = A.augmentations.blur.functional.create_gaussian_kernel_1d
center = A.augmentations.geometric.functional.center
extend_value = A.augmentations.geometric.functional.extend_value

SIZE_PLACES, SIGN_PLACES = 2**21, 2**11  # in the tables of noise, from which a block may be read
BLOCK = 2**19  # values that are read from one place: an image of 418 x 418 pixels
LEVELS = np.arange(256, dtype=np.uint8)

Pair = tuple[np.ndarray, np.ndarray | None]  # image and mask


class FastCompose(A.Compose):
    """Compose that is cheaper for a uint8 RGB image, alone or with its mask, and else the same."""

    def __call__(self, *args: Any, force_apply: bool = False, **data: Any) -> dict[str, Any]:
        """image=uint8 (H, W, 3), mask=uint8 (H, W), which may be missing -> dict of the same."""
        if args or self.save_applied_params or not (is_image(data) or is_image_with_mask(data)):
            return super().__call__(*args, force_apply=force_apply, **data)
        if not force_apply and self.py_random.random() >= self.p:
            return data
        self.preprocess(data)
        image, mask = data["image"], data.get("mask")
        for step in self.transforms:
            image, mask = apply_step(step, image, mask)
        return by_name(image, mask)


def by_name(image: np.ndarray, mask: np.ndarray | None) -> dict[str, np.ndarray]:
    """The arguments that a library transform takes, and the results that it gives."""
    return {"image": image} if mask is None else {"image": image, "mask": mask}


def is_image(data: dict[str, Any]) -> bool:
    """True if the dict holds a uint8 (H, W, 3) image and nothing else."""
    image = data.get("image")
    return (
        len(data) == 1
        and isinstance(image, np.ndarray)
        and image.dtype == np.uint8
        and image.shape[2:] == (3,)
    )


def is_image_with_mask(data: dict[str, Any]) -> bool:
    """True if the dict holds a uint8 (H, W, 3) image, a uint8 (H, W) mask and nothing else."""
    if data.keys() != {"image", "mask"}:
        return False
    image, mask = data["image"], data["mask"]
    return (
        isinstance(image, np.ndarray)
        and isinstance(mask, np.ndarray)
        and image.dtype == mask.dtype == np.uint8
        and image.shape[2:] == (3,)
        and mask.ndim == 2
    )


def apply_step(
    step: A.BasicTransform | A.BaseCompose, image: np.ndarray, mask: np.ndarray | None, force: bool = False
) -> Pair:
    """The image and mask that a transform or OneOf makes of the two; `force` as `force_apply`."""
    if type(step) is A.OneOf:
        if force or step.py_random.random() < step.p:
            chosen = step.random_generator.choice(len(step.transforms), p=step.transforms_ps)
            return apply_step(step.transforms[chosen], image, mask, force=True)
        return image, mask
    if type(step) in FAST_STEPS:
        return FAST_STEPS[type(step)](step, image, mask) if step.should_apply(force) else (image, mask)
    changed = step(**by_name(image, mask), force_apply=force)
    return changed["image"], changed.get("mask")


def flip_left_right(step: A.HorizontalFlip, image: np.ndarray, mask: np.ndarray | None) -> Pair:
    """As A.HorizontalFlip does."""
    return cv2.flip(image, 1), None if mask is None else cv2.flip(mask, 1)


def flip_upside_down(step: A.VerticalFlip, image: np.ndarray, mask: np.ndarray | None) -> Pair:
    """As A.VerticalFlip does."""
    return cv2.flip(image, 0), None if mask is None else cv2.flip(mask, 0)


def affine(step: A.Affine, image: np.ndarray, mask: np.ndarray | None) -> Pair:
    """As A.Affine does."""
    if step.fit_output:
        return library(step, image, mask)
    shape = image.shape[:2]
    translate, shear = step._get_translate_params(shape), step._get_shear_params()
    scale = step._get_scale(step.scale, step.keep_ratio, step.balanced_scale, step.py_random)
    matrix = affine_matrix(scale, step.py_random.uniform(*step.rotate), shear, translate, center(shape))
    warp = functools.partial(cv2.warpAffine, M=matrix, dsize=shape[::-1], borderMode=step.border_mode)
    image = warp(image, flags=step.interpolation, borderValue=extend_value(step.fill, 3))
    if mask is not None:
        mask = warp(mask, flags=step.mask_interpolation, borderValue=extend_value(step.fill_mask, 1))
    return image, mask


def affine_matrix(
    scale: dict[str, float],
    rotate: float,
    shear: dict[str, float],
    translate: dict[str, float],
    centre: tuple[float, float],
) -> np.ndarray:
    """The map of pixels that are scaled, rotated, sheared and moved about a centre, in this order.

    Args:
        scale: {"x", "y"}, factors.
        rotate: degrees, counter-clockwise as displayed.
        shear: {"x", "y"}, degrees.
        translate: {"x", "y"}, pixels.
        centre: (x, y), pixels.

    Returns:
        float64 (2, 3), from input (x, y, 1) to output (x, y).
    """
    cos, sin = math.cos(math.radians(rotate)), math.sin(math.radians(rotate))
    shear_x, shear_y = math.tan(math.radians(shear["x"])), math.tan(math.radians(shear["y"]))
    xx, xy = (cos - shear_x * sin) * scale["x"], (sin + shear_x * cos) * scale["y"]
    yx, yy = (shear_y * cos - sin) * scale["x"], (shear_y * sin + cos) * scale["y"]
    x, y = centre
    return np.array(
        [[xx, xy, x + translate["x"] - xx * x - xy * y], [yx, yy, y + translate["y"] - yx * x - yy * y]]
    )


@functools.cache
def noise_tables() -> tuple[np.ndarray, np.ndarray]:
    """Absolute values of a standard normal, float32, and signs, uint8 0 or 255; the same in every process."""
    rng = np.random.default_rng(0)
    sizes = np.abs(rng.standard_normal(SIZE_PLACES + BLOCK, np.float32))
    return sizes, 255 * rng.integers(0, 2, SIGN_PLACES + BLOCK, np.uint8)


def gauss_noise(step: A.GaussNoise, image: np.ndarray, mask: np.ndarray | None) -> Pair:
    """As A.GaussNoise does, with noise that is read from tables at random places.

    Like the library, it adds sigma times a standard normal value, rounded towards zero, to each pixel and
    channel and clips to 0..255. Inside a block of BLOCK values all noise is independent. One pair of blocks
    in SIZE_PLACES has noise that is equal but for its signs, one in SIZE_PLACES * SIGN_PLACES equal noise;
    one pair of 300 x 300 pixels in four shares absolute values, moved by the distance of their places.
    """
    if step.mean_range != (0, 0) or not step.per_channel or step.noise_scale_factor != 1:
        return library(step, image, mask)
    sigma, _ = (255 * step.py_random.uniform(*limits) for limits in (step.std_range, step.mean_range))
    # One draw of 32 bits takes as much from the generator as the library's seed of its noise does.
    blocks = -(-image.size // BLOCK)
    draws: list[int] = step.random_generator.integers(SIZE_PLACES * SIGN_PLACES, size=blocks).tolist()
    noisy = np.empty(image.shape, np.uint8)
    source, target = image.reshape(-1), noisy.reshape(-1)
    for start, draw in zip(range(0, image.size, BLOCK), draws, strict=True):
        block = slice(start, start + BLOCK)
        _add_noise(source[block], sigma, *divmod(draw, SIGN_PLACES), target[block])
    return noisy, mask


def _add_noise(levels: np.ndarray, sigma: float, size_place: int, sign_place: int, noisy: np.ndarray) -> None:
    """Writes uint8 (N,) `levels` with the noise of two places into `noisy`."""
    sizes, signs = noise_tables()
    signs = signs[sign_place : sign_place + levels.size]
    # Half a level less, for OpenCV rounds to the nearest level.
    change = cv2.convertScaleAbs(sizes[size_place : size_place + levels.size], alpha=sigma, beta=-0.5)
    # 255 - x is x with its bits turned over: what is added to it is subtracted from x, and clipped at 0.
    cv2.bitwise_xor(levels, signs, dst=noisy)
    cv2.add(noisy, change, dst=noisy)
    cv2.bitwise_xor(noisy, signs, dst=noisy)


def gaussian_blur(step: A.GaussianBlur, image: np.ndarray, mask: np.ndarray | None) -> Pair:
    """As A.GaussianBlur does."""
    sigma, size = step.py_random.uniform(*step.sigma_limit), step.py_random.randint(*step.blur_limit)
    kernel = create_gaussian_kernel_1d(sigma, size)
    return cv2.sepFilter2D(image, -1, kernel, kernel), mask


def hue_saturation_value(step: A.HueSaturationValue, image: np.ndarray, mask: np.ndarray | None) -> Pair:
    """As A.HueSaturationValue does, with its arithmetic done once for each of the 256 levels."""
    shifts = step.get_params()
    hues = np.mod(LEVELS + shifts["hue_shift"], 180).astype(np.uint8)
    saturations, values = (add_constant(LEVELS, shifts[name]) for name in ("sat_shift", "val_shift"))
    saturations[0] = 0  # what is grey stays grey
    channels = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))
    for channel, table in zip(channels, (hues, saturations, values), strict=True):
        sz_lut(channel, table, inplace=True)
    return cv2.cvtColor(cv2.merge(channels), cv2.COLOR_HSV2RGB), mask


def resize(step: A.Resize, image: np.ndarray, mask: np.ndarray | None) -> Pair:
    """As A.Resize does."""
    size = (step.width, step.height)
    image = cv2.resize(image, size, interpolation=step.interpolation)
    return image, None if mask is None else cv2.resize(mask, size, interpolation=step.mask_interpolation)


def library(step: A.BasicTransform, image: np.ndarray, mask: np.ndarray | None) -> Pair:
    """What the library makes of the two once it is settled that the step is applied."""
    changed = step(**by_name(image, mask), force_apply=True)
    return changed["image"], changed.get("mask")


FAST_STEPS: dict[type, Callable[[Any, np.ndarray, np.ndarray | None], Pair]] = {
    A.HorizontalFlip: flip_left_right,
    A.VerticalFlip: flip_upside_down,
    A.Affine: affine,
    A.GaussNoise: gauss_noise,
    A.GaussianBlur: gaussian_blur,
    A.HueSaturationValue: hue_saturation_value,
    A.Resize: resize,
}
