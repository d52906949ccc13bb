"""The Markdown page beside an export: what the model learnt from, how good it is, its limits, how to run it.

The headings follow Mitchell et al. 2019, «Model Cards for Model Reporting».
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from segbalance.data_processing.manifest import Manifest

from segbalance.data_processing.manifest import by_type
from segbalance.data_processing.tasks import (
    CLASSES,
    CLASSIFICATION,
    CLEAN_IMAGES,
    FALSE_ALARMS,
    FOREGROUND,
    SCORE_NAMES,
    Task,
)
from segbalance.errors import InputError
from segbalance.exporting.exported_model import MODEL_NAMES, ExportDescription
from segbalance.model.architectures import ARCHITECTURES
from segbalance.runtime.verbs import named
from segbalance.train.best_by import POOLED, words_for
from segbalance.train.config import TrainConfig
from segbalance.train.folder import BEST, METRICS

EVALUATION = "evaluation_valid.json"
PLACES = ("data_root", "csv_dir", "work_dir", "encoder_weights")  # of one machine; a card is passed on
WEAK = 0.05  # of IoU, or recall, below all subsets together
HEADS = SCORE_NAMES | {"iou_low": "from", "iou_high": "to", "f1_low": "from", "f1_high": "to"}
LIMITS = {
    FOREGROUND: "Two classes, background and one foreground; touching objects come out as one.",
    CLASSES: "{classes} classes; touching objects of one class come out as one.",
    CLASSIFICATION: "{classes} classes; a photo of anything else gets one of them too.",
}


def model_card(
    config: TrainConfig, manifest: "Manifest", description: ExportDescription, check: dict[str, Any]
) -> str:
    """The card as Markdown text.

    Args:
        config: of the run, with its work_dir.
        description: of the export.
        check: what `export.export` returns.

    Raises:
        InputError: a JSON file of the run is damaged.
    """
    assert config.run.work_dir is not None, "a run has a folder"
    run = Path(config.run.work_dir)
    metrics, evaluation = read_scores(run / METRICS), read_scores(run / EVALUATION)
    head = config.kind.card_network.format(architecture=ARCHITECTURES[config.network.architecture])
    parts = {
        f"{description.task.capitalize()} model, {description.backbone} {head}": _summary(
            run, description, check
        ),
        "Use": f"```python\n{usage(description)}```\n\n{_notes(description)}",
        "Data": _data(config, manifest),
        "Scores": "\n\n".join(
            [_best_epoch(metrics, config.kind)]
            + ([_evaluation(evaluation, config.kind)] if evaluation else [])
        ),
        "Compared with the trained network": _comparison(check, description),
        "Limits": "\n".join(f"- {limit}" for limit in _limits(config, metrics, description)),
        "Config": _config(config),
    }
    title, *rest = parts
    sections = [f"# {title}\n\n{parts[title]}", *(f"## {name}\n\n{parts[name]}" for name in rest)]
    return "\n\n".join(sections) + "\n"


def read_scores(path: Path) -> dict[str, Any]:
    """A JSON object of a run, {} where the file does not exist. Raises InputError where it is damaged."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}. Delete it, or make it again.") from None
    rows = content.get("subsets", []) if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path}: expected a JSON object with a list of subsets. Make it again.")
    return content


