"""Where the time of training goes: the loader's stages, the model's step, and the one setting to change.

    python scripts/profile_loader.py --image_size 384 --batch_size 16

Takes the command line of train.py. The stages are timed on one thread on the images that training draws; then
come the loader alone, the loader with each setting that might make it faster, the model alone on one fixed
batch, and both together.
"""

import dataclasses
import gc
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    import albumentations as A

    from segbalance.balancing.plan import BalancePlan
    from segbalance.data_processing.manifest import Manifest
    from segbalance.dataloader.reading import BatchReader
    from segbalance.legacy_keras import tf

from segbalance.errors import InputError
from segbalance.files.writing import check_output, write_json
from segbalance.profiling.advice import NAMES, Advice, choose, settings_to_try, weigh
from segbalance.profiling.profile import (
    REST,
    TURNS,
    first_steps,
    measure_ratio,
    measure_stages,
    measure_training,
)
from segbalance.runtime.command_line import command
from segbalance.runtime.verbs import usage
from segbalance.train import fitting
from segbalance.train import inputs as run_data
from segbalance.train.config import TrainConfig
from segbalance.train.config_file import parse_config


@dataclass(frozen=True)
class ProfileOptions:
    """The profile.

    Args:
        seconds: How long each measurement lasts; there are up to nine.
        no_model: Measure the loader alone.
        json: JSON file for the figures as well.
    """

    config: TrainConfig
    seconds: float = 10.0
    no_model: bool = False
    json: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.seconds < float("inf"):
            raise InputError(f"seconds must be greater than 0, got {self.seconds}; try 10")


class Profile:
    """The measurements of one run.

    Args:
        config: resolved, with devices that are chosen.
        manifest: of the data.
        plan: of the balancing.
        transforms: by subset.
        shared: True where model and loader share the cores.
        seconds: how long each measurement lasts.
    """

    def __init__(
        self,
        config: TrainConfig,
        manifest: "Manifest",
        plan: "BalancePlan",
        transforms: Mapping[str, "A.Compose"],
        shared: bool,
        seconds: float,
    ) -> None:
        self.seconds = seconds
        self.config, self.manifest, self.plan, self.shared = config, manifest, plan, shared
        self.pairs = run_data.pair_reader(config)
        self.reader, stream = run_data.training_parts(config, manifest, plan, transforms, self.pairs)
        self.cores = os.cpu_count() or 1
        self.attempts, self.left_out = settings_to_try(config, manifest, self.cores)
        self.rates: dict[str, float | None] = dict.fromkeys(("loader", *NAMES, "model", "training"))
        self.stages: dict[str, float] = {}
        self.steps = first_steps(self.reader, stream, seconds / TURNS)

    def measure_loader(self) -> None:
        """The stages, the loader as it is, and the loader under each setting to try."""
        self.stages, loader = measure_stages(self.reader, self.steps, self.seconds)
        self.stages[REST] = 1000 * self.cores / loader - sum(self.stages.values())
        self.rates["loader"] = loader
        for name in list(self.attempts):
            try:
                reader = self._reader(self.attempts[name].config)
            except InputError as error:
                self.left_out[name] = str(error)
                del self.attempts[name]
                continue
            self.rates[name] = loader * measure_ratio(reader, self.reader, self.steps, self.seconds)
            del reader  # with its processes and its cache, before the next
            gc.collect()

    def _reader(self, config: TrainConfig) -> "BatchReader":
        transforms = run_data.checked_plan(config, self.manifest)[1]
        own, other = self.config.loading, config.loading
        same = (own.cache, own.working_size) == (other.cache, other.working_size)
        pairs = self.pairs if same else run_data.pair_reader(config)
        return run_data.training_parts(config, self.manifest, self.plan, transforms, pairs)[0]

    def measure_model(self, strategy: "tf.distribute.Strategy") -> None:
        """The model on one fixed batch, and training as a whole."""
        with strategy.scope():
            model = fitting.build_model(self.config, run_data.valid_tables(self.manifest), self.plan)
        rates = measure_training(model, self.reader, self.steps, self.seconds)
        self.rates["model"], self.rates["training"] = rates

    def weighed(self) -> list[Advice]:
        """What each setting would bring, the largest gain first."""
        network = self.config.network
        return weigh(
            self.stages,
            self.rates,
            self.attempts,
            network.image_size,
            self.shared,
            network.architecture,
            network.backbone,
        )


