"""The options of a training run in groups, each with its own checks.

Every option stands once: its name and type, its default, and its help, which is the docstring.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from segbalance.balancing.plan import AUGMENT, LOSS_WEIGHTS, STRATEGIES, option_problems
from segbalance.balancing.skipping import WAYS
from segbalance.data_processing.tasks import TASKS
from segbalance.dataloader.pair_cache import KINDS
from segbalance.errors import InputError
from segbalance.files.pixel_limit import MAX_PIXELS, pixel_limit_problem
from segbalance.model.architectures import (
    ARCHITECTURES,
    BACKBONES,
    DECODER_FILTERS,
    WITH_DECODER_FILTERS,
    size_problem,
)
from segbalance.model.loss_terms import DEFAULT_LOSS, loss_terms
from segbalance.train.best_by import BEST_BY, POOLED

SEEDS = 2**32  # what NumPy and TensorFlow take as a seed


class Group:
    """What the groups share: everything that is wrong in one is told at once."""

    def __post_init__(self) -> None:
        problems = [problem for problem in self.problems() if problem]
        if problems:
            raise InputError("\n".join(problems))

    def problems(self) -> Iterator[str | None]:
        """Yields what is wrong with the values, one sentence each."""
        yield from ()

    def _fill(self, **values: Any) -> None:
        """Sets fields of a frozen dataclass, in `__post_init__` alone."""
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _not_positive(self, *names: str) -> Iterator[str]:
        for name in names:
            value = getattr(self, name)
            if value is not None and value <= 0:
                yield f"{name} must be greater than 0, got {value}"

    def _negative(self, *names: str) -> Iterator[str]:
        for name in names:
            if (getattr(self, name) or 0) < 0:
                yield f"{name} must not be negative, got {getattr(self, name)}"

    def _not_finite(self, *names: str) -> Iterator[str]:
        for name in names:
            if not math.isfinite(getattr(self, name) or 0):
                yield f"{name} must be a finite number, got {getattr(self, name)}"


def _named(values: dict[str | int, Any] | None) -> dict[str, Any] | None:
    """The mapping with its subsets as text: YAML reads a subset called 4 as a number."""
    return values if values is None else {str(subset): value for subset, value in values.items()}


@dataclass(frozen=True)
class DataOptions(Group):
    """Data: which images, and what is done to them.

    Args:
        data_root: Folder of the data; the one in manifest.json by default.
        csv_dir: Folder of the manifests.
        task: `segmentation` or `classification`; what the manifests are for by default.
        transforms: Which subset gets which pipeline, as in '{"4": "strong", "default": "train"}', or a Python
            file of your own that says so; by default the transforms.py of the folder that train.py lies in.
        allow_outside: Read files that rows name out of the data root, by `..` or a symbolic link.
        max_pixels: Most pixels of an image or mask, by its header; larger files are not decoded.
    """

    data_root: str | None = None
    csv_dir: str = "csv_file"
    task: Literal[TASKS] | None = None
    transforms: dict[str | int, str] | str | None = None
    allow_outside: bool = False
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.transforms, dict):
            self._fill(transforms=_named(self.transforms))

    def problems(self) -> Iterator[str | None]:
        """Yields what is wrong with the values, one sentence each."""
        yield pixel_limit_problem(self.max_pixels)
        if isinstance(self.transforms, str) and not self.transforms.endswith(".py"):
            yield (
                'transforms must be like {"4": "strong", "default": "train"}, or a file that ends in .py; '
                f"got {self.transforms!r}"
            )


@dataclass(frozen=True)
class BalanceOptions(Group):
    """Balance: how images are drawn and how they count in the loss.

    Args:
        balance: How images are drawn. `uniform`: every subset the same share. `none`: shares by size.
            `power`: shares by size to the power of balance_alpha. `shares`: those of --shares.
            `oversample`: exact passes in which small subsets are repeated. `exact`: the same number from each
            subset, or by --shares, in every batch. `loss`: short for `none` with loss_weights `subset`;
            `pixel`: with loss_weights `pixel`.
        balance_alpha: Exponent of balance `power`, 0 (uniform) to 1 (none); 0.5 by default.
        shares: Shares of balance `shares` or `exact`, as in '{"0": 0.4, "default": 1}'; they are normalised,
            and 0 leaves a subset out.
        oversample_only: The subsets that balance `oversample` repeats up to the largest; all by default.
        oversample_below: Subsets of fewer images are repeated, besides those of oversample_only.
        copies: How often `oversample` repeats a subset, as in '{"4": 3}'; the others then stay as they are.
            A default is for the subsets that neither it nor the two options above name.
        oversample_limit: Most repeats of one image in a pass of `oversample`.
        loss_weights: How images count in the training loss. `subset`: inversely to their subset's
            frequency. `pixel`: classes inversely to their coverage.
        augment: `all` draws, or `copies`: an image's first draw in an epoch is only resized.
    """

    balance: Literal[STRATEGIES] = "uniform"
    balance_alpha: float | None = None
    shares: dict[str | int, float] | None = None
    oversample_only: list[str | int] = field(default_factory=list)
    oversample_below: int | None = None
    copies: dict[str | int, float] | None = None
    oversample_limit: int | None = None
    loss_weights: Literal[LOSS_WEIGHTS] = "none"
    augment: Literal[AUGMENT] = "all"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._fill(shares=_named(self.shares), copies=_named(self.copies))
        self._fill(oversample_only=[str(subset) for subset in self.oversample_only])

    def problems(self) -> Iterator[str | None]:
        """Yields what is wrong with the values, one sentence each."""
        yield from option_problems(self)


@dataclass(frozen=True)
class NetworkOptions(Group):
    """Network: what is trained.

    Args:
        image_size: Side of the model's input in pixels, a multiple of 32, or of 48 for architecture pspnet.
        architecture: U-Net, FPN, LinkNet or PSPNet of segmentation-models; for segmentation alone.
        backbone: Encoder, any of segmentation-models'.
        encoder_weights: `imagenet` (downloaded at first use), `none`, or a weights file.
        decoder_filters: Channels of the decoder's five stages, from the deepest up, 256 128 64 32 16 by
            default. For architecture unet alone: the others have no such stages, or take the encoder's.
    """

    image_size: int = 384
    architecture: Literal[tuple(ARCHITECTURES)] = "unet"
    backbone: str = "efficientnetb4"
    encoder_weights: str = "imagenet"
    decoder_filters: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.architecture in WITH_DECODER_FILTERS and not self.decoder_filters:
            self._fill(decoder_filters=list(DECODER_FILTERS))

    def problems(self) -> Iterator[str | None]:
        """Yields what is wrong with the values, one sentence each."""
        yield from self._not_positive("image_size")
        yield size_problem(self.architecture, self.backbone, self.image_size)
        if self.backbone not in BACKBONES:
            yield f"backbone {self.backbone!r} is unknown; known: {', '.join(BACKBONES)}"
        if self.encoder_weights not in ("imagenet", "none") and not Path(self.encoder_weights).is_file():
            yield f"encoder_weights {self.encoder_weights!r} is neither imagenet, none nor a file"
        filters = self.decoder_filters
        if filters and self.architecture not in WITH_DECODER_FILTERS:
            wanted = " or ".join(WITH_DECODER_FILTERS)
            yield (
                f"decoder_filters works only with architecture {wanted}, got architecture "
                f"{self.architecture}; leave decoder_filters out"
            )
        elif filters and (len(filters) != len(DECODER_FILTERS) or min(filters) <= 0):
            yield f"decoder_filters must be five numbers greater than 0, got {filters}"


@dataclass(frozen=True)
class OptimisationOptions(Group):
    """Optimisation: steps, learning rate and loss.

    Args:
        batch_size: Images a step, over all devices.
        epochs: Number of epochs.
        steps_per_epoch: Steps an epoch; training images / batch size, rounded up, by default.
        learning_rate: Highest learning rate, after the warm-up and before the cosine decay.
        warmup_epochs: Epochs over which the learning rate rises from 0.
        weight_decay: Of AdamW, for all weights but biases and normalisation.
        freeze_epochs: For so many epochs the decoder learns alone; the encoder and its normalisation stay as
            encoder_weights are.
        unfreeze_learning_rate: Takes learning_rate's place when the encoder begins to learn; the decay goes
            on, so that halfway the rate is about half of this. A tenth of learning_rate by default.
        loss: `dice`, `jaccard`, `focal`, `bce` (cross-entropy, binary or of several classes), `tversky`, or
            a sum of them, with factors or without, as in 0.5*dice+1*focal. dice+focal by default, bce for
            classification.
        patience: Stop after so many epochs without a better score of the validation, the one that best_by
            names; never by default.
        best_by: Score of the validation by which the best epoch is chosen, whose weights are kept. `pooled`:
            the IoU of all images together (balanced accuracy). `mean`: the mean IoU (recall) of the subsets.
            `weakest`: that of the weakest subset. Subsets without foreground take no part in the latter two.
    """

    batch_size: int = 32
    epochs: int = 100
    steps_per_epoch: int | None = None
    learning_rate: float = 0.001
    warmup_epochs: float = 1.0
    weight_decay: float = 0.0001
    freeze_epochs: int = 0
    unfreeze_learning_rate: float | None = None
    loss: str | None = None
    patience: int | None = None
    best_by: Literal[BEST_BY] = POOLED

    def problems(self) -> Iterator[str | None]:
        """Yields what is wrong with the values, one sentence each."""
        yield from self._not_positive(
            "batch_size", "epochs", "steps_per_epoch", "learning_rate", "patience", "unfreeze_learning_rate"
        )
        rates = "learning_rate", "unfreeze_learning_rate"
        yield from self._not_finite(*rates, "warmup_epochs", "weight_decay")
        yield from self._negative("warmup_epochs", "weight_decay", "freeze_epochs")
        if self.unfreeze_learning_rate is not None and not 0 < self.freeze_epochs < self.epochs:
            yield (
                "unfreeze_learning_rate works only with freeze_epochs greater than 0 and less than "
                f"epochs, got freeze_epochs {self.freeze_epochs} and epochs {self.epochs}"
            )
        try:
            loss_terms(self.loss or DEFAULT_LOSS)
        except InputError as error:
            yield str(error)


@dataclass(frozen=True)
class LoadingOptions(Group):
    """Loading: how photos are read on their way to the network.

    Args:
        working_size: Long side of photos after decoding, before augmentation; smaller ones stay as they are.
            Twice image_size by default, 0 leaves all as they are.
        cache: Where decoded pairs are kept: `ram`, `disk` (in the user's cache folder, for later runs too;
            scripts/clear_cache.py removes it) or `off`.
        cache_gb: Most that the cache may take, 10**9 bytes each.
        num_workers: Processes that read and augment the training images; 0 for threads. The batches are the
            same. One a core by default with a GPU; without one 0, for the model then needs the cores.
        on_bad_file: What to do about a training image that cannot be read any more. `stop`, or `skip`: the
            next of its subset takes its place, and skipped.csv in the run folder says so.
        max_bad_files: Images that on_bad_file `skip` does without; one more stops the training.
    """

    working_size: int | None = None
    cache: Literal[KINDS] = "off"
    cache_gb: float = 4.0
    num_workers: int | None = None
    on_bad_file: Literal[WAYS] = "stop"
    max_bad_files: int = 10

    def problems(self) -> Iterator[str | None]:
        """Yields what is wrong with the values, one sentence each."""
        yield from self._not_positive("cache_gb")
        yield from self._not_finite("cache_gb")
        yield from self._negative("num_workers", "max_bad_files")


@dataclass(frozen=True)
class RunOptions(Group):
    """Run: where it lands, what it runs on, what it records.

    Args:
        work_dir: Folder of the run, which it keeps to itself; runs/<date>-<time> by default.
        device: Numbers of the GPUs; without a GPU the CPU is used.
        mixed_precision: `auto` is float16 on a GPU and off on a CPU; True is float16, False is off.
        seed: Of weights, draws and augmentation.
        log: Where the curves go besides history.csv.
        report: Write report.html at the end, after an evaluation of the best weights.
        save_every: Steps between two checkpoints, besides those at the end of each epoch.
        max_minutes: Ends the training in time, so many minutes after the program's start, with a checkpoint
            and status 75; --resume goes on. Ten seconds, or twice the longest step so far, are kept for
            saving. 230 for a cluster's limit of four hours, say; none by default.
    """

    work_dir: str | None = None
    device: list[int] = field(default_factory=lambda: [0])
    mixed_precision: bool | Literal["auto", "float16", "bfloat16"] = "auto"
    seed: int = 0
    log: Literal["none", "tensorboard", "wandb"] = "none"
    report: bool = True
    save_every: int | None = None
    max_minutes: float | None = None

    def problems(self) -> Iterator[str | None]:
        """Yields what is wrong with the values, one sentence each."""
        yield from self._not_positive("save_every", "max_minutes")
        yield from self._not_finite("max_minutes")
        yield from self._negative("seed")
        if self.seed >= SEEDS:
            yield f"seed must be less than {SEEDS}, got {self.seed}"
        if not self.device or min(self.device) < 0 or len(set(self.device)) != len(self.device):
            yield f"device must be different GPU numbers from 0 on, got {self.device}"
