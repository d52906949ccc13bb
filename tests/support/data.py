"""Small data sets drawn on the fly, and options of the smallest run."""

import shutil

import cv2
import numpy as np

TINY = (
    "--image_size 32 --batch_size 4 --epochs 2 --steps_per_epoch 3 --backbone resnet18 "
    "--encoder_weights none --decoder_filters 16 8 8 4 4 --report false"
).split()


def draw_pair(seed, height=50, width=60):
    """A photo uint8 (H, W, 3) whose red channel is above 127 just where its mask (H, W) is 255."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 120, (height, width, 3), np.uint8)
    mask = np.zeros((height, width), np.uint8)
    centre = (int(rng.integers(15, width - 15)), int(rng.integers(15, height - 15)))
    cv2.ellipse(mask, centre, (int(rng.integers(6, 14)), int(rng.integers(6, 14))), 0, 0, 360, 255, -1)
    image[..., 0] = np.where(mask > 0, 200, 50)
    return image, mask


def write_image(path, pixels):
    """Writes uint8 (H, W) grey or (H, W, 3) RGB; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels if pixels.ndim == 2 else pixels[..., ::-1])


def copied_run(source, folder):
    """Copies what a run's scores and report are made of into a new folder; returns it."""
    folder.mkdir()
    for name in ("config.yaml", "best.weights.h5", "history.csv", "metrics.json", "ledger.csv"):
        shutil.copy(source / name, folder / name)
    return folder


def write_data(root, sizes, split="train", first_seed=0, **shape):
    """Writes `sizes` ({subset: images}) in the layout train/images/<subset>/; returns the root."""
    for subset, count in sizes.items():
        for number in range(count):
            image, mask = draw_pair([first_seed, sum(subset.encode()), number], **shape)
            write_image(root / split / "images" / subset / f"{number}.png", image)
            write_image(root / split / "masks" / subset / f"{number}.png", mask)
    return root