def usage(description: ExportDescription) -> str:
    """Python that makes mask.png of photo.jpg, or prints its class, with the model in the same folder."""
    size, name = description.image_size, MODEL_NAMES[description.format]
    fixed, key = description.size == "fixed", description.output_type
    load, run = {
        "savedmodel": (f'tf.saved_model.load("{name}")', f'model.predict(PHOTO)["{key}"].numpy()'),
        "tflite": (
            f'tf.lite.Interpreter("{name}").get_signature_runner()', f'model(photo=PHOTO)["{key}"]'
        ),
        "onnx": (f'onnxruntime.InferenceSession("{name}")', 'model.run(None, {"photo": PHOTO})[0]'),
    }[description.format]  # fmt: skip
    library = "import onnxruntime" if description.format == "onnx" else "import tensorflow as tf"
    lines = ["import cv2", library, "", f"model = {load}"]
    lines += ['photo = cv2.imread("photo.jpg", cv2.IMREAD_COLOR_RGB)']
    seen = "photo"
    if fixed and description.working_size:
        lines += [
            f"scale = min(1, {description.working_size} / max(photo.shape[:2]))",
            "shrunk = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)",
        ]
        seen = "shrunk"
    taken = f"cv2.resize({seen}, ({size}, {size}))[None]" if fixed else "photo[None]"
    level = " / 256" if description.quantize == "int8" and key == "probability" else ""
    if not description.kind.with_masks:
        lines += [f"{key} = {run.replace('PHOTO', taken)}[0, 0, 0]{level}"]
        found = f"{key}[0]" if key == "mask" else f"{key}.argmax()"
        return "\n".join([*lines, f"print({list(description.classes)!r}[{found}])"]) + "\n"
    several = not description.kind.with_threshold and key == "probability"
    lines += [f"{key} = {run.replace('PHOTO', taken)}[0{'' if several else ', ..., 0'}]{level}"]
    if fixed:
        nearest = ", interpolation=cv2.INTER_NEAREST_EXACT" if key == "mask" else ""
        lines += [f"{key} = cv2.resize({key}, photo.shape[1::-1]{nearest})"]
    mask = "mask" if key == "mask" else f'(probability > {description.threshold:g}).astype("uint8")'
    if several:
        mask = 'probability.argmax(axis=-1).astype("uint8")'
    lines += [f'cv2.imwrite("mask.png", {mask}{" * 255" if description.kind.with_threshold else ""})']
    return "\n".join(lines) + "\n"


def _summary(run: Path, description: ExportDescription, check: dict[str, Any]) -> str:
    with open(run / BEST, "rb") as file:
        weights = hashlib.file_digest(file, "sha256").hexdigest()
    sides = "H, W" if description.size == "dynamic" else ", ".join([str(description.image_size)] * 2)
    sides_out, channels = sides, 1
    answer = "float32 in [0, 1], the probability of foreground"
    if description.output_type == "mask":
        answer = f"uint8 class ids, 1 where the probability is above {description.threshold:g}"
    elif description.quantize == "int8":
        answer = "uint8, 256 times the probability of foreground"
    classes = ", ".join(f"{number} {cell(name)}" for number, name in enumerate(description.classes))
    if not description.kind.with_threshold:
        pairs = zip(description.classes, description.class_colours, strict=True)
        classes = ", ".join(f"{number} {cell(name)} {colour}" for number, (name, colour) in enumerate(pairs))
        answer = answer.replace("of foreground", "of each class")
        sides_out = sides if description.kind.with_masks else "1, 1"
        channels = 1 if description.output_type == "mask" else len(description.classes)
        if description.output_type == "mask":
            each = "pixel" if description.kind.with_masks else "photo"
            answer = f"uint8 class ids, the most probable of each {each}"
    rows = [
        ("file", f"`{MODEL_NAMES[description.format]}`, {check['megabytes']:.1f} MB"),
        ("format", f"{description.format}, quantisation {description.quantize}"),
        ("input", f"photo: uint8 (B, {sides}, 3), RGB, 0 to 255; normalisation is inside"),
        ("output", f"{description.output_type}: (B, {sides_out}, {channels}), {answer}"),
        ("classes", classes),
        ("weights", f"`{BEST}`, SHA-256 {weights}"),
    ]
    return table(["", ""], rows)


def _notes(description: ExportDescription) -> str:
    notes = [f"Photos must stand upright; the network sees them at {description.image_size} pixels a side."]
    if description.format == "savedmodel":
        notes.append("A SavedModel is a program that may read and write files: open only those you trust.")
    if description.format == "tflite":
        notes.append(
            "Without TensorFlow, `ai_edge_litert.interpreter.Interpreter` (ai-edge-litert) does the same."
        )
    notes.append(f"`{named('predict')} --model` runs it on folders of photos.")
    return " ".join(notes)


