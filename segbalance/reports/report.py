"""report.html of a run: one page that stands alone, made from the run folder and its best weights."""

import heapq
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from segbalance.data_processing.manifest import Manifest
    from segbalance.evaluation.scores import Predict

from segbalance.balancing.ledger import LEDGER, read_ledger
from segbalance.data_processing.tasks import (
    CLASSES,
    CLASSIFICATION,
    CLEAN_IMAGES,
    FALSE_ALARMS,
    FOREGROUND,
    SCORE_NAMES,
    THRESHOLD,
    Task,
)
from segbalance.dataloader.pair_cache import PairReader
from segbalance.errors import InputError
from segbalance.evaluation.of_a_run import evaluated, output_files, report_files
from segbalance.files.writing import write_together
from segbalance.model.architectures import ARCHITECTURES
from segbalance.reports.advice import next_steps
from segbalance.reports.charts import FRAME, history_charts, threshold_charts
from segbalance.reports.pages import render
from segbalance.reports.pictures import Easel, gallery, training_samples
from segbalance.reports.sentences import quoted
from segbalance.runtime.verbs import typed
from segbalance.train.best_by import words_for
from segbalance.train.config import TrainConfig
from segbalance.train.config_file import CONFIG
from segbalance.train.folder import METRICS, best_epoch, read_history

REPORT = "report.html"
HISTORY_COLUMNS = {
    "epoch": ".0f",
    "loss": ".4f",
    "val_loss": ".4f",
    "val_balanced_accuracy": ".3f",
    "val_accuracy": ".3f",
    "val_iou": ".3f",
    "val_f1": ".3f",
    "val_precision": ".3f",
    "val_recall": ".3f",
    "val_mean_subset_iou": ".3f",
    "val_weakest_subset_iou": ".3f",
    "val_mean_subset_recall": ".3f",
    "val_weakest_subset_recall": ".3f",
    "learning_rate": ".2e",
    "seconds": ".1f",
}
SECTIONS = {
    "next": "What to do next", "summary": "Summary", "classes": "Classes", "confusion": "Confusion",
    "subsets": "Subsets", "curves": "Curves", "shares": "Shares", "thresholds": "Thresholds",
    "gallery": "Gallery", "worst": "Worst images", "training": "Training images", "config": "Config and data",
}  # fmt: skip
MOST_IN_MATRIX = 20  # classes; of more, only the most frequent confusions are shown
MOST_CONFUSIONS = 30
PACKAGES = ("tensorflow", "tf-keras", "segmentation-models", "albumentations", "numpy")