def stage_table(stages: Mapping[str, float]) -> pd.DataFrame:
    """The columns are stage, ms_per_image (of one core), share."""
    table = pd.DataFrame({"stage": list(stages), "ms_per_image": list(stages.values())})
    return table.assign(share=table["ms_per_image"] / table["ms_per_image"].sum())


def report(profile: Profile, weighed: Sequence[Advice], advice: Advice) -> Iterator[str]:
    """Yields the lines that are printed."""
    shown = stage_table(profile.stages).rename(columns={"ms_per_image": "ms per image"})
    formatters = {"ms per image": "{:.3f}".format, "share": "{:.1%}".format}
    yield shown.to_string(index=False, formatters=formatters)
    yield ""
    yield from rate_lines(profile.rates, profile.shared)
    yield ""
    if weighed:
        yield setting_table(weighed, profile.rates["model"] is not None)
    for name, why in profile.left_out.items():
        yield f"not tried: {name} ({why})"
    yield from advice_lines(advice)


def rate_lines(rates: Mapping[str, Any], shared: bool) -> Iterator[str]:
    """Yields the images per second and the bottleneck."""
    yield f"loader alone     {rates['loader']:8.1f} images/s on {os.cpu_count()} cores"
    if rates["model"] is not None:
        yield f"model alone      {rates['model']:8.1f} images/s on one fixed batch"
        yield f"both together    {rates['training']:8.1f} images/s"
        slower = "model" if rates["model"] < rates["loader"] else "loader"
        yield f"bottleneck: the {slower}" + (
            "; both work on the same cores, so that their times add up" if shared else ""
        )


def setting_table(weighed: Sequence[Advice], with_model: bool) -> str:
    """The settings that were tried, as text: images per second of the loader and of training with each."""
    width = max(len(advice.setting or "") for advice in weighed)
    rows = [
        {
            f"{'with':<{width}}": f"{advice.setting:<{width}}",
            "loader": advice.loader_images_per_s,
            "training": advice.images_per_s,
            "gain": f"{advice.gain:+.1f}",
        }
        for advice in weighed
    ]
    table = pd.DataFrame(rows) if with_model else pd.DataFrame(rows).drop(columns="training")
    return table.to_string(index=False, float_format="{:.1f}".format)


def advice_lines(advice: Advice) -> Iterator[str]:
    """Yields the one setting to change and its gain."""
    if advice.setting is None:
        yield f"no setting gains a twentieth: {advice.reason}"
    else:
        yield f"change: {advice.setting} ({advice.reason})"
        yield f"expected: {advice.images_per_s:.1f} images/s, {advice.gain:+.1f}"


def as_json(profile: Profile, weighed: Sequence[Advice], advice: Advice) -> dict[str, Any]:
    """The figures as --json writes them."""
    return (
        {"stages": stage_table(profile.stages).to_dict("records")}
        | {f"{name}_images_per_s": rate for name, rate in profile.rates.items()}
        | {"advice": dataclasses.asdict(advice), "settings": list(map(dataclasses.asdict, weighed))}
        | {"not_tried": profile.left_out}
    )


@command
def main(argv: list[str], transforms_file: str | Path | None = None) -> None:
    """Measures and prints the tables and the advice."""
    options = parse_config(ProfileOptions, argv, prog=usage("profile"), description=__doc__)
    if options.json:
        check_output("--json", options.json)
    manifest = run_data.read_data(options.config)
    config = run_data.with_transforms(options.config, transforms_file)
    config = run_data.resolved(config, manifest, Path("."))
    plan, transforms = run_data.checked_plan(config, manifest)
    strategy, config = fitting.prepare_tensorflow(config)
    from segbalance.legacy_keras import tf

    shared = not tf.config.get_visible_devices("GPU")
    try:
        profile = Profile(config, manifest, plan, transforms, shared, options.seconds)
        profile.measure_loader()
        if not options.no_model:
            profile.measure_model(strategy)
    except OSError as error:
        raise InputError(f"{error} (found while reading)") from None
    weighed = profile.weighed()
    advice = choose(weighed, profile.rates, shared)
    print("\n".join(report(profile, weighed, advice)))
    if options.json:
        write_json(Path(options.json), as_json(profile, weighed, advice))
