"""What a training run can be told: one dataclass for the command line, the YAML file and the run folder."""

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import yaml

from segbalance.balancing.plan import AUGMENT, LOSS_WEIGHTS, STRATEGIES, option_problems
from segbalance.balancing.skipping import WAYS
from segbalance.data_processing.classes import Classes, checked_classes
from segbalance.data_processing.tasks import TASKS, Task, task_of
from segbalance.dataloader.pair_cache import KINDS
from segbalance.errors import InputError
from segbalance.files.pixel_limit import MAX_PIXELS, pixel_limit_problem
from segbalance.files.writing import write_atomically
from segbalance.model.architectures import ARCHITECTURES, DECODER_FILTERS, WITH_DECODER_FILTERS, size_problem
from segbalance.model.loss_terms import DEFAULT_LOSS, loss_terms
from segbalance.runtime.command_line import parse_options
from segbalance.runtime.verbs import named, usage
from segbalance.train.trust import trusted_transforms

CONFIG = "config.yaml"
SEEDS = 2**32  # what NumPy and TensorFlow take as a seed
# What train.py fills in, so that every run has it.
RESOLVED = ("data_root", "working_size", "steps_per_epoch", "transforms")

BACKBONES = (
    "vgg16 vgg19 resnet18 resnet34 resnet50 resnet101 resnet152 resnext50 resnext101 seresnet18 seresnet34 "
    "seresnet50 seresnet101 seresnet152 seresnext50 seresnext101 senet154 inceptionv3 inceptionresnetv2 "
    "densenet121 densenet169 densenet201 mobilenet mobilenetv2 efficientnetb0 efficientnetb1 efficientnetb2 "
    "efficientnetb3 efficientnetb4 efficientnetb5 efficientnetb6 efficientnetb7"
).split()


