"""Masks for your own photos, from a run or an exported model.

    python scripts/predict.py --work_dir runs/first --images photos --output masks
    python scripts/predict.py --model exported --images "scans/*.tif" --output masks --tile --smooth

Writes <output>/masks/<photo>.png, of the photo's size and upright as the photo is displayed, and
<output>/predictions.csv. A photo that cannot be read is listed in <output>/failed.csv, and the others go on.
Of a model that classifies photos, predictions.csv has the label and the probability of each class, and there
are no masks.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import pandas as pd

from segbalance.data_processing.classes import Classes, names_of
from segbalance.data_processing.tasks import CLASSES, CLASSIFICATION, FOREGROUND, Task
from segbalance.errors import InputError, listing
from segbalance.evaluation.of_a_run import (
    BEST_THRESHOLD,
    chosen_threshold,
    several_classes,
    threshold_problem,
)
from segbalance.files.locks import locked
from segbalance.files.pixel_limit import MAX_PIXELS, pixel_limit_problem
from segbalance.files.writing import check_writable
from segbalance.prediction.labels import predict_labels, table_columns
from segbalance.prediction.many_photos import (
    FlippedMean,
    Job,
    Predictor,
    predict_squeezed,
    predict_tiled,
)
from segbalance.prediction.output import MASKS, OutputChoice, outcome_columns
from segbalance.prediction.tables import FAILURES, PREDICTIONS, Results, Tables, collected, planned_jobs
from segbalance.runtime.command_line import FAILED, command, parse_options
from segbalance.runtime.verbs import usage
from segbalance.train.config import TrainConfig
from segbalance.train.config_file import load_config

if TYPE_CHECKING:
    from segbalance.exporting.exported_model import ExportDescription

    Model = TrainConfig | ExportDescription  # what tells the task and the classes

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
        threads: That read whole photos, and as many that write; one a core by default. Of tiles, one reads
            and one writes.
        max_pixels: Most pixels of a photo, by its header; larger files are not decoded.
        overwrite: Replace outputs that already exist.
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

    def __post_init__(self) -> None:
        problems = [problem for problem in self._problems() if problem]
        if problems:
            raise InputError("\n".join(problems))

    def _problems(self) -> Iterator[str | None]:
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

    def model_problems(self, model: "Model") -> Iterator[str]:
        """Yields what does not fit a model, of which `described_model` tells."""
        if gives_masks(model):
            usual = {"threshold": OutputChoice.threshold, "probabilities": 0}
            for option in (name for name, value in usual.items() if getattr(self, name) != value):
                yield f"{option}: for probabilities, but {self.model} was exported with --output_type mask"
        yield from PREDICTIONS_OF[model.kind].problems(self, model)

    def choice(self, threshold: float, classes: Classes | None) -> OutputChoice:
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


def foreground_problems(options: PredictOptions, model: "Model") -> Iterator[str]:
    """Yields what does not fit a model of one foreground."""
    if options.values == "colours":
        yield "values colours is for several classes, but this model knows one; expected white or ids"


def class_problems(options: PredictOptions, model: "Model") -> Iterator[str]:
    """Yields what does not fit a model of several classes."""
    given = {
        "values": "white" if options.values == "white" else None,
        "smooth": options.smooth or None,
        "threshold": options.threshold if options.threshold != OutputChoice.threshold else None,
    }
    for option, value in given.items():
        if value is not None:
            yield several_classes(option, value, names_of(model.class_list))


def label_problems(options: PredictOptions, model: "Model") -> Iterator[str]:
    """Yields what does not fit a model that classifies photos."""
    usual = {field.name: field.default for field in fields(options)}
    foreign = [name for name in OF_MASKS if getattr(options, name) != usual[name]]
    if foreign:
        place = options.work_dir or options.model
        yield f"{', '.join(foreign)}: for masks, but {place} classifies whole photos; leave them out"


def described_model(options: PredictOptions) -> "Model":
    """What tells the task and the classes of the model.

    Raises:
        InputError: there is no such model.
    """
    if options.work_dir is not None:
        return load_config(options.work_dir)  # a wrong folder is answered before TensorFlow is imported
    assert options.model is not None, "one of the two is given"
    if not os.path.exists(options.model):
        raise InputError(f"--model {options.model}: there is no such file or folder")
    from segbalance.exporting.exported_model import find_description

    return find_description(options.model)[0]


def gives_masks(model: "Model") -> bool:
    """Whether a model, of which `described_model` tells, was exported to answer with ids alone."""
    return getattr(model, "output_type", "probability") == "mask"


def load_predictor(options: PredictOptions) -> tuple[Predictor, int]:
    """What predicts, and the side in pixels of what its network sees."""
    if options.model is not None:
        from segbalance.exporting.exported_model import load_exported

        exported = load_exported(options.model)
        # A model of any size squeezes photos itself, and leaves those of this size as they are.
        predictor: Predictor = exported
        side = exported.input_size or exported.description.image_size
    else:
        from segbalance.prediction.predictor import RunPredictor  # TensorFlow

        assert options.work_dir is not None, "one of the two is given"
        own = RunPredictor(options.work_dir)
        predictor, side = own, own.input_size
    return FlippedMean(predictor) if options.tta else predictor, side


def outcomes(
    options: PredictOptions, jobs: Sequence[Job], choice: OutputChoice, predictor: Predictor, side: int
) -> Results:
    """Yields (path, Outcome or BadPhoto) of every job."""
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


def predict_masks(
    options: PredictOptions, jobs: Sequence[Job], choice: OutputChoice, predictor: Predictor, side: int
) -> Tables:
    """Predicts the mask of every photo and writes the tables, with image, mask and `outcome_columns`."""
    results = outcomes(options, jobs, choice, predictor, side)
    places = {path: files[MASKS].relative_to(options.output).as_posix() for path, files in jobs}
    columns = ["image", "mask", *outcome_columns(choice.classes)]
    return collected(results, len(jobs), columns, lambda path: (path, places[path]), options.output)


def predict_classes(
    options: PredictOptions, jobs: Sequence[Job], model: "Model", predictor: Predictor, side: int
) -> Tables:
    """Predicts the class of every photo and writes the tables, with `table_columns`."""
    classes, with_probabilities = names_of(model.class_list), not gives_masks(model)
    results = predict_labels(
        predictor, [path for path, _ in jobs], classes, with_probabilities, input_size=side,
        batch_size=options.batch_size, threads=options.threads or os.cpu_count() or 1,
        max_pixels=options.max_pixels,
    )  # fmt: skip
    columns = table_columns(classes, with_probabilities)
    return collected(results, len(jobs), columns, lambda path: (path,), options.output)


def tell_masks(predictions: pd.DataFrame, classes: Classes | None) -> None:
    """Prints what was found, by class where there are several."""
    if len(predictions):
        mean, objects = predictions["coverage"].mean(), predictions["objects"].sum()
        print(f"{len(predictions)} masks, mean coverage {mean:.2%}, {objects} objects")
        for name in names_of(classes)[1:]:
            mean, objects = predictions[f"coverage_{name}"].mean(), predictions[f"objects_{name}"].sum()
            print(f"  {name}: mean coverage {mean:.2%}, {objects} objects")


class Predicted(NamedTuple):
    """What a call has done.

    Args:
        photos: number of them.
        failures: DataFrame with image and reason.
        written: names of files and folders in the output folder.
    """

    photos: int
    failures: pd.DataFrame
    written: list[str]


def run_masks(options: PredictOptions, model: "Model") -> Predicted:
    """Predicts masks and prints what was found."""
    choice = options.choice(chosen_threshold(options.threshold, options.work_dir), model.class_list)
    jobs = planned_jobs(options.images, options.output, choice, options.overwrite)
    predictions, failures = predict_masks(options, jobs, choice, *load_predictor(options))
    tell_masks(predictions, model.class_list)
    return Predicted(len(jobs), failures, [*sorted(jobs[0][1]), PREDICTIONS])


def run_labels(options: PredictOptions, model: "Model") -> Predicted:
    """Predicts labels and prints how often each was found."""
    jobs = planned_jobs(options.images, options.output, None, options.overwrite)
    labels, failures = predict_classes(options, jobs, model, *load_predictor(options))
    print(labels["label"].value_counts().to_string())
    return Predicted(len(jobs), failures, [PREDICTIONS])


class Prediction(NamedTuple):
    """What the command does for a task.

    Args:
        problems: function of options and model that yields what does not fit.
        run: function of options and model that predicts.
    """

    problems: "Callable[[PredictOptions, Model], Iterator[str]]"
    run: "Callable[[PredictOptions, Model], Predicted]"


PREDICTIONS_OF: dict[Task, Prediction] = {
    FOREGROUND: Prediction(foreground_problems, run_masks),
    CLASSES: Prediction(class_problems, run_masks),
    CLASSIFICATION: Prediction(label_problems, run_labels),
}


@command
def main(argv: list[str]) -> None:
    """Predicts masks or labels and says what was written."""
    options = parse_options(PredictOptions, argv, prog=usage("predict"), description=__doc__)
    model = described_model(options)
    problems = list(options.model_problems(model))
    if problems:
        raise InputError("\n".join(problems))
    check_writable("--output", options.output)
    with locked(options.output, "prediction", "--output"):
        predicted = PREDICTIONS_OF[model.kind].run(options, model)
    print(f"wrote {options.output}: {', '.join(predicted.written)}")
    _report_failures(options, predicted.failures, predicted.photos)


def _report_failures(options: PredictOptions, failures: pd.DataFrame, photos: int) -> None:
    """Prints the photos that could not be read, and ends with status 1 where there are any."""
    if len(failures):
        lines = [f"{image}  {reason}" for image, reason in failures.itertuples(index=False)]
        headline = f"photos that could not be read: {len(failures)} of {photos}"
        print(f"{headline}\n{listing(lines)}\nAll are in {Path(options.output, FAILURES)}.", file=sys.stderr)
        raise SystemExit(FAILED)
