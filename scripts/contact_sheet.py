"""Draws validation photos of every subset with true (green) and predicted (magenta) outlines on one sheet."""

import functools
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np

from command import command, parse_options
from errors import InputError
from image_files import read_image
from manifest import check_output, natural_order, read_manifest, write_atomically
from outlines import outlined_photo
from pixel_limit import MAX_PIXELS, pixel_limit_problem
from run_folder import check_weights, need_masks, trusted_config

TRUE, PREDICTED = (60, 230, 60), (255, 0, 200)  # RGB
LABEL_HEIGHT = 22


@dataclass(frozen=True)
class SheetOptions:
    """Options of the contact sheet.

    Args:
        work_dir: Folder of the run.
        output: PNG file to write; <work_dir>/contact_sheet.png by default.
        columns: Photos of each subset.
        tile: Side of a tile in pixels.
        allow_outside: Read files that rows name out of the data root, by `..` or a symbolic link.
        max_pixels: Most pixels of an image or mask, by its header; larger files are not decoded.
    """

    work_dir: str
    output: str | None = None
    columns: int = 6
    tile: int = 220
    allow_outside: bool = False
    max_pixels: int = MAX_PIXELS

    def __post_init__(self):
        for name in ("columns", "tile"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name} must be greater than 0, got {getattr(self, name)}")
        if pixel_limit_problem(self.max_pixels):
            raise InputError(pixel_limit_problem(self.max_pixels))


def chosen_rows(table, columns):
    """`columns` rows of a subset, evenly spread over it."""
    places = np.unique(np.linspace(0, len(table) - 1, columns).round().astype(int))
    return table.iloc[places]


def outlined(image, true, predicted, tile):
    """The photo in a square of `tile` pixels, with the outlines of both masks: uint8 (tile, tile, 3)."""
    canvas = np.full((tile, tile, 3), 255, np.uint8)
    picture = outlined_photo(image, [(true, TRUE), (predicted, PREDICTED)], tile)
    canvas[: picture.shape[0], : picture.shape[1]] = picture
    return canvas


def label(text, width):
    """A white strip with dark text: uint8 (LABEL_HEIGHT, width, 3)."""
    strip = np.full((LABEL_HEIGHT, width, 3), 255, np.uint8)
    cv2.putText(
        strip, text, (4, LABEL_HEIGHT - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (40, 40, 40), 1, cv2.LINE_AA
    )
    return strip


def draw_sheet(predict, manifest, columns, tile, max_pixels=MAX_PIXELS):
    """One labelled row of photos for each validation subset: uint8 (H, W, 3) RGB.

    Args:
        predict: function of a photo that returns its mask.
        max_pixels: of a file, by its header.
    """
    width = columns * tile
    rows = [label("green: mask    magenta: prediction", width)]
    for name in sorted(manifest.valid["type"].unique(), key=natural_order):
        table = manifest.valid[manifest.valid["type"] == name]
        row = np.full((tile, width, 3), 255, np.uint8)
        for column, pair in enumerate(chosen_rows(table, columns).itertuples()):
            image = read_image(manifest.data_root / pair.images, max_pixels)
            true = manifest.encoding.read(manifest.data_root / pair.masks, max_pixels)
            drawn = outlined(image, true, predict(image), tile)
            row[:, column * tile : (column + 1) * tile] = drawn
        rows += [label(f"subset {name}", width), row]
    return np.concatenate(rows)


@command
def main(argv):
    """Writes the contact sheet of a run's best weights."""
    options = parse_options(SheetOptions, argv, prog="contact_sheet.py", description=__doc__)
    config = trusted_config(options)
    need_masks(config, "contact_sheet.py", "scripts/predict.py writes the label of each photo into a table.")
    output = Path(options.output or Path(options.work_dir, "contact_sheet.png"))
    check_output("--output", output)
    manifest = read_manifest(config.csv_dir, config.data_root, config.allow_outside, config.max_pixels)
    check_weights(options.work_dir)
    from prediction import load_network, predict_mask  # TensorFlow, after the input has been checked

    network = load_network(options.work_dir)
    predict = functools.partial(predict_mask, network, working_size=config.working_size or 0)
    try:
        sheet = draw_sheet(predict, manifest, options.columns, options.tile, options.max_pixels)
    except OSError as error:
        raise InputError(f"{error} (found while drawing)") from None
    encoded = cv2.imencode(".png", sheet[..., ::-1])[1].tobytes()
    write_atomically(output, encoded)
    print(f"wrote {output}")


if __name__ == "__main__":
    sys.exit(main())
