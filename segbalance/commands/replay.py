"""Draws one augmented image and mask of a run again, exactly as the training step saw them.

    python scripts/replay_sample.py --work_dir runs/first --step 4213 --item 7

Steps and items are counted from 0. It needs the run folder and the data that its config.yaml names, no more.
Of a classification there is no mask, and the CSV row tells the label.
"""

import gc
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from segbalance.balancing.draws import DrawStream
from segbalance.balancing.ledger import read_skipped
from segbalance.commands.contact_sheet import label, outlined, tinted
from segbalance.data_processing.classes import Classes
from segbalance.data_processing.manifest import Manifest
from segbalance.data_processing.tasks import CLASSES, CLASSIFICATION, FOREGROUND, Task
from segbalance.dataloader.reading import BatchReader
from segbalance.errors import InputError, visible
from segbalance.files.pixel_limit import MAX_PIXELS, pixel_limit_problem
from segbalance.files.writing import check_output, check_writable, json_text, write_together
from segbalance.runtime.command_line import command, parse_options
from segbalance.runtime.verbs import usage
from segbalance.train.config import TrainConfig
from segbalance.train.folder import trusted_config
from segbalance.train.inputs import checked_plan, read_data, training_parts
from segbalance.transforms.fast import by_name
from segbalance.transforms.pipelines import reseed

SHOWN_WHOLE = 16  # numbers of an array among the parameters; of longer ones, only what they amount to

Draw = tuple[int, int, bool]  # subset number, position, plain
Pair = tuple[np.ndarray, np.ndarray | None]  # photo and mask, None where there are labels
Applied = Sequence[tuple[str, Mapping[str, Any]]]  # class name and parameters of each transform, in order


@dataclass(frozen=True)
class ReplayOptions:
    """Options of the replay.

    Args:
        work_dir: Folder of the run.
        step: Training step, counted from 0.
        item: Place in the step's batch, counted from 0.
        output: Folder of the pictures; <work_dir>/replay by default.
        data_root: Folder of the data where it has moved since; the one in config.yaml by default.
        transforms: The transforms of the run once more, where not all are built in, or the Python file that
            they come from: code is not run on the word of a run folder, which may come from elsewhere.
        allow_outside: Read files that rows name out of the data root, by `..` or a symbolic link.
        max_pixels: Most pixels of an image or mask, by its header; larger files are not decoded.
        json: JSON file for what is printed as well.
    """

    work_dir: str
    step: int
    item: int
    output: str | None = None
    data_root: str | None = None
    transforms: dict[str | int, str] | str | None = None
    allow_outside: bool = False
    max_pixels: int = MAX_PIXELS
    json: str | None = None

    def __post_init__(self) -> None:
        if problem := pixel_limit_problem(self.max_pixels):
            raise InputError(problem)


def check_place(options: ReplayOptions, config: TrainConfig) -> None:
    """Raises InputError unless the run has this step and item."""
    optimisation = config.optimisation
    steps = optimisation.epochs * config.steps_per_epoch
    limits = {"step": (steps, "steps of the run"), "item": (optimisation.batch_size, "images of a batch")}
    problems = [
        f"{name} must be from 0 to {count - 1} (the {what}), got {getattr(options, name)}"
        for name, (count, what) in limits.items()
        if not 0 <= getattr(options, name) < count
    ]
    if problems:
        raise InputError("\n".join(problems))


def check_rows(config: TrainConfig, manifest: Manifest) -> None:
    """Raises InputError where the manifests are no longer those of the run, which would draw other images."""
    fingerprint = config.filled_in.fingerprint
    if fingerprint is None:
        print("warning: config.yaml has no fingerprint: whether the manifests are the run's is not known")
    elif fingerprint != manifest.training_fingerprint():
        raise InputError(
            f"the training rows in {config.data.csv_dir} have changed since the run began, so its "
            "draws would be other images. Restore the manifests that the run began with."
        )


