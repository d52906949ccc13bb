"""Images with a label each, drawn on the fly: their mean colour tells the class, their corner the image."""

import numpy as np

from tests.support.data import write_image

CLASS_COLOURS = {"cat": (200, 40, 40), "dog": (40, 200, 40), "owl": (40, 40, 200), "yak": (190, 190, 40)}
SIZES = {"cat": 12, "dog": 5, "owl": 2}
VALID = {"cat": 2, "dog": 2, "owl": 2}


def draw_labelled(label, number, height=40, width=48):
    """A noisy photo uint8 (H, W, 3) in the colour of its class."""
    rng = np.random.default_rng([sum(label.encode()), number])
    image = rng.integers(-30, 31, (height, width, 3)) + CLASS_COLOURS[label]
    image[:8, :8] = number % 256
    return np.clip(image, 0, 255).astype(np.uint8)


def write_labelled(root, sizes, split="train", first=0):
    """Writes `sizes` ({class: images}) as <split>/<class>/<number>.png, or <class>/...; returns the root."""
    for label, count in sizes.items():
        for number in range(first, first + count):
            write_image(root / split / label / f"{number}.png", draw_labelled(label, number))
    return root
