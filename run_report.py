"""report.html of a run: one page that stands alone, made from the run folder and its best weights."""

import dataclasses
import json
import math
import shlex
from importlib.metadata import version
from pathlib import Path

from architectures import ARCHITECTURES
from charts import FRAME, history_charts, threshold_charts
from config import CONFIG, THRESHOLD, TrainConfig
from errors import InputError
from ledger import LEDGER, read_ledger
from manifest import write_together
from pages import render
from pair_cache import PairReader
from report_pictures import gallery, training_samples
from run_evaluation import evaluate_table, evaluation_report, output_files, report_files
from run_folder import METRICS, best_epoch, read_history

REPORT = "report.html"
HISTORY_COLUMNS = {
    "epoch": ".0f",
    "loss": ".4f",
    "val_loss": ".4f",
    "val_iou": ".3f",
    "val_f1": ".3f",
    "val_precision": ".3f",
    "val_recall": ".3f",
    "learning_rate": ".2e",
    "seconds": ".1f",
}
PACKAGES = ("tensorflow", "tf-keras", "segmentation-models", "albumentations", "numpy")


def write_report(config, manifest, *, threshold=THRESHOLD, batch_size=None, output=None):
    """Evaluates a run on its validation images and writes the page and evaluation_valid.json and .csv.

    Args:
        config: TrainConfig of a finished run, with its work_dir.
        manifest: its Manifest.
        threshold: above which a pixel counts as found.
        batch_size: that of the run by default.
        output: path of the page; report.html in the run folder by default.

    Returns:
        (Path of the page, the evaluation as it is in the JSON file)

    Raises:
        InputError: the folder holds no finished run, or its data is not there.
    """
    from prediction import RunPredictor  # TensorFlow takes seconds to import

    work_dir = config.work_dir
    figures = run_figures(work_dir)
    predict = RunPredictor(work_dir)
    evaluation = evaluate_table(config, manifest, predict, threshold=threshold, batch_size=batch_size)
    figures["evaluation"] = evaluation_report(config, manifest, evaluation, split="valid")
    page = report_page(config, manifest, figures, predict)
    output = Path(output or Path(work_dir, REPORT))
    files = report_files(figures["evaluation"], evaluation, *output_files(work_dir, "valid"))
    write_together(files | {output: page})
    return output, figures["evaluation"]


def run_figures(work_dir):
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
            f"{work_dir} is not the folder of a finished run, whose {METRICS}, history.csv and {LEDGER} are "
            f"needed: {error}"
        ) from None


def share_figures(ledger):
    """What each subset was to get and got, over all epochs of a ledger (DataFrame)."""
    total = int(ledger["draws"].sum())
    subsets = [
        {
            "subset": name,
            "share": float(rows["share"].iloc[-1]),
            "delivered": int(rows["draws"].sum()) / total,
            "draws": int(rows["draws"].sum()),
            "images": int(rows["images"].max()),
            "max_repeats": int(rows["max_repeats"].max()),
        }
        for name, rows in ledger.groupby("subset", sort=False)
    ]
    lowest = float(ledger["p_value"].min())
    return {"epochs": int(ledger["epoch"].nunique()), "lowest_p_value": lowest, "subsets": subsets}


def report_page(config, manifest, figures, predict):
    """The page as text.

    Args:
        config, manifest: as for `write_report`.
        figures: of `run_figures`, with `evaluation`.
        predict: function of uint8 (B, S, S, 3) photos that returns float32 (B, S, S, 1) probabilities.
    """
    work_dir, evaluation = config.work_dir, figures["evaluation"]
    history = read_history(work_dir)
    known = [row for row in evaluation["subsets"] if row["iou"] is not None]
    same_rows = config.fingerprint == manifest.training_fingerprint()
    pairs = PairReader(working_size=config.working_size, max_pixels=config.max_pixels)
    pictures = gallery(
        evaluation["examples"], manifest, pairs, predict, config.image_size, evaluation["threshold"]
    )
    return render(
        "report.html",
        figures,
        name=Path(work_dir).resolve().name,
        config=config,
        architecture=ARCHITECTURES[config.architecture],
        subsets=evaluation["subsets"],
        weakest=known[0] if len(known) > 1 else None,
        notes=list(report_notes(config, figures, same_rows)),
        history_charts=history_charts(history, best_epoch(history)),
        threshold_charts=threshold_charts(evaluation),
        frame=FRAME,
        columns=HISTORY_COLUMNS,
        gallery=pictures,
        samples=training_samples(config, manifest) if same_rows else None,
        again=f"python train.py --config {quoted(work_dir, CONFIG)} --work_dir {quoted(f'{work_dir}-again')}",
        versions={package: version(package) for package in PACKAGES},
        fingerprints={
            "training rows": config.fingerprint or "unknown",
            "validation rows": evaluation["fingerprint"],
            "data when the manifests were made": manifest.fingerprint or "unknown",
        },
        options=config_rows(config),
    )


def quoted(*parts):
    """A path as a word of the command line."""
    return shlex.quote(str(Path(*parts)))


def report_notes(config, figures, same_rows):
    """Sentences that the reader should see first."""
    if not same_rows:
        yield "The training rows in the manifests are no longer those of the run."
    evaluation = figures["evaluation"]
    empty = [row["subset"] for row in evaluation["subsets"] if not row["images"]]
    if empty:
        yield f"Without validation images, and so without scores: subset {', '.join(empty)}."
    trained = figures["metrics"]["iou"]
    if evaluation["threshold"] == THRESHOLD and not math.isclose(
        trained, evaluation["all"]["iou"], rel_tol=1e-6
    ):
        why = "mixed precision" if config.mixed_precision else "other validation data"
        yield f"The IoU differs from that which training measured, as with {why}."


def config_rows(config):
    """[(option, value, default)] as text."""
    defaults = dataclasses.asdict(TrainConfig())
    return [(name, str(value), str(defaults[name])) for name, value in dataclasses.asdict(config).items()]