def _data(config: TrainConfig, manifest: "Manifest") -> str:
    valid = by_type(manifest.valid)
    names = [*manifest.train, *(name for name in valid if name not in manifest.train)]
    rows = [(name, len(manifest.train.get(name, ())), len(valid.get(name, ()))) for name in names]
    rows.append(("all", sum(row[1] for row in rows), len(manifest.valid)))
    own = config.filled_in.fingerprint
    same = "the run's" if own == manifest.training_fingerprint() else "no longer the run's"
    return (
        f"{table(['subset', 'training images', 'validation images'], rows)}\n\n"
        f"Folder `{Path(manifest.data_root).name}`; fingerprint of the contents "
        f"{manifest.fingerprint or 'not known'}, of the training rows "
        f"{own or 'not known'}. The manifests are {same}."
    )


def _best_epoch(metrics: dict[str, Any], kind: Task) -> str:
    """The scores of the subsets that training wrote."""
    if not metrics:
        return f"The run has no {METRICS}."
    rows = [*metrics.get("subsets", []), metrics | {"subset": "all"}]
    heads = {"images": "training images", "valid": "validation images"}
    shown = score_table(rows, ("subset", *heads, *kind.parts, *_alarms(rows)), heads)
    best_by = metrics.get("best_by", POOLED)  # earlier versions knew no other
    chosen = "" if best_by == POOLED else f", chosen by the {words_for(kind, best_by)}"
    return f"Validation at the best epoch, {metrics.get('epoch')}{chosen}:\n\n{shown}"


def _evaluation(evaluation: Mapping[str, Any], kind: Task) -> str:
    """The scores of the subsets, or of the classes, with intervals."""
    score = kind.card_score
    others = [name for name in ("f1", "precision", "recall") if name != score]
    shown = EVALUATED[kind](evaluation, (score, f"{score}_low", f"{score}_high", *others))
    return f"`{EVALUATION}`, with the bootstrap interval of the {HEADS[score]}:\n\n{shown}"


def _of_subsets(evaluation: Mapping[str, Any], keys: Sequence[str]) -> str:
    rows = [*evaluation.get("subsets", []), {"subset": "all"} | evaluation.get("all", {})]
    return score_table(rows, ("subset", "images", *keys, *_alarms(rows)))


