"""A run's best weights on validation, test or other images: read as in training, predicted and counted."""

import gc
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from segbalance.evaluation.class_scores import ClassEvaluation
    from segbalance.evaluation.scores import Evaluation, Predict

from segbalance.balancing.skipping import SKIP_ADVICE
from segbalance.data_processing.classes import names_of
from segbalance.data_processing.description import MANIFEST
from segbalance.data_processing.manifest import Manifest, natural_order, read_manifest, subset_files
from segbalance.data_processing.tasks import CLASSES, CLASSIFICATION, FOREGROUND, THRESHOLD, Task, task_of
from segbalance.dataloader.pair_cache import PairReader
from segbalance.errors import InputError
from segbalance.files.pixel_limit import pixel_limit_problem
from segbalance.files.writing import json_text
from segbalance.runtime.progress import progress_of
from segbalance.runtime.verbs import named, typed
from segbalance.train.config import TrainConfig
from segbalance.train.config_file import load_config
from segbalance.train.inputs import loader_subsets, valid_tables
from segbalance.transforms.pipelines import valid_transform

BEST_THRESHOLD = "best"  # the one that evaluation_valid.json names
OF_CLASSES = ("classes", "task", "fingerprint", "all", "subsets")
# By those who read evaluation_valid.json.
NEEDED = {
    FOREGROUND: ("threshold", "fingerprint", "all", "subsets"),
    CLASSES: OF_CLASSES,
    CLASSIFICATION: OF_CLASSES,
}

# TensorFlow takes seconds to import: the functions below do so, after the input has been checked.


def output_files(work_dir: str | Path, split: str, csv: str | Path | None = None) -> tuple[Path, Path]:
    """Paths of the JSON and CSV files in a run's folder."""
    name = f"csv_{Path(csv).stem}" if csv else split
    return Path(work_dir, f"evaluation_{name}.json"), Path(work_dir, f"evaluation_{name}.csv")


def read_evaluation(work_dir: str | Path) -> dict[str, Any]:
    """Content of evaluation_valid.json. Raises InputError where it is missing or damaged."""
    path, _ = output_files(work_dir, "valid")
    way_out = f"{typed('evaluate')} --work_dir {work_dir}"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        kind = task_of_report(content)
        if kind.with_threshold:
            float(content["best_threshold"]["threshold"])
        if missing := [name for name in NEEDED[kind] if name not in content]:
            raise ValueError(f"it has no {', '.join(missing)}")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist. Make it first: {way_out}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} cannot be read: {error}. Make it again: {way_out}") from None
    return content


def task_of_report(report: Mapping[str, Any]) -> Task:
    """The Task of what stands in an evaluation's JSON file."""
    return task_of(report.get("task"), report.get("classes"))


def chosen_threshold(threshold: float | str, work_dir: str | Path | None) -> float:
    """The number that an option stands for: itself, or the best one of the validation images.

    Args:
        work_dir: of a run, which `best` needs; None for an exported model.

    Raises:
        InputError: the run has several classes, of which the most probable one is taken.
    """
    if work_dir is not None and threshold != THRESHOLD:
        config = load_config(work_dir)
        if not config.kind.with_threshold:
            raise InputError(several_classes("threshold", threshold, config.filled_in.classes))
    if threshold == BEST_THRESHOLD:
        assert work_dir is not None, "an exported model has no best threshold"
        return float(read_evaluation(work_dir)["best_threshold"]["threshold"])
    return float(threshold)


def several_classes(option: str, value: object, classes: Sequence[str]) -> str:
    """What is wrong with an option that means something for background and foreground alone."""
    return (
        f"{option} {value} is for one foreground class, but this model tells {len(classes)} apart "
        f"({', '.join(classes)}), of which a pixel gets the most probable one. Leave --{option} out."
    )


def threshold_problem(threshold: float | str) -> str | None:
    """What is wrong with the option, or None."""
    if threshold == BEST_THRESHOLD or 0 <= float(threshold) < 1:
        return None
    return f"threshold must be {BEST_THRESHOLD}, or from 0 up to but not including 1; got {threshold}"


class ScoringOptions(Protocol):
    """What the options of all commands have that score images."""

    @property
    def threshold(self) -> float | str: ...
    @property
    def max_pixels(self) -> int: ...
    @property
    def batch_size(self) -> int | None: ...


def scoring_problems(options: ScoringOptions) -> Iterator[str | None]:
    """Yields what is wrong with the options that all commands have which score images."""
    yield threshold_problem(options.threshold)
    yield pixel_limit_problem(options.max_pixels)
    if options.batch_size is not None and options.batch_size <= 0:
        yield f"batch_size must be greater than 0, got {options.batch_size}"