def write_report(
    config: TrainConfig,
    manifest: "Manifest",
    *,
    threshold: float = THRESHOLD,
    batch_size: int | None = None,
    output: str | Path | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Evaluates a run on its validation images and writes the page and evaluation_valid.json and .csv.

    Args:
        config: of a finished run, with its work_dir.
        manifest: of the run.
        threshold: above which a pixel counts as found.
        batch_size: that of the run by default.
        output: path of the page; report.html in the run folder by default.

    Returns:
        (Path of the page, the evaluation as it is in the JSON file)

    Raises:
        InputError: the folder holds no finished run, or its data is not there.
    """
    from segbalance.prediction.predictor import RunPredictor  # TensorFlow takes seconds to import

    work_dir = config.run.work_dir
    assert work_dir is not None, "a run has a folder"
    figures = run_figures(work_dir)
    predict = RunPredictor(work_dir)
    evaluation, figures["evaluation"] = evaluated(
        config, manifest, predict, threshold=threshold, batch_size=batch_size, split="valid"
    )
    page = report_page(config, manifest, figures, predict)
    output = Path(output or Path(work_dir, REPORT))
    files = report_files(figures["evaluation"], evaluation, *output_files(work_dir, "valid"))
    write_together(files | {output: page})
    return output, figures["evaluation"]


def run_figures(work_dir: str | Path) -> dict[str, Any]:
    """What the run itself has written: {`metrics`, `history`, `shares`} in plain types.

    Raises:
        InputError: a file of a finished run is missing or damaged.
    """
    try:
        metrics = json.loads(Path(work_dir, METRICS).read_text(encoding="utf-8"))
        history = read_history(work_dir)
        rows = history.astype(object).where(history.notna(), None).to_dict("records")
        return {"metrics": metrics, "history": rows, "shares": share_figures(read_ledger(work_dir))}
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{work_dir} is not the folder of a finished run. Expected {METRICS}, history.csv and {LEDGER} "
            f"in it: {error}"
        ) from None


def share_figures(ledger: "pd.DataFrame") -> dict[str, Any]:
    """What each subset was to get and got, over all epochs of a ledger."""
    total = int(ledger["draws"].sum())
    subsets = [
        {
            "subset": name,
            "share": float(rows["share"].iloc[-1]),
            "delivered": int(rows["draws"].sum()) / total,
            "draws": int(rows["draws"].sum()),
            "images": int(rows["images"].max()),
            "max_repeats": int(rows["max_repeats"].max()),
            "skipped": int(rows["skipped"].sum()) if "skipped" in rows else 0,
        }
        for name, rows in ledger.groupby("subset", sort=False)
    ]
    lowest = float(ledger["p_value"].min())
    return {"epochs": int(ledger["epoch"].nunique()), "lowest_p_value": lowest, "subsets": subsets}


def report_page(
    config: TrainConfig, manifest: "Manifest", figures: dict[str, Any], predict: "Predict"
) -> str:
    """The page as text.

    Args:
        config, manifest: as for `write_report`.
        figures: of `run_figures`, with `evaluation`.
        predict: the run's network.
    """
    work_dir, evaluation = config.run.work_dir, figures["evaluation"]
    assert work_dir is not None, "a run has a folder"
    history = read_history(work_dir)
    network, fingerprint = config.network, config.filled_in.fingerprint
    same_rows = fingerprint == manifest.training_fingerprint()
    pairs = PairReader(working_size=config.loading.working_size or 0, max_pixels=config.data.max_pixels)
    easel = Easel(manifest, pairs, predict, network.image_size, evaluation.get("threshold"))
    pictures = gallery(evaluation["examples"], easel)
    return render(
        config.kind.template,
        figures,
        name=Path(work_dir).resolve().name,
        config=config,
        architecture=config.kind.network.format(architecture=ARCHITECTURES[network.architecture]),
        sections=[row for row in SECTIONS.items() if row[0] not in config.kind.left_out],
        subsets=evaluation["subsets"],
        empty=[row["subset"] for row in evaluation["subsets"] if CLEAN_IMAGES in row],
        alarms={name: (SCORE_NAMES[name], form) for name, form in FALSE_ALARMS.items()},
        chosen_by=words_for(config.kind, config.optimisation.best_by),
        advice=next_steps(config, figures),
        notes=list(report_notes(config, figures, same_rows)),
        history_charts=history_charts(history, best_epoch(history)),
        frame=FRAME,
        columns={name: form for name, form in HISTORY_COLUMNS.items() if name in history},
        gallery=pictures,
        samples=training_samples(config, manifest) if same_rows else None,
        again=f"{typed('train')} --config {quoted(work_dir, CONFIG)} "
        f"--work_dir {quoted(f'{work_dir}-again')}",
        versions={package: version(package) for package in PACKAGES},
        fingerprints={
            "training rows": fingerprint or "unknown",
            "validation rows": evaluation["fingerprint"],
            "data when the manifests were made": manifest.fingerprint or "unknown",
        },
        options=config_rows(config),
        **PARTS_OF_PAGE[config.kind](config, evaluation),
    )


def foreground_parts_of_page(config: TrainConfig, evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """What the page needs for one foreground."""
    known = [row for row in evaluation["subsets"] if row.get("iou") is not None]
    weakest = known[0] if len(known) > 1 else None
    return {"threshold_charts": threshold_charts(evaluation), "weakest": weakest}


def class_parts_of_page(config: TrainConfig, evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """What the page needs for several classes, of pixels or of images."""
    kind, filled_in = config.kind, config.filled_in
    scored = [row[kind.class_score] for row in evaluation["all"]["classes"]]
    known = [number for number, value in enumerate(scored) if value is not None]
    return {
        "task": kind,
        "classes": [
            {"name": name, "colour": colour}
            for name, colour in zip(filled_in.classes, filled_in.class_colours, strict=True)
        ],
        "class_name": SCORE_NAMES[kind.class_score],
        "weakest": min(known, key=lambda number: scored[number], default=None),
        "full_matrix": len(scored) <= MOST_IN_MATRIX,
        "confusions": frequent_confusions(evaluation["all"]["confusion"]),
    }


PARTS_OF_PAGE: dict[Task, Callable[[TrainConfig, Mapping[str, Any]], dict[str, Any]]] = {
    FOREGROUND: foreground_parts_of_page,
    CLASSES: class_parts_of_page,
    CLASSIFICATION: class_parts_of_page,
}


def frequent_confusions(confusion: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """[(true, found)] of the most frequent confusions, the most frequent first, as ids."""
    counts = [
        (count, row, column)
        for row, line in enumerate(confusion)
        for column, count in enumerate(line)
        if row != column and count
    ]
    return [(row, column) for _, row, column in heapq.nlargest(MOST_CONFUSIONS, counts)]


def report_notes(config: TrainConfig, figures: Mapping[str, Any], same_rows: bool) -> Iterator[str]:
    """Sentences that the reader should see first."""
    if not same_rows:
        yield "The training rows in the manifests have changed since the run."
    evaluation = figures["evaluation"]
    empty = [row["subset"] for row in evaluation["subsets"] if not row["images"]]
    if empty:
        yield f"No validation images, and so no scores: subset {', '.join(empty)}."
    score = config.kind.main
    trained, found = figures["metrics"][score], evaluation["all"][score]
    usual = evaluation.get("threshold", THRESHOLD) == THRESHOLD
    if usual and found is not None and not math.isclose(trained, found, rel_tol=1e-6):
        why = "mixed precision" if config.run.mixed_precision else "changed validation data"
        yield f"The {SCORE_NAMES[score]} is not the one that training measured. A possible cause: {why}."


def config_rows(config: TrainConfig) -> list[tuple[str, str, str]]:
    """[(option, value, default)] as text."""
    defaults = TrainConfig().options()
    return [(name, str(value), str(defaults[name])) for name, value in config.options().items()]