def _alarms(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Scores of false alarms, where a subset has them."""
    return [name for name in FALSE_ALARMS if any(row.get(name) is not None for row in rows)]


def _of_classes(evaluation: Mapping[str, Any], keys: Sequence[str]) -> str:
    everything = evaluation.get("all", {})
    classes = [*everything.get("classes", []), everything | {"class": "mean"}]
    return score_table(classes, ("class", *keys, "true_share"))


def _of_classes_and_subsets(evaluation: Mapping[str, Any], keys: Sequence[str]) -> str:
    means = _of_subsets(evaluation, ("iou", "accuracy", "balanced_accuracy"))
    return f"{_of_classes(evaluation, keys)}\n\nOf the subsets, means over the classes:\n\n{means}"


def _of_classes_and_all(evaluation: Mapping[str, Any], keys: Sequence[str]) -> str:
    # The subsets are the classes.
    everything = evaluation.get("all", {})
    accuracy, balanced = (cell(everything.get(name)) for name in ("accuracy", "balanced_accuracy"))
    return f"{_of_classes(evaluation, keys)}\n\nAccuracy {accuracy}, balanced accuracy {balanced}."


EVALUATED: dict[Task, Callable[[Mapping[str, Any], Sequence[str]], str]] = {
    FOREGROUND: _of_subsets,
    CLASSES: _of_classes_and_subsets,
    CLASSIFICATION: _of_classes_and_all,
}


def _comparison(check: dict[str, Any], description: ExportDescription) -> str:
    score, likeness = description.kind.main, description.kind.likeness
    keys = ("subset", "images", *(f"{score}_{kind}" for kind in ("keras", "export", "lost")))
    rows = [
        {key: f"{row[key]:z.4f}" if key.startswith(score) else row[key] for key in keys}
        for row in [*check["subsets"], {"subset": "all"} | check]
    ]
    title = SCORE_NAMES[score]
    heads = dict(zip(keys[2:], (f"{title}, network", f"{title}, export", "lost"), strict=True))
    lines = [score_table(rows, keys, heads), ""]
    if check["largest_difference"] is not None:
        lines.append(f"Largest difference of the probabilities {check['largest_difference']:.2g}.")
    if check["largest_difference_resized"] is not None:
        lines.append(f"With the resizing inside the model: {check['largest_difference_resized']:.2g}.")
    place = "the photos' own size" if description.size == "dynamic" else "the size of the input"
    share = f"{check[f'{likeness}_differing']:.2%} of the {likeness.replace('_', ' ')}"
    lines.append(f"{share} differ, at {place}.")
    return "\n".join(lines)


def _limits(config: TrainConfig, metrics: dict[str, Any], description: ExportDescription) -> Iterator[str]:
    yield LIMITS[description.kind].format(classes=len(description.classes))
    side = config.network.image_size
    yield (
        f"Photos are seen at {side}x{side}: detail finer than a pixel of that is lost, "
        "and photos far from square are squeezed."
    )
    yield (
        "The scores are of validation photos like the training photos; other cameras, light or objects are "
        "not known."
    )
    yield "The best epoch was chosen on the same validation photos, so that the scores flatter a little."
    score = config.kind.parts[0]
    everything = metrics.get(score)
    for row in metrics.get("subsets", []):
        if row.get(CLEAN_IMAGES) is not None:
            share = f"{1 - row[CLEAN_IMAGES]:.1%} of its images"
            yield f"Subset {cell(row.get('subset'))} has no foreground: {share} have false alarms."
        elif row.get(score) is None:
            yield f"Subset {cell(row.get('subset'))} has no validation images: nothing is known of it."
        elif everything is not None and row[score] < everything - WEAK:
            own = f"{SCORE_NAMES[score]} {row[score]:.3f}, all together {everything:.3f}"
            yield f"Subset {cell(row.get('subset'))} is weak: {own}."
    if description.quantize == "int8":
        yield "Its 8-bit numbers were fitted to training photos; on others they may cost more."
    yield "The probabilities were not calibrated."


def _config(config: TrainConfig) -> str:
    shown = {name: value for name, value in config.options().items() if name not in PLACES}
    weights = config.network.encoder_weights
    if weights in ("imagenet", "none"):
        shown["encoder_weights"] = weights
    text = yaml.safe_dump(shown, sort_keys=False, allow_unicode=True)
    return "\n".join(f"    {line}" for line in text.splitlines())


def table(head: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table; numbers with a point get three digits after it, None stays empty."""
    lines = [head, ["---"] * len(head), *([cell(value) for value in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def score_table(
    rows: Iterable[Mapping[str, Any]], keys: Sequence[str], heads: Mapping[str, str] | None = None
) -> str:
    """A Markdown table of some entries of dicts, empty where one has none.

    Args:
        heads: {key: its head} where that is not its name.
    """
    heads = HEADS | dict(heads or {})
    names = [heads.get(key, key.replace("_", " ")) for key in keys]
    return table(names, [[_formatted(key, row.get(key)) for key in keys] for row in rows])


def _formatted(key: str, value: object) -> object:
    """What `cell` gets: rare pixels with the digits that count."""
    return value if value is None or key not in FALSE_ALARMS else f"{value:{FALSE_ALARMS[key]}}"


def cell(value: object) -> str:
    """A value as text that cannot break a table or become a tag."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}"
    return str(value).replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
