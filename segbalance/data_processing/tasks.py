"""The three tasks, and everything in which they differ that is no code.

`task_of` alone decides which task something is of. Whoever needs to know more asks the Task for it, or looks
up what to do in a table whose keys are the three tasks.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

TASKS = ("segmentation", "classification")  # as files and options name them
THRESHOLD = 0.5  # probability above which a pixel counts as found
POOLED = ("iou", "f1", "precision", "recall")
CLEAN_IMAGES = "clean_images"  # only the scores of a subset without foreground have it
# {score: its format} of such a subset; one pixel of millions must not be printed as 0.000.
FALSE_ALARMS = MappingProxyType({CLEAN_IMAGES: ".3f", "false_pixels": ".2g"})
ALARM_WORDS = (
    "of subsets without foreground: clean_images, the share of images in which nothing is found, and "
    "false_pixels, the share of pixels falsely found"
)
SCORE_NAMES = {
    "iou": "IoU", "f1": "F1", "precision": "precision", "recall": "recall", "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy", "boundary_iou": "boundary IoU",
    "image_iou": "mean IoU of images",
    "clean_images": "images without a false alarm", "false_pixels": "pixels falsely found",
}  # fmt: skip
CLASS_TILES = {
    "iou": "Mean IoU", "f1": "Mean F1", "precision": "Mean precision", "recall": "Mean recall",
    "accuracy": "Accuracy of the pixels", "image_iou": "Mean IoU of the images",
}  # fmt: skip
LABEL_TILES = {
    "balanced_accuracy": "Balanced accuracy", "accuracy": "Accuracy", "f1": "Mean F1",
    "precision": "Mean precision", "recall": "Mean recall",
}  # fmt: skip


def score_names(*scores: str) -> dict[str, str]:
    """{score: its name in a sentence}."""
    return {score: SCORE_NAMES[score] for score in scores}


@dataclass(frozen=True, eq=False)
class Task:
    """What a task is called, what its tables hold and its pages show; compared and hashed by identity.

    Args:
        name: one of TASKS, as files and options name it.
        with_masks: whether pixels have classes; else an image has one as a whole.
        with_threshold: whether a probability is compared with a threshold; else the most probable of several
            classes is found.
        truth: the column of a manifest that holds the truth: paths of masks, or labels.
        columns: of a manifest.
        loss: the usual one, as loss_terms.py reads it.
        pooled: scores of all images together, in history.csv behind `val_`.
        parts: scores of each part, in history.csv between `val_` and the part's name.
        score_curves: of the charts over the epochs: (score, name on the axis and in the title, what stands
            in front of the part's name, name of the line of all).
        example_order: the column of the images by which examples and the worst ones are chosen.
        subset_order: the score by which the subsets are put in order, the weakest first.
        class_score: the score of each class by which classes are judged.
        class_columns: {score: name} of the columns of a table of the classes.
        means: scores that evaluate.py prints of all images, with their names.
        told: scores that make_report.py prints.
        tiles: {score: title} of the report's summary and tables.
        compared: {score: title} of the columns of compare_runs.py's page.
        template: of the report, below reports/templates.
        left_out: sections of the report that it does not have.
        network: what stands for the architecture in a report, a format of `architecture`.
        card_network: the same in a model card.
        share_form: format of a class's share in all that was counted.
        counted: what is counted: pixels or images.
        likeness: what an export is compared by, share of those that differ.
        card_score: the score of the evaluation that a model card shows with its interval.
    """

    name: str
    with_masks: bool
    with_threshold: bool
    truth: str
    columns: tuple[str, ...]
    loss: str
    pooled: tuple[str, ...]
    parts: tuple[str, str]
    score_curves: tuple[tuple[str, str, str, str], ...]
    example_order: str
    subset_order: str
    class_score: str
    class_columns: Mapping[str, str]
    means: Mapping[str, str]
    told: tuple[str, ...]
    tiles: Mapping[str, str]
    compared: Mapping[str, str]
    template: str
    left_out: tuple[str, ...]
    network: str
    card_network: str
    share_form: str
    counted: str
    likeness: str
    card_score: str

    @property
    def main(self) -> str:
        """The score that chooses the best epoch, and that an export must not lose."""
        return self.pooled[0]


FOREGROUND = Task(
    name="segmentation",
    with_masks=True,
    with_threshold=True,
    truth="masks",
    columns=("images", "masks", "type", "width", "height", "coverage"),
    loss="dice+focal",
    pooled=POOLED,
    parts=("iou", "f1"),
    score_curves=(("iou", "IoU", "iou", "all"),),
    example_order="iou",
    subset_order="iou",
    class_score="iou",
    class_columns=score_names(*POOLED),
    means=MappingProxyType({}),
    told=("iou", "f1", "boundary_iou"),
    tiles=MappingProxyType({}),
    compared=score_names("iou", "f1", "precision", "recall", "boundary_iou", "image_iou"),
    template="report.html",
    left_out=("classes", "confusion"),
    network="{architecture}",
    card_network="{architecture}",
    share_form=".2%",
    counted="pixels",
    likeness="mask_pixels",
    card_score="iou",
)
CLASSES = replace(
    FOREGROUND,
    with_threshold=False,
    score_curves=(*FOREGROUND.score_curves, ("iou", "IoU of the classes", "class_iou", "mean")),
    means={"iou": "mean IoU", "f1": "mean F1"} | score_names("accuracy", "balanced_accuracy", "image_iou"),
    tiles=CLASS_TILES,
    compared=CLASS_TILES,
    template="class_report.html",
    left_out=("thresholds",),
)
CLASSIFICATION = replace(
    CLASSES,
    name="classification",
    with_masks=False,
    truth="label",
    columns=("images", "label", "type", "width", "height"),
    loss="bce",
    pooled=("balanced_accuracy", "accuracy", "f1", "precision", "recall"),
    parts=("recall", "f1"),
    score_curves=(("balanced_accuracy", "recall", "recall", "balanced accuracy"),),
    example_order="probability",
    subset_order="accuracy",
    class_score="recall",
    class_columns=score_names("f1", "precision", "recall"),
    means={"f1": "mean F1"} | score_names("accuracy", "balanced_accuracy"),
    told=("balanced_accuracy", "accuracy", "f1"),
    tiles=LABEL_TILES,
    compared=LABEL_TILES,
    template="label_report.html",
    left_out=("thresholds", "subsets"),
    network="classification",
    card_network="with a pooling head",
    share_form=".1%",
    counted="images",
    likeness="labels",
    card_score="f1",
)


def task_of(name: str | None, classes: object) -> Task:
    """The Task of a stored name (None for the usual one) and of its classes, false where there are none."""
    if name == CLASSIFICATION.name:
        return CLASSIFICATION
    return CLASSES if classes else FOREGROUND


def task_of_history(columns: Collection[str]) -> Task:
    """The Task whose scores stand in a history.csv, or a row of one, with these columns."""
    if f"val_{FOREGROUND.main}" not in columns:
        return CLASSIFICATION
    return task_of(FOREGROUND.name, any(name.startswith("val_class_iou_") for name in columns))
