"""Makes a practice data set: synthetic photos of hands, their masks, five subsets of different looks.

With --task classification: photos of four kinds of trinkets, a folder for each kind.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from segbalance.data_processing.tasks import CLASSES, CLASSIFICATION, FOREGROUND, TASKS, Task, task_of
from segbalance.errors import InputError
from segbalance.runtime.command_line import command, parse_options
from segbalance.runtime.verbs import usage
from segbalance.sample_data.rendering import CLASS_TABLE, LOOKS, MASK_FORMATS, make_sample_data
from segbalance.sample_data.rendering import CLASSES as CLASS_NAMES
from segbalance.sample_data.sample_classes import make_class_data

SMALLEST_IMAGE = 64


@dataclass(frozen=True)
class Options:
    """What to render, and where to.

    Args:
        output: Folder to make; it must be new or empty.
        task: `segmentation`, or `classification`.
        seed: The same seed gives the same files; a whole number from 0.
        scale: Size of the data set; 1 gives 1105 training and 200 validation pairs, or for classification 178
            and 100 images.
        image_size: Width and height in pixels.
        classes: 2 for masks of the nails; 6 for background, skin, nail, polish, ring and coin, with a
            classes.csv for data_processing.py --classes.
        mask_format: How masks hold six classes: their `ids`, `colours`, or a `palette` of these; `ids` by
            default.
    """

    output: str
    task: Literal[TASKS] = TASKS[0]
    seed: int = 0
    scale: float = 1.0
    image_size: int = 300
    classes: Literal[2, 6] = 2
    mask_format: Literal[MASK_FORMATS] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.scale < float("inf"):
            raise InputError(
                f"scale must be greater than 0, got {self.scale:g}; 0.1 gives a tenth of the set"
            )
        if self.seed < 0:
            raise InputError(f"seed must be 0 or greater, got {self.seed}")
        if self.image_size < SMALLEST_IMAGE:
            raise InputError(f"image_size must be at least {SMALLEST_IMAGE}, got {self.image_size}; try 300")
        if not self.kind.with_masks and (self.classes != 2 or self.mask_format):
            raise InputError(
                "classes and mask_format are for masks; leave them out with --task classification"
            )
        if self.mask_format and self.classes == 2:
            raise InputError(f"mask_format {self.mask_format} is for masks of six classes; add --classes 6")

    @property
    def kind(self) -> Task:
        """What the set is for."""
        return task_of(self.task, self.classes > 2)


def render_labelled(options: Options) -> None:
    """Renders a set for classification and prints one line for each class."""
    counts = make_class_data(options.output, options.seed, options.scale, options.image_size)
    print(f"{'class':<8}{'train':>6}{'valid':>7}")
    for name, found in counts.items():
        print(f"{name:<8}{found['train']:>6}{found['valid']:>7}")


def render_foreground(options: Options) -> None:
    """Renders masks of the nails and prints one line for each subset."""
    _render_masks(options, None)


def render_classes(options: Options) -> None:
    """Renders masks of six classes and prints one line for each subset."""
    _render_masks(options, options.mask_format or "ids")
    print(f"classes {', '.join(CLASS_NAMES)}: {Path(options.output, CLASS_TABLE)}")


def _render_masks(options: Options, mask_format: str | None) -> None:
    written = make_sample_data(
        options.output, options.seed, options.scale, options.image_size, mask_format=mask_format
    )
    print(f"{'subset':<8}{'look':<42}{'train':>6}{'valid':>7}{'coverage':>10}")
    for subset, found in written.items():
        look = LOOKS[subset].description
        print(f"{subset:<8}{look:<42}{found.train:>6}{found.valid:>7}{found.coverage:>10.1%}")


RENDERERS = {FOREGROUND: render_foreground, CLASSES: render_classes, CLASSIFICATION: render_labelled}


@command
def main(argv: list[str]) -> None:
    """Renders the set and prints what is in it."""
    options = parse_options(Options, argv, prog=usage("sample-data"), description=__doc__)
    RENDERERS[options.kind](options)