def draw_at(stream: DrawStream, step: int, item: int) -> Draw:
    """One draw of a stream."""
    steps = stream.steps(step)
    draws, plain = next(steps)
    steps.close()  # with the iterator inside it, which must not live until the process ends
    subset, position = stream.draws.split(int(draws[item]))
    return subset, position, bool(plain[item])


def replay(reader: BatchReader, index: int, position: int, plain: bool) -> tuple[Pair, Pair, Applied]:
    """One draw again, with what the transforms did.

    Args:
        reader: of the run.
        index, position, plain: as `draw_at` gives them.

    Returns:
        ((uint8 (H, W, 3), uint8 (H, W)) as read, (uint8 (S, S, 3), uint8 (S, S)) as trained on, the
        transforms applied); None for both masks where there are labels.
    """
    sample = reader.sample(index, position, plain)
    image, mask = reader.samples.pair(sample)
    shown = None if reader.mask_size == 1 else mask
    transform = reader.samples.new_transform(index, plain)
    transform.save_applied_params = True  # only recorded: no random number is drawn for it
    reseed(transform, sample.seed)
    copies = by_name(image.copy(), None if shown is None else shown.copy())
    applied = transform(**copies)["applied_transforms"]
    # The pixels as training made them: a Compose that records may take another way to the same parameters.
    small, small_mask = reader.samples.read(sample)
    return (image, shown), (small, None if shown is None else small_mask), applied


