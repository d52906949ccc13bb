"""Which one setting of training to change: what could be tried, and what the measurements say of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from segbalance.dataloader.pair_cache import GB
from segbalance.dataloader.ram_cache import BYTES_A_PLACE, FULLEST, WORDS
from segbalance.dataloader.working_size import Size, working_shape
from segbalance.model.architectures import largest_size
from segbalance.profiling.profile import CACHED_READ, OWN_STAGES, READING, REST
from segbalance.train.config import TrainConfig

if TYPE_CHECKING:
    from segbalance.data_processing.manifest import Manifest

WORTH_IT = 1.05  # times; a setting that gains less is not named
MUCH_SMALLER = 0.5  # of the decoded pixels; a working_size that leaves more is not tried
NAMES = ("light", "train_fast", "cache", "working_size", "num_workers")  # of what is measured

Answer = tuple[dict[str, Any] | None, str]  # what to change of the config, if anything, and a remark


@dataclass(frozen=True)
class Attempt:
    """A setting to measure.

    Args:
        setting: as on the command line.
        config: the TrainConfig with it.
        remark: what else it means, half a sentence.
    """

    setting: str
    config: TrainConfig
    remark: str


@dataclass(frozen=True)
class Advice:
    """What to expect of a setting.

    Args:
        setting: as on the command line; None where none gains enough.
        reason: half a sentence.
        images_per_s: expected of training with it (of the loader, where no model was measured).
        gain: images per second more than without it.
        loader_images_per_s: of the loader with it.
    """

    setting: str | None
    reason: str
    images_per_s: float
    gain: float
    loader_images_per_s: float


def settings_to_try(
    config: TrainConfig, manifest: "Manifest", cores: int
) -> tuple[dict[str, Attempt], dict[str, str]]:
    """What could be set otherwise.

    Args:
        config: resolved, its `num_workers` chosen.
        cores: number of them.

    Returns:
        ({name: Attempt}, {name: why it is not tried}); the names are NAMES.
    """
    choice = {"default": "train"} | config.transforms
    used = {choice.get(name, choice["default"]) for name in manifest.train}
    photos = decoded_photos([*manifest.train.values(), manifest.valid])
    answers = {
        "light": _light(used),
        "train_fast": _train_fast(choice, used),
        "cache": _cache(config, photos),
        "working_size": _working_size(config, photos),
        "num_workers": _num_workers(config, cores),
    }
    attempts = {
        name: Attempt(_as_option(changes), config.replace(**changes), remark)
        for name, (changes, remark) in answers.items()
        if changes
    }
    return attempts, {name: remark for name, (changes, remark) in answers.items() if not changes}


def _as_option(changes: Mapping[str, Any]) -> str:
    ((name, value),) = changes.items()
    return f"--{name} " + (f"'{json.dumps(value)}'" if isinstance(value, dict) else str(value))


def _light(used: set[str]) -> Answer:
    if used <= {"light", "valid"}:
        return None, "the transforms are light already"
    return {"transforms": {"default": "light"}}, "augments less, which may cost accuracy"


def _train_fast(choice: Mapping[str, str], used: set[str]) -> Answer:
    if "train" not in used:
        return None, "no subset has the transforms `train`"
    fast = {name: "train_fast" if pipeline == "train" else pipeline for name, pipeline in choice.items()}
    return {"transforms": fast}, "the same augmentation, the noise from a table"


def _cache(config: TrainConfig, photos: Mapping[Size, int]) -> Answer:
    if config.loading.cache == "ram":
        return None, "pairs are kept in memory already"
    size, limit = decoded_bytes(photos, config.loading.working_size), int(config.loading.cache_gb * GB)
    if not fits_in_ram(photos, config.loading.working_size, limit):
        return None, f"the decoded pairs take {size / GB:.2f} GB, --cache_gb is {config.loading.cache_gb:g}"
    return {"cache": "ram"}, f"the decoded pairs take {size / GB:.2f} GB; the first pass stays as slow"


def _working_size(config: TrainConfig, photos: Mapping[Size, int]) -> Answer:
    smaller, now = 2 * config.network.image_size, config.loading.working_size
    if now and now <= smaller:
        return None, f"{now} is at most twice --image_size"
    left = decoded_bytes(photos, smaller) / decoded_bytes(photos, now)
    if left > MUCH_SMALLER:
        return None, f"the photos are not much larger than {smaller}"
    return {"working_size": smaller}, f"leaves {left:.0%} of the decoded pixels"


def _num_workers(config: TrainConfig, cores: int) -> Answer:
    if config.loading.num_workers:
        return {"num_workers": 0}, "threads in place of processes"
    if cores == 1:
        return None, "there is one core"
    return {"num_workers": cores}, "processes in place of threads, once they have started"


def decoded_photos(tables: Sequence[pd.DataFrame]) -> dict[Size, int]:
    """How many different pairs of each size there are in tables of the manifest."""
    rows = pd.concat(tables)
    rows = rows.drop_duplicates([name for name in ("images", "masks") if name in rows])
    counts = rows.value_counts(["width", "height"])
    return {(int(w), int(h)): int(n) for (w, h), n in zip(counts.index.tolist(), counts, strict=True)}


def decoded_bytes(photos: Mapping[Size, int], working_size: int | None) -> int:
    """Bytes of pairs as `decoded_photos` counts them, at working size; photos without masks take less."""
    shapes = {size: working_shape(size, working_size or 0) for size in photos}
    return sum(4 * shapes[size][0] * shapes[size][1] * count for size, count in photos.items())


def fits_in_ram(photos: Mapping[Size, int], working_size: int | None, limit: int) -> bool:
    """True if a RamCache of `limit` bytes can hold pairs as `decoded_photos` counts them."""
    places = limit // BYTES_A_PLACE
    room = limit - 8 * WORDS * places
    return sum(photos.values()) <= FULLEST * places and decoded_bytes(photos, working_size) <= room


def training_rate(loader: float, model: float | None, shared: bool) -> float:
    """Images per second of training from those of loader and model alone (None: no model).

    On a CPU the two take turns at the same cores (`shared`), so that their times add up; a GPU works while
    the CPU loads, and the slower of the two decides.
    """
    if model is None:
        return loader
    return 1 / (1 / loader + 1 / model) if shared else min(loader, model)


def weigh(
    stages: Mapping[str, float],
    rates: Mapping[str, Any],
    attempts: Mapping[str, Attempt],
    image_size: int,
    shared: bool,
    architecture: str = "unet",
    backbone: str = "",
) -> list[Advice]:
    """What each setting would bring, from measured numbers alone.

    Args:
        stages: {stage: ms of one core per image} of the loader as it is, REST included.
        rates: images per second, {"loader", each of NAMES (the loader under it), "model", "training"}; the
            last two and what was not tried are None.
        image_size: pixels.
        shared: True where model and loader share the cores.
        architecture, backbone: of the model, which decide on the sizes that it takes.

    Returns:
        The largest gain first.
    """
    model, expected = rates["model"], training_rate(rates["loader"], rates["model"], shared)

    def advice(setting: str, reason: str, loader: float, model: float | None) -> Advice:
        # `training_rate` gives the ratio alone: what it gets wrong must not count as a gain.
        ratio, now = training_rate(loader, model, shared) / expected, rates["training"] or expected
        return Advice(setting, reason, now * ratio, now * (ratio - 1), loader)

    found = [
        advice(attempt.setting, f"{cause(name, stages)}; {attempt.remark}", rates[name], model)
        for name, attempt in attempts.items()
    ]
    smaller = largest_size(architecture, backbone, image_size * 2 // 3)
    if smaller and model is not None and model < rates["loader"]:
        reason = "the step's time goes with the number of pixels (not measured), at some cost in detail"
        faster = model * (image_size / smaller) ** 2
        found.append(advice(f"--image_size {smaller}", reason, rates["loader"], faster))
    return sorted(found, key=lambda advice: -advice.gain)


def cause(name: str, stages: Mapping[str, float]) -> str:
    """Which share of the loader's time the setting called `name` is about."""
    total = sum(stages.values())
    steps = [stage for stage in stages if stage not in OWN_STAGES]
    if name in ("light", "train_fast"):
        share, heaviest = sum(stages[step] for step in steps) / total, max(steps, key=stages.__getitem__)
        alone = f", {heaviest} alone {stages[heaviest] / total:.0%}"
        return f"the transforms take {share:.0%} of the loader's time{alone}"
    if name == "num_workers":
        return f"{REST} take {stages[REST] / total:.0%} of the loader's time"
    share = sum(stages.get(stage, 0) for stage in (*READING, CACHED_READ)) / total
    return f"reading and decoding take {share:.0%} of the loader's time"


def choose(weighed: Sequence[Advice], rates: Mapping[str, Any], shared: bool) -> Advice:
    """The Advice that gains most, or one without a setting where none gains enough."""
    now = rates["training"] or training_rate(rates["loader"], rates["model"], shared)
    if not weighed:
        return Advice(None, "nothing is left to try", now, 0.0, rates["loader"])
    best = weighed[0]
    if best.images_per_s >= WORTH_IT * now:
        return best
    reason = f"the best of them, {best.setting}, would bring {best.gain:+.1f} images/s"
    return Advice(None, reason, now, 0.0, rates["loader"])
