"""Draws validation photos of every subset with true (green) and predicted (magenta) outlines on one sheet.

Of several classes, the photos stand above each other, tinted by their true and by their predicted classes.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd

from segbalance.data_processing.classes import Classes
from segbalance.data_processing.manifest import Manifest, natural_order
from segbalance.data_processing.mask_encoding import MaskEncoding
from segbalance.data_processing.tasks import CLASSES, FOREGROUND, Task
from segbalance.errors import InputError
from segbalance.evaluation.of_a_run import check_classes
from segbalance.files.images import read_image
from segbalance.files.pixel_limit import MAX_PIXELS, pixel_limit_problem
from segbalance.files.writing import check_output, write_atomically
from segbalance.reports.outlines import outlined_photo
from segbalance.runtime.command_line import command, parse_options
from segbalance.runtime.verbs import named, usage
from segbalance.train.folder import check_weights, trusted_config
from segbalance.train.inputs import read_data

TRUE, PREDICTED = (60, 230, 60), (255, 0, 200)  # RGB
LABEL_HEIGHT = 22
FONT = (cv2.FONT_HERSHEY_SIMPLEX, 0.45)
OPACITY = 0.5  # of the classes' colours


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

    def __post_init__(self) -> None:
        for name in ("columns", "tile"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name} must be greater than 0, got {getattr(self, name)}")
        if problem := pixel_limit_problem(self.max_pixels):
            raise InputError(problem)


def chosen_rows(table: pd.DataFrame, columns: int) -> pd.DataFrame:
    """`columns` rows of a subset, evenly spread over it."""
    places = np.unique(np.linspace(0, len(table) - 1, columns).round().astype(int))
    return table.iloc[places]


def outlined(image: np.ndarray, true: np.ndarray, predicted: np.ndarray, tile: int) -> np.ndarray:
    """The photo in a square of `tile` pixels, with the outlines of both masks: uint8 (tile, tile, 3)."""
    canvas = np.full((tile, tile, 3), 255, np.uint8)
    picture = outlined_photo(image, [(true, TRUE), (predicted, PREDICTED)], tile)
    canvas[: picture.shape[0], : picture.shape[1]] = picture
    return canvas


def tinted(image: np.ndarray, ids: np.ndarray, classes: Classes, tile: int) -> np.ndarray:
    """The photo in a square of `tile` pixels in the colours of its classes: uint8 (tile, tile, 3)."""
    canvas = np.full((tile, tile, 3), 255, np.uint8)
    photo = outlined_photo(image, [], tile)
    small = cv2.resize(ids, photo.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    shown = (small > 0)[..., None]
    colours = np.where(shown, (1 - OPACITY) * photo + OPACITY * classes.colour_masks(small), photo)
    canvas[: photo.shape[0], : photo.shape[1]] = colours.round().astype(np.uint8)
    return canvas


def legend(classes: Classes, width: int) -> np.ndarray:
    """Strips that name the classes beside their colours: uint8 (H, width, 3)."""
    strips: list[np.ndarray] = []
    strip, left = label("", width), 4
    for name, colour in zip(classes.names[1:], classes.rgb[1:], strict=False):
        (text_width, _), _ = cv2.getTextSize(name, *FONT[:2], 1)
        if left > 4 and left + 18 + text_width > width:
            strips, strip, left = [*strips, strip], label("", width), 4
        cv2.rectangle(strip, (left, 5), (left + 12, LABEL_HEIGHT - 6), colour.tolist(), -1)
        cv2.putText(strip, name, (left + 18, LABEL_HEIGHT - 7), *FONT, (40, 40, 40), 1, cv2.LINE_AA)
        left += 18 + text_width + 16
    return np.concatenate([*strips, strip])


def label(text: str, width: int) -> np.ndarray:
    """A white strip with dark text: uint8 (LABEL_HEIGHT, width, 3)."""
    strip = np.full((LABEL_HEIGHT, width, 3), 255, np.uint8)
    cv2.putText(strip, text, (4, LABEL_HEIGHT - 7), *FONT, (40, 40, 40), 1, cv2.LINE_AA)
    return strip


class Sheet(NamedTuple):
    """How the photos of a task are drawn.

    Args:
        tiles: that stand above each other for a photo.
        note: behind the name of a subset.
        legend: function of the Classes, None for one foreground, and of a width that returns a strip.
        draw: function of photo, true and found ids, Classes and side of a tile that returns
            uint8 (tiles * tile, tile, 3).
    """

    tiles: int
    note: str
    legend: Callable[[Any, int], np.ndarray]
    draw: Callable[..., np.ndarray]


SHEETS: dict[Task, Sheet] = {
    FOREGROUND: Sheet(
        1,
        "",
        lambda classes, width: label("green: mask    magenta: prediction", width),
        lambda image, true, found, classes, tile: outlined(image, true, found, tile),
    ),
    CLASSES: Sheet(
        2,
        ": masks above, predictions below",
        lambda classes, width: legend(classes, width),
        lambda image, true, found, classes, tile: np.concatenate(
            [tinted(image, ids, classes, tile) for ids in (true, found)]
        ),
    ),
}


def draw_sheet(
    predict: Callable[[np.ndarray], np.ndarray],
    manifest: Manifest,
    columns: int,
    tile: int,
    *,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """Labelled rows of photos for each validation subset, one or of several classes two: uint8 (H, W, 3) RGB.

    Args:
        predict: function of a photo that returns its mask.
        max_pixels: of a file, by its header.
    """
    assert isinstance(manifest.encoding, MaskEncoding), "a sheet shows masks"
    width, sheet = columns * tile, SHEETS[manifest.kind]
    rows = [sheet.legend(manifest.classes, width)]
    for name in sorted(manifest.valid["type"].unique(), key=natural_order):
        table = manifest.valid[manifest.valid["type"] == name]
        row = np.full((sheet.tiles * tile, width, 3), 255, np.uint8)
        chosen = chosen_rows(table, columns)
        for column, (photo, mask) in enumerate(zip(chosen["images"], chosen["masks"], strict=True)):
            image = read_image(manifest.data_root / photo, max_pixels=max_pixels)
            true = manifest.encoding.read(manifest.data_root / mask, max_pixels=max_pixels)
            found = predict(image)
            drawn = sheet.draw(image, true, found, manifest.classes, tile)
            row[:, column * tile : (column + 1) * tile] = drawn
        rows += [label(f"subset {name}{sheet.note}", width), row]
    return np.concatenate(rows)


@command
def main(argv: list[str]) -> None:
    """Writes the contact sheet of a run's best weights."""
    options = parse_options(SheetOptions, argv, prog=usage("contact-sheet"), description=__doc__)
    config = trusted_config(options)
    if not config.kind.with_masks:
        raise InputError(
            f"{named('contact-sheet')} is for runs that predict masks, but --work_dir {options.work_dir} "
            f"classifies whole images. {named('predict')} writes the label of each photo into a table."
        )
    output = Path(options.output or Path(options.work_dir, "contact_sheet.png"))
    check_output("--output", output)
    manifest = read_data(config)
    check_classes(config, manifest)
    check_weights(options.work_dir)
    from segbalance.prediction.predictor import (  # TensorFlow, after the input has been checked
        load_network,
        predict_mask,
    )

    network = load_network(options.work_dir)
    predict = functools.partial(predict_mask, network, working_size=config.loading.working_size or 0)
    try:
        sheet = draw_sheet(predict, manifest, options.columns, options.tile, max_pixels=options.max_pixels)
    except OSError as error:
        raise InputError(f"{error} (found while drawing)") from None
    encoded = cv2.imencode(".png", sheet[..., ::-1])[1].tobytes()
    write_atomically(output, encoded)
    print(f"wrote {output}")