def in_plain_types(value: Any) -> Any:
    """A parameter as JSON takes it; a long array as its shape, type, mean and standard deviation."""
    if isinstance(value, np.ndarray):
        if value.size <= SHOWN_WHOLE:
            return value.tolist()
        figures = {"mean": float(value.mean()), "standard_deviation": float(value.std())}
        return {"shape": list(value.shape), "dtype": str(value.dtype)} | figures
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {str(key): in_plain_types(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [in_plain_types(item) for item in value]
    return value if isinstance(value, str | int | float | None) else repr(value)


def colour_png(image: np.ndarray) -> bytes:
    """uint8 (H, W, 3) RGB as the bytes of a PNG."""
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()


class Look(NamedTuple):
    """How a pair of a task is shown.

    Args:
        draw: function of photo, mask, Classes and side that returns uint8 (side, side, 3).
        palette: function of the Classes, None for one foreground, that returns the mask file's, 768 numbers
            of type uint8.
    """

    draw: Callable[..., np.ndarray]
    palette: Callable[[Any], np.ndarray]


def _plain(image: np.ndarray, mask: None, classes: Classes | None, side: int) -> np.ndarray:
    """The photo alone."""
    nothing = np.zeros(image.shape[:2], np.uint8)
    return outlined(image, nothing, nothing, side)


def _with_outlines(image: np.ndarray, mask: np.ndarray, classes: None, side: int) -> np.ndarray:
    return outlined(image, mask, np.zeros(image.shape[:2], np.uint8), side)


def _grey(classes: Classes | None) -> np.ndarray:
    """0 is black, 1 white."""
    return np.repeat(np.r_[0, 255, np.arange(2, 256)], 3).astype(np.uint8)


LOOKS: dict[Task, Look] = {
    FOREGROUND: Look(_with_outlines, _grey),
    CLASSES: Look(tinted, lambda classes: classes.rgb),
    CLASSIFICATION: Look(_plain, _grey),
}


def mask_png(mask: np.ndarray, palette: np.ndarray) -> bytes:
    """uint8 (H, W) of class ids as the bytes of a PNG with a palette (uint8, 768 numbers)."""
    picture = Image.fromarray(mask)
    picture.putpalette(palette.tobytes())
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


def side_by_side(
    original: Pair, trained: Pair, kind: Task = FOREGROUND, classes: Classes | None = None
) -> np.ndarray:
    """Both pairs of a task, with masks as far as it has such: uint8 (H, 2 S, 3)."""
    tile = max(trained[0].shape[0], 256)
    tiles = [LOOKS[kind].draw(image, mask, classes, tile) for image, mask in (original, trained)]
    strips = [label(text, tile) for text in ("as read", "as trained on")]
    return np.concatenate([np.concatenate(strips, axis=1), np.concatenate(tiles, axis=1)])


def describe(report: Mapping[str, Any]) -> Iterator[str]:
    """What is printed: a line each for the place, the row and every transform."""
    keys = ("step", "item", "epoch", "subset", "position", "row", "sample_seed", "plain", "transform")
    yield from (f"{key.replace('_', ' '):<12} {report[key]}" for key in keys)
    yield f"{'CSV row':<12} {report['csv_file']} line {report['csv_line']}: {report['csv_row']}"
    if skip := report["skipped"]:
        place = f"{skip['csv_file']} line {skip['line']}"
        yield f"{'instead of':<12} {place}, which could not be read: {skip['reason']}"
    for applied in report["applied"]:
        parameters = ", ".join(f"{name}={value}" for name, value in applied["parameters"].items())
        yield f"  {applied['name']}({parameters})"


def report_of(
    options: ReplayOptions,
    config: TrainConfig,
    manifest: Manifest,
    reader: BatchReader,
    draw: Draw,
    applied: Applied,
) -> dict[str, Any]:
    """What is printed and written as JSON, in plain types."""
    index, position, plain = draw
    subset, row = reader.subsets[index].name, reader.row(index, position)
    skip = reader.bad_files.skip(reader.draws.draw(index, position))
    csv_file, csv_line, csv_row = manifest.line(subset, row)
    names = config.data.transforms
    assert isinstance(names, dict), "resolved"
    return {
        "step": options.step,
        "item": options.item,
        "epoch": options.step // config.steps_per_epoch + 1,
        "subset": subset,
        "position": position,
        "row": row,
        "sample_seed": reader.draws.sample_seed(index, position),
        "plain": plain,
        "transform": "resize alone" if plain else names.get(subset, names.get("default", "train")),
        "csv_file": str(csv_file),
        "csv_line": csv_line,
        "csv_row": csv_row,
        "skipped": skip and skip._asdict(),
        "applied": [{"name": name, "parameters": in_plain_types(values)} for name, values in applied],
    }


def pictures(
    original: Pair, trained: Pair, place: Path, kind: Task, classes: Classes | None
) -> dict[Path, str | bytes]:
    """{path: bytes} of the PNG files whose names begin with `place`: three, or without a mask two."""
    contents = {
        "image": colour_png(trained[0]),
        **({} if trained[1] is None else {"mask": mask_png(trained[1], LOOKS[kind].palette(classes))}),
        "comparison": colour_png(side_by_side(original, trained, kind, classes)),
    }
    return {place.with_name(f"{place.name}_{kind}.png"): content for kind, content in contents.items()}


@command
def main(argv: list[str], transforms_file: str | Path | None = None) -> None:
    """Writes the pictures and prints where they come from."""
    options = parse_options(ReplayOptions, argv, prog=usage("replay"), description=__doc__)
    config = trusted_config(options, transforms_file)
    check_place(options, config)
    folder = options.output or Path(options.work_dir, "replay")
    check_writable("--output", folder)
    if options.json:
        check_output("--json", options.json)
    manifest = read_data(config, missing_train=True)
    check_rows(config, manifest)
    skips = read_skipped(options.work_dir)
    reader, stream = training_parts(config, manifest, *checked_plan(config, manifest))
    reader.bad_files.replay(skips)
    draw = draw_at(stream, options.step, options.item)
    gc.collect()
    try:
        original, trained, applied = replay(reader, *draw)
    except OSError as error:
        raise InputError(f"{error}. The files must be those that the run read.") from None
    report = report_of(options, config, manifest, reader, draw, applied)
    print("\n".join(map(visible, describe(report))))
    place = Path(folder, f"step{options.step}_item{options.item}")
    files = pictures(original, trained, place, manifest.kind, manifest.classes)
    if options.json:
        files[Path(options.json)] = json_text(report)
    write_together(files)
    print("\n".join(f"wrote {path}" for path in files))