@dataclass(frozen=True)
class TrainConfig:
    """Options of a training run.

    Args:
        data_root: Folder of the data; the one in manifest.json by default.
        csv_dir: Folder of the manifests.
        task: `segmentation` or `classification`; what the manifests are for by default.
        allow_outside: Read files that rows name out of the data root, by `..` or a symbolic link.
        max_pixels: Most pixels of an image or mask, by its header; larger files are not decoded.
        work_dir: Folder of the run; runs/<date>-<time> by default.
        image_size: Side of the model's input in pixels, a multiple of 32, or of 48 for architecture pspnet.
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
        architecture: U-Net, FPN, LinkNet or PSPNet of segmentation-models; for segmentation alone.
        backbone: Encoder, any of segmentation-models'.
        encoder_weights: `imagenet` (downloaded at first use), `none`, or a weights file.
        decoder_filters: Channels of the decoder's five stages, from the deepest up, 256 128 64 32 16 by
            default. For architecture unet alone: the others have no such stages, or take the encoder's.
        mixed_precision: `auto` is float16 on a GPU and off on a CPU; True is float16, False is off.
        device: Numbers of the GPUs; without a GPU the CPU is used.
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
        transforms: Which subset gets which pipeline, as in '{"4": "strong", "default": "train"}', or a Python
            file of your own that says so; by default the transforms.py of the folder that train.py lies in.
        seed: Of weights, draws and augmentation.
        log: Where the curves go besides history.csv.
        report: Write report.html at the end, after an evaluation of the best weights.
        patience: Stop after so many epochs without a better validation IoU (balanced accuracy); never
            by default.
        save_every: Steps between two checkpoints, besides those at the end of each epoch.
        decay_start: Step at which the decay of the learning rate begins; filled in where a run goes on for
            another number of epochs.
        fingerprint: Of the training rows; filled in by train.py, compared when a sample is drawn again.
        transforms_source: Hash (SHA-256) of the file that functions among the transforms come from; filled in
            by train.py.
        classes: Their names by id; filled in by train.py, empty for background and foreground alone.
        class_colours: Their colours; filled in by train.py.
    """

    data_root: str | None = None
    csv_dir: str = "csv_file"
    task: Literal[TASKS] | None = None
    allow_outside: bool = False
    max_pixels: int = MAX_PIXELS
    work_dir: str | None = None
    image_size: int = 384
    working_size: int | None = None
    cache: Literal[KINDS] = "off"
    cache_gb: float = 4.0
    num_workers: int | None = None
    on_bad_file: Literal[WAYS] = "stop"
    max_bad_files: int = 10
    batch_size: int = 32
    epochs: int = 100
    steps_per_epoch: int | None = None
    learning_rate: float = 0.001
    warmup_epochs: float = 1.0
    weight_decay: float = 0.0001
    freeze_epochs: int = 0
    unfreeze_learning_rate: float | None = None
    loss: str | None = None
    architecture: Literal[tuple(ARCHITECTURES)] = "unet"
    backbone: str = "efficientnetb4"
    encoder_weights: str = "imagenet"
    decoder_filters: list[int] = field(default_factory=list)
    mixed_precision: bool | Literal["auto", "float16", "bfloat16"] = "auto"
    device: list[int] = field(default_factory=lambda: [0])
    balance: Literal[STRATEGIES] = "uniform"
    balance_alpha: float | None = None
    shares: dict[str | int, float] | None = None
    oversample_only: list[str | int] = field(default_factory=list)
    oversample_below: int | None = None
    copies: dict[str | int, float] | None = None
    oversample_limit: int | None = None
    loss_weights: Literal[LOSS_WEIGHTS] = "none"
    augment: Literal[AUGMENT] = "all"
    transforms: dict[str | int, str] | str | None = None
    seed: int = 0
    log: Literal["none", "tensorboard", "wandb"] = "none"
    report: bool = True
    patience: int | None = None
    save_every: int | None = None
    decay_start: int = 0
    fingerprint: str | None = None
    transforms_source: str | None = None
    classes: list[str] = field(default_factory=list)
    class_colours: list[str] = field(default_factory=list)

    def __post_init__(self):
        problems = [problem for problem in self._problems() if problem]
        if problems:
            raise InputError("\n".join(problems))
        for name in ("transforms", "shares", "copies"):  # YAML reads a subset called 4 as a number
            if isinstance(getattr(self, name), dict):
                named = {str(subset): value for subset, value in getattr(self, name).items()}
                object.__setattr__(self, name, named)
        object.__setattr__(self, "oversample_only", [str(subset) for subset in self.oversample_only])
        if self.fingerprint is not None:  # of a run, perhaps from before there was a choice
            object.__setattr__(self, "task", self.task or TASKS[0])
            object.__setattr__(self, "loss", self.loss or DEFAULT_LOSS)
        if self.architecture in WITH_DECODER_FILTERS and not self.decoder_filters:
            object.__setattr__(self, "decoder_filters", list(DECODER_FILTERS))

    @property
    def class_list(self):
        """Classes, or None for background and foreground alone."""
        return Classes.named(self.classes, self.class_colours)

    @property
    def outputs(self):
        """Probabilities that the network gives for each pixel: one, or one for each class."""
        return len(self.classes) or 1

    @property
    def kind(self) -> Task:
        """What the run is for, with all in which the tasks differ."""
        return task_of(self.task, self.classes)

    def _problems(self):
        for name in (
            "image_size", "batch_size", "epochs", "steps_per_epoch", "learning_rate", "patience", "cache_gb",
            "save_every", "unfreeze_learning_rate",
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value <= 0:
                yield f"{name} must be greater than 0, got {value}"
        for name in ("learning_rate", "warmup_epochs", "weight_decay", "cache_gb", "unfreeze_learning_rate"):
            if not math.isfinite(getattr(self, name) or 0):
                yield f"{name} must be a finite number, got {getattr(self, name)}"
        for name in (
            "warmup_epochs", "weight_decay", "seed", "num_workers", "decay_start", "max_bad_files",
            "freeze_epochs",
        ):  # fmt: skip
            if (getattr(self, name) or 0) < 0:
                yield f"{name} must not be negative, got {getattr(self, name)}"
        if self.seed >= SEEDS:
            yield f"seed must be less than {SEEDS}, got {self.seed}"
        yield size_problem(self.architecture, self.backbone, self.image_size)
        if self.working_size and self.working_size < self.image_size:
            yield (
                f"working_size must be at least image_size {self.image_size}, or 0 for photos as they are; "
                f"got {self.working_size}"
            )
        if self.backbone not in BACKBONES:
            yield f"backbone {self.backbone!r} is unknown; known: {', '.join(BACKBONES)}"
        if self.encoder_weights not in ("imagenet", "none") and not Path(self.encoder_weights).is_file():
            yield f"encoder_weights {self.encoder_weights!r} is neither imagenet, none nor a file"
        yield pixel_limit_problem(self.max_pixels)
        yield from self._network_problems()
        if isinstance(self.transforms, str) and not self.transforms.endswith(".py"):
            yield (
                'transforms must be like {"4": "strong", "default": "train"}, or a file that ends in .py; '
                f"got {self.transforms!r}"
            )
        if not self.device or min(self.device) < 0 or len(set(self.device)) != len(self.device):
            yield f"device must be different GPU numbers from 0 on, got {self.device}"
        yield from option_problems(self)

    def _network_problems(self):
        filters = self.decoder_filters
        if filters and self.architecture not in WITH_DECODER_FILTERS:
            wanted = " or ".join(WITH_DECODER_FILTERS)
            yield (
                f"decoder_filters means something with architecture {wanted} only, got architecture "
                f"{self.architecture}; leave decoder_filters out"
            )
        elif filters and (len(filters) != len(DECODER_FILTERS) or min(filters) <= 0):
            yield f"decoder_filters must be five numbers greater than 0, got {filters}"
        if not self.kind.with_masks and (
            self.architecture != "unet" or filters not in ([], [*DECODER_FILTERS])
        ):
            yield (
                "architecture and decoder_filters mean something for segmentation only, which has a decoder; "
                "leave them out"
            )
        if self.unfreeze_learning_rate is not None and not 0 < self.freeze_epochs < self.epochs:
            yield (
                "unfreeze_learning_rate means something with freeze_epochs greater than 0 and less than "
                f"epochs only, got freeze_epochs {self.freeze_epochs} and epochs {self.epochs}"
            )
        try:
            loss_terms(self.loss or DEFAULT_LOSS)
            if self.classes or self.class_colours:
                checked_classes(self.classes, self.class_colours, "classes")
        except InputError as error:
            yield str(error)


def parse_config(options_class, argv, *, prog, description):
    """The options of a command that takes those of train.py, from the command line and --config.

    Raises:
        InputError: as `parse_options` does; or --config is the config.yaml of a run, which may come from
            elsewhere, and names functions to import that the command line does not name.
    """
    options = parse_options(options_class, argv, prog=prog, description=description, config=True)
    own_words = any(word.partition("=")[0] == "--transforms" for word in argv)
    if options.fingerprint is not None and options.transforms and not own_words:
        trusted_transforms(options.transforms, None, "--config (of a run)")
    return options


class ConfigDumper(yaml.SafeDumper):
    """Quotes text that a reader may take for a number: a class may be called 1e3."""

    def represent_str(self, text):
        try:
            float(text)
        except ValueError:
            return super().represent_str(text)
        return self.represent_scalar("tag:yaml.org,2002:str", text, style="'")


ConfigDumper.add_representer(str, ConfigDumper.represent_str)


def save_config(config, work_dir):
    """Writes config.yaml, which `train.py --config` and `load_config` read."""
    text = yaml.dump(dataclasses.asdict(config), Dumper=ConfigDumper, sort_keys=False, allow_unicode=True)
    write_atomically(Path(work_dir, CONFIG), text)


def load_config(work_dir):
    """The checked TrainConfig of a run folder.

    Raises:
        InputError: the folder holds no run, or its config.yaml is damaged or of another version.
    """
    path = Path(work_dir, CONFIG)
    if not path.is_file():
        raise InputError(
            f"{work_dir} has no {CONFIG}; expected the folder of a run ({named('train')} --work_dir)"
        )
    try:
        words = ["--config", str(path)]
        config = parse_options(TrainConfig, words, prog=usage("train"), description="", config=True)
    except InputError as error:
        text = str(error)
        raise InputError(text if text.startswith(str(path)) else f"{path}: {text}") from None
    missing = [name for name in RESOLVED if getattr(config, name) is None]
    if missing:
        raise InputError(
            f"{path} says nothing about {', '.join(missing)}; expected the config.yaml that "
            f"{named('train')} wrote into the folder of a run. Train again with {named('train')} --config."
        )
    return config
