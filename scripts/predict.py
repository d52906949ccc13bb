"""Masks for your own photos, from a run or an exported model.

    python scripts/predict.py --work_dir runs/first --images photos --output masks
    python scripts/predict.py --model exported --images "scans/*.tif" --output masks --tile --smooth

Writes <output>/masks/<photo>.png, of the photo's size and upright as the photo is displayed, and
<output>/predictions.csv. A photo that cannot be read is listed in <output>/failed.csv, and the others go on.
Of a run that classifies photos, predictions.csv has the label and the probability of each class, and there
are no masks.
"""

import os
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pandas as pd
from tqdm import tqdm

from command import FAILED, command, parse_options
from config import load_config
from errors import Findings, InputError, listing
from manifest import check_writable, write_together
from mask_output import MASKS, OutputChoice, outcome_columns
from photo_search import find_photos
from pixel_limit import MAX_PIXELS, pixel_limit_problem
from run_evaluation import BEST_THRESHOLD, chosen_threshold, several_classes, threshold_problem

PREDICTIONS, FAILURES = "predictions.csv", "failed.csv"
# Options that say nothing about labels.
OF_MASKS = (
    "threshold values smooth smooth_size min_object overlay probabilities tile tile_overlap tile_shrink"
).split()


@dataclass(frozen=True)
class PredictOptions:
    """Options of the prediction.

    Args:
        images: Photos: files, folders (with all folders in them) and globs such as "photos/*.jpg".
        output: Folder for masks and tables; what lies in it is not read.
        work_dir: Folder of the run whose best weights predict.
        model: Exported model, in place of --work_dir.
        threshold: Probability above which a pixel is foreground, from 0 up to 1; `best` takes the one that
            scripts/evaluate.py found. Not for several classes, of which the most probable one is found.
        values: What masks hold: `white` for 0 and 255; `ids` for class ids; `colours` for class ids as places
            in a palette, so that they are seen in the colours of their classes. White by default, ids of
            several classes.
        smooth: Open and close masks with a disc: specks, spikes and small holes go. Not for several classes.
        smooth_size: Diameter of that disc, as a part of the photo's short side; 3 pixels at least.
        min_object: Objects of fewer pixels are not counted; they stay in the mask.
        overlay: Write <output>/overlays too: photos of at most 2048 pixels with the mask on them.
        probabilities: Write <output>/probabilities too: grey PNGs of 8 or 16 bits; 0 for none. Of several
            classes they hold that of the class that was found.
        tile: Predict at the photo's own size, in overlapping tiles of the model's input size, in place of
            the whole photo squeezed into it.
        tile_overlap: What neighbouring tiles share at least, as a part of their side.
        tile_shrink: Make photos so many times smaller before they are tiled, so that objects have the size
            that they had in training.
        tta: Average over the photo and its mirror images; takes four times as long.
        batch_size: Photos or tiles that the model gets at once.
        threads: That read, and as many that write; one a core by default.
        max_pixels: Most pixels of a photo, by its header; larger files are not decoded.
        overwrite: Replace outputs that are there already.
    """

    images: list[str] = field(default_factory=list)
    output: str = "predictions"
    work_dir: str | None = None
    model: str | None = None
    threshold: float | Literal[BEST_THRESHOLD] = OutputChoice.threshold
    values: Literal["white", "ids", "colours"] | None = None
    smooth: bool = False
    smooth_size: float = 0.01
    min_object: int = 1
    overlay: bool = False
    probabilities: int = 0
    tile: bool = False
    tile_overlap: float = 0.25
    tile_shrink: int = 1
    tta: bool = False
    batch_size: int = 8
    threads: int | None = None
    max_pixels: int = MAX_PIXELS
    overwrite: bool = False

    def __post_init__(self):
        problems = [problem for problem in self._problems() if problem]
        if problems:
            raise InputError("\n".join(problems))

    def _problems(self):
        if not self.images:
            yield "images: name files, folders or globs, as in --images photos"
        if (self.work_dir is None) == (self.model is None):
            yield "give either --work_dir (the folder of a run) or --model (an exported model)"
        if self.threshold == BEST_THRESHOLD and self.work_dir is None:
            yield "threshold best is found in a run's folder; give --work_dir, or the number"
        yield threshold_problem(self.threshold)
        yield pixel_limit_problem(self.max_pixels)
        for name in ("min_object", "batch_size", "threads", "tile_shrink"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                yield f"{name} must be greater than 0, got {getattr(self, name)}"
        if not 0 < self.smooth_size <= 0.2:
            yield f"smooth_size must be greater than 0 and at most 0.2, got {self.smooth_size}"
        if self.probabilities not in (0, 8, 16):
            yield f"probabilities must be 8 or 16 (bits), or 0 for none; got {self.probabilities}"
        if not 0 <= self.tile_overlap <= 0.5:
            yield f"tile_overlap must lie between 0 and 0.5, got {self.tile_overlap}"
        if self.tile_shrink > 1 and not self.tile:
            yield "tile_shrink is for tiles; add --tile"

    def class_problems(self, classes):
        """Yields what does not fit a model of these classes (Classes, or None for one foreground)."""
        if classes is None and self.values == "colours":
            yield "values colours is for several classes, but this model knows one; expected white or ids"
        if classes is not None:
            given = {"values": "white" if self.values == "white" else None, "smooth": self.smooth or None}
            given["threshold"] = self.threshold if self.threshold != OutputChoice.threshold else None
            for option, value in given.items():
                if value is not None:
                    yield several_classes(option, value, classes.names)

    def choice(self, threshold, classes):
        """OutputChoice of these options with the threshold that was chosen, for a model of these classes."""
        return OutputChoice(
            threshold=threshold,
            foreground=1 if self.values == "ids" else 255,
            classes=classes,
            colours=self.values == "colours",
            smooth=self.smooth_size if self.smooth else 0.0,
            min_object=self.min_object,
            probabilities=self.probabilities,
            overlay=self.overlay,
        )


def planned_jobs(options, choice):
    """list of (path, {kind: Path} of its outputs), of every photo.

    Args:
        choice: OutputChoice; None where photos have no files of their own.

    Raises:
        InputError: a photo has no place, or one would be replaced unasked.
    """
    photos = find_photos(options.images, options.output)
    jobs = [(photo.path, choice.places(options.output, photo.name) if choice else {}) for photo in photos]
    findings = Findings()
    tables = [Path(options.output, name) for name in (PREDICTIONS, FAILURES)]
    for place in [*tables, *(place for _, places in jobs for place in places.values())]:
        if place.is_dir():
            findings.add("outputs where a folder stands", place, "Choose another --output.")
        elif place.exists() and not options.overwrite:
            advice = "Choose another --output, or pass --overwrite to replace them."
            findings.add("outputs that are there already", place, advice)
    findings.raise_if_any()
    check_writable("--output", options.output)
    return jobs


def model_classes(options):
    """Classes of the run or exported model, None for one foreground.

    Raises:
        InputError: there is no such model, it tells whole photos apart, or options do not fit its classes.
    """
    if options.work_dir is not None:
        model = load_config(options.work_dir)  # a wrong folder is answered before TensorFlow is imported
    elif not os.path.exists(options.model):
        raise InputError(f"--model {options.model}: there is no such file or folder")
    else:
        from exported_model import find_description

        model, _ = find_description(options.model)
    if model.is_classification:
        place = options.work_dir or options.model
        raise InputError(f"{place} tells whole photos apart (task classification) and gives no masks")
    problems = list(options.class_problems(model.class_list))
    if problems:
        raise InputError("\n".join(problems))
    return model.class_list


def load_predictor(options):
    """(Predictor, side in pixels of what its network sees)."""
    if options.model is not None:
        from exported_model import load_exported

        predictor = load_exported(options.model)
        # A model of any size squeezes photos itself, and leaves those of this size as they are.
        side = predictor.input_size or predictor.description.image_size
    else:
        from prediction import RunPredictor

        predictor = RunPredictor(options.work_dir)
        side = predictor.input_size
    if options.tta:
        from batch_prediction import FlippedMean

        predictor = FlippedMean(predictor)
    return predictor, side


def outcomes(options, jobs, choice, predictor, side):
    """Yields (path, Outcome or BadPhoto) of every job."""
    from batch_prediction import predict_squeezed, predict_tiled

    if options.tile:
        overlap = round(options.tile_overlap * side)
        return predict_tiled(
            predictor, jobs, choice, tile=side, overlap=overlap, shrink=options.tile_shrink,
            batch_size=options.batch_size, max_pixels=options.max_pixels,
        )  # fmt: skip
    threads = options.threads or os.cpu_count() or 1
    return predict_squeezed(
        predictor, jobs, choice, input_size=side, batch_size=options.batch_size, threads=threads,
        max_pixels=options.max_pixels,
    )  # fmt: skip


def predict_all(options, jobs, choice, predictor, side):
    """Predicts every photo and writes the tables, also of what an interruption leaves behind.

    Returns:
        (DataFrame with the columns image, mask and `outcome_columns`, DataFrame with image and reason)
    """
    rows, failures = [], []
    columns = ["image", "mask", *outcome_columns(choice.classes)]
    places = {path: files[MASKS].relative_to(options.output).as_posix() for path, files in jobs}
    results = outcomes(options, jobs, choice, predictor, side)
    try:
        for path, outcome in tqdm(results, "predicting", len(jobs), unit="photo", delay=2):
            if isinstance(outcome, Exception):
                failures.append((path, str(outcome)))
            else:
                rows.append((path, places[path], *outcome))
    except KeyboardInterrupt:
        results.close()
        _write_tables(options, rows, failures, columns)
        raise
    return _write_tables(options, rows, failures, columns)


def label_all(options, classes):
    """Predicts the class of every photo and writes the tables, as `predict_all` does for masks.

    Args:
        classes: names of the run's classes.

    Raises:
        InputError: options that are for masks.
    """
    defaults = {field.name: field.default for field in fields(options)}
    foreign = [name for name in OF_MASKS if getattr(options, name) != defaults[name]]
    if foreign:
        raise InputError(
            f"{', '.join(foreign)}: for masks, but {options.work_dir} classifies whole photos; leave them out"
        )
    jobs = planned_jobs(options, None)
    predictor, side = load_predictor(options)
    from label_prediction import predict_labels, table_columns

    rows, failures = [], []
    threads = options.threads or os.cpu_count() or 1
    results = predict_labels(
        predictor, [path for path, _ in jobs], classes, input_size=side, batch_size=options.batch_size,
        threads=threads, max_pixels=options.max_pixels,
    )  # fmt: skip
    try:
        for path, outcome in tqdm(results, "predicting", len(jobs), unit="photo", delay=2):
            if isinstance(outcome, Exception):
                failures.append((path, str(outcome)))
            else:
                rows.append((path, *outcome))
    except KeyboardInterrupt:
        results.close()
        _write_tables(options, rows, failures, table_columns(classes))
        raise
    return _write_tables(options, rows, failures, table_columns(classes))


def _write_tables(options, rows, failures, columns):
    tables = pd.DataFrame(rows, columns=columns), pd.DataFrame(failures, columns=["image", "reason"])
    texts = [table.to_csv(index=False, lineterminator="\n", float_format="%.6g") for table in tables]
    write_together({Path(options.output, PREDICTIONS): texts[0]})
    if failures:
        write_together({Path(options.output, FAILURES): texts[1]})
    else:
        Path(options.output, FAILURES).unlink(missing_ok=True)  # of an earlier call
    return tables


@command
def main(argv):
    """Predicts masks and says what was written."""
    options = parse_options(PredictOptions, argv, prog="predict.py", description=__doc__)
    if options.work_dir is not None:
        config = load_config(options.work_dir)
        if config.is_classification:
            labels, failures = label_all(options, config.classes)
            print(labels["label"].value_counts().to_string())
            print(f"wrote {options.output}: {PREDICTIONS}")
            _report_failures(options, failures, len(labels) + len(failures))
            return
    classes = model_classes(options)
    choice = options.choice(chosen_threshold(options.threshold, options.work_dir), classes)
    jobs = planned_jobs(options, choice)
    predictions, failures = predict_all(options, jobs, choice, *load_predictor(options))
    if len(predictions):
        mean, objects = predictions["coverage"].mean(), predictions["objects"].sum()
        print(f"{len(predictions)} masks, mean coverage {mean:.2%}, {objects} objects")
        for name in classes.names[1:] if classes else ():
            mean, objects = predictions[f"coverage_{name}"].mean(), predictions[f"objects_{name}"].sum()
            print(f"  {name}: mean coverage {mean:.2%}, {objects} objects")
    print(f"wrote {options.output}: {', '.join(sorted(jobs[0][1]))}, {PREDICTIONS}")
    _report_failures(options, failures, len(jobs))


def _report_failures(options, failures, photos):
    """Prints the photos that could not be read, and ends with status 1 where there are any."""
    if len(failures):
        lines = [f"{image}  {reason}" for image, reason in failures.itertuples(index=False)]
        headline = f"photos that could not be read: {len(failures)} of {photos}"
        print(f"{headline}\n{listing(lines)}\nAll are in {Path(options.output, FAILURES)}.", file=sys.stderr)
        raise SystemExit(FAILED)


if __name__ == "__main__":
    sys.exit(main())