def held_out_manifest(
    config: TrainConfig,
    split: str,
    csv: str | Path | None = None,
    data_root: str | Path | None = None,
) -> Manifest:
    """The Manifest whose `valid` are the images to score; it has no training rows.

    Args:
        config: of the run, with the data root and limits that the user has chosen.
        split: `valid` or `test`, beside the run's other manifests.
        csv: path of any other table. The encoding of its masks is that of the manifest.json beside it, or
            else of the run's.
        data_root: what the user says of it; by default the run's, or that of the manifest beside `csv`.

    Raises:
        InputError: there is no such table, rows of it are wrong, or it is for other classes.
    """
    data = config.data
    path = Path(csv or Path(data.csv_dir, f"{split}.csv"))
    if not path.is_file():
        hint = "Name a CSV file with --csv." if csv or split == "test" else "Put the run's manifests back."
        raise InputError(f"{path} does not exist; expected a table with a column images. {hint}")
    other = csv is not None and (path.parent / MANIFEST).exists()
    folder = path.parent if other else Path(data.csv_dir)
    own = folder.resolve() == Path(data.csv_dir).resolve()
    root = data_root or (data.data_root if own else None)
    manifest = read_manifest(
        folder, root, allow_outside=data.allow_outside, max_pixels=data.max_pixels, held_out=path
    )
    check_classes(config, manifest)
    return manifest


def check_classes(config: TrainConfig, manifest: Manifest) -> None:
    """Raises InputError where the manifests are for other classes than the run."""
    names, own = list(names_of(manifest.classes)), config.filled_in.classes
    if names != own:
        found, expected = (", ".join(one) or "background and foreground" for one in (names, own))
        raise InputError(
            f"{manifest.valid_file} is for the classes {found}, but the run is for {expected}. Make "
            f"manifests with the classes of the run ({named('prepare')} --classes)."
        )


def scored_tables(config: TrainConfig, manifest: Manifest) -> dict[str, "pd.DataFrame"]:
    """{subset: rows to score}, in the order of the validation; those of training without rows last."""
    tables, trained = valid_tables(manifest), subset_files(config.data.csv_dir)
    missing = sorted(trained.keys() - tables.keys(), key=natural_order)
    return tables | dict.fromkeys(missing, manifest.valid.iloc[:0])


def evaluate_table(
    config: TrainConfig,
    manifest: Manifest,
    predict: "Predict",
    *,
    threshold: float,
    batch_size: int | None = None,
) -> "Evaluation | ClassEvaluation":
    """Evaluation of the images of `manifest.valid`, read as the validation of the run reads them.

    Of a run with several classes it is a ClassEvaluation, of a classification a LabelEvaluation.

    Args:
        config: of the run.
        predict: RunPredictor of it.
        threshold: for background and foreground alone.
        batch_size: the run's by default.

    Raises:
        InputError: a file has gone bad.
    """
    from segbalance.dataloader.batches import validation_dataset
    from segbalance.evaluation.evaluators import EVALUATORS
    from segbalance.legacy_keras import tf

    tables, batch_size = scored_tables(config, manifest), batch_size or config.optimisation.batch_size
    side = config.network.image_size
    dataset, reader = validation_dataset(
        loader_subsets(manifest, tables, dict.fromkeys(tables, valid_transform(side))),
        image_size=side,
        batch_size=batch_size,
        pairs=PairReader(working_size=config.loading.working_size or 0, max_pixels=config.data.max_pixels),
    )
    steps = int(np.ceil(len(manifest.valid) / batch_size))
    try:
        batches = progress_of(dataset.as_numpy_iterator(), "evaluating", steps, "batch")
        return EVALUATORS[config.kind](predict, batches, tables, config.class_list, threshold)
    except tf.errors.OpError:
        if reader.failure is None:
            raise
        # Nothing may be skipped here: the scores of fewer images must not pass as those of all.
        raise InputError(str(reader.failure).removesuffix(f" {SKIP_ADVICE}")) from None
    finally:
        gc.collect()  # the iterator must not live until the process ends


def evaluated(
    config: TrainConfig,
    manifest: Manifest,
    predict: "Predict",
    *,
    threshold: float,
    batch_size: int | None = None,
    **place: str | Path,
) -> tuple["Evaluation | ClassEvaluation", dict[str, Any]]:
    """(what `evaluate_table` returns, what is written of it as JSON).

    Args:
        config, manifest, predict, threshold, batch_size: as for `evaluate_table`.
        place: `split` or `csv`, where the images come from.
    """
    evaluation = evaluate_table(config, manifest, predict, threshold=threshold, batch_size=batch_size)
    report = (
        {name: str(value) for name, value in place.items()}
        | {
            "data_root": str(manifest.data_root),
            "fingerprint": manifest.valid_fingerprint(),
            "image_size": config.network.image_size,
        }
        | evaluation.report()
    )
    return evaluation, report


def report_files(
    report: Mapping[str, Any],
    evaluation: "Evaluation | ClassEvaluation",
    json_path: str | Path,
    csv_path: str | Path,
) -> dict[Path, str | bytes]:
    """{path: text} of the JSON and of the CSV file with a row an image."""
    table = evaluation.images.to_csv(index=False, lineterminator="\n")
    return {Path(json_path): json_text(report), Path(csv_path): table}
