"""Config -> model.fit -> a run folder."""

import functools
import importlib.util
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from segbalance.balancing.ledger import LEDGER, write_ledger
from segbalance.balancing.plan import BalancePlan, format_plan
from segbalance.data_processing.manifest import Manifest
from segbalance.data_processing.tasks import task_of_history
from segbalance.errors import InputError
from segbalance.files.writing import write_json
from segbalance.runtime.screen import say
from segbalance.runtime.verbs import extra, typed
from segbalance.train.best_by import POOLED, best_by_of, words_for
from segbalance.train.checkpoints import remove_others
from segbalance.train.config import TrainConfig
from segbalance.train.config_file import save_config
from segbalance.train.folder import (
    BEST,
    HISTORY,
    METRICS,
    best_epoch,
    class_ious,
    draw_curves,
    json_rows,
    main_score,
    pooled_scores,
    printed_scores,
    read_history,
    subset_scores,
    write_history,
)
from segbalance.train.inputs import (
    checked_plan,
    loader_subsets,
    pair_reader,
    read_data,
    resolved,
    training_parts,
    valid_tables,
)
from segbalance.train.kept_file import keep_own_file
from segbalance.train.own_folder import new_run_folder, resumed_folder
from segbalance.train.resuming import Digests, Resumption, check_manifest, manifest_digests
from segbalance.train.start_lines import start_lines
from segbalance.train.stopping import StopRequest, TimeLimit
from segbalance.transforms.pipelines import valid_transform
from segbalance.transforms.quiet_albumentations import A

# TensorFlow takes seconds to import: the functions below do so, after the input has been checked.
if TYPE_CHECKING:
    from segbalance.legacy_keras import tf
    from segbalance.model.networks import LossWeights, SegmentationModel


def train(
    config: TrainConfig,
    resumption: Resumption | None = None,
    force: bool = False,
    started: float | None = None,
) -> tuple[TrainConfig, Manifest]:
    """Trains as `config` says, in a folder that it holds.

    Args:
        resumption: of the run in the folder `config.run.work_dir`; None for a new run.
        force: whether to go on with other manifests than the run's.
        started: `time.monotonic()` from which on max_minutes count; now by default.

    Returns:
        (config with all that was filled in, what was trained on)

    Raises:
        InputError: the input is wrong, another process holds the folder, or the loss became NaN.
    """
    limit = TimeLimit(config.run.max_minutes, time.monotonic() if started is None else started)
    work_dir = config.run.work_dir
    assert work_dir is not None or resumption is None, "resolved"
    with resumed_folder(work_dir) if work_dir and resumption else new_run_folder(work_dir) as folder:
        return _train(config, folder, resumption, force, limit)


def _train(
    config: TrainConfig, folder: Path, resumption: Resumption | None, force: bool, limit: TimeLimit
) -> tuple[TrainConfig, Manifest]:
    if config.run.log == "wandb" and importlib.util.find_spec("wandb") is None:
        raise InputError(
            f"log wandb needs the package wandb, which is not installed: pip install {extra('wandb')}"
        )
    missing = resumption is not None and config.loading.on_bad_file == "skip"
    manifest = read_data(config, missing_train=missing)
    digests = functools.cache(lambda: manifest_digests(manifest))  # seconds for a million rows
    resumption, warnings = check_manifest(folder, resumption or Resumption(None), digests, force)
    print("".join(f"{warning}\n" for warning in warnings), end="")
    config = resolved(config, manifest, folder)
    plan, transforms = checked_plan(config, manifest)
    _print_plan(config, manifest, plan)
    if not is_finished(config, resumption):
        strategy, config = prepare_tensorflow(config)
        _fit(config, manifest, transforms, plan, strategy, folder, resumption, digests, limit)
    _print_scores(manifest, folder)
    return config, manifest


def is_finished(config: TrainConfig, resumption: Resumption) -> bool:
    """Whether a run has nothing left to do; says so."""
    state = resumption.state
    if state is None:
        return False
    stopped = config.optimisation.patience is not None and (state["early_stopping"] or {}).get(
        "stopped_epoch"
    )
    if state["epoch"] < config.optimisation.epochs and not stopped:
        say(f"going on at step {resumption.step(config.steps_per_epoch)}, counted from 0")
        return False
    why = (
        f"--patience {config.optimisation.patience} ended it"
        if stopped
        else f"it was to have {config.optimisation.epochs}"
    )
    print(f"the run is finished after {state['epoch']} epochs: {why}. More: --epochs")
    return True


def _print_plan(config: TrainConfig, manifest: Manifest, plan: BalancePlan) -> None:
    draws = config.steps_per_epoch * config.optimisation.batch_size
    default = config.transforms.get("default", "train")
    table = plan.table(draws)
    table["transform"] = [config.transforms.get(name, default) for name in table["subset"]]
    say(format_plan(table))
    for note in [*manifest.notes, *plan.notes(draws)]:
        print(note) if note.startswith("warning: ") else say(f"note: {note}")
    if config.optimisation.freeze_epochs and config.network.encoder_weights == "none":
        print("warning: freeze_epochs keeps an encoder of random weights; it is meant for encoder_weights")


def prepare_tensorflow(config: TrainConfig) -> "tuple[tf.distribute.Strategy, TrainConfig]":
    """Chooses devices, precision and seed; returns the strategy and the config with what was chosen."""
    from segbalance.legacy_keras import tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus and max(config.run.device) >= len(gpus):
        raise InputError(f"device {config.run.device} names a GPU that is not there; found {len(gpus)}")
    chosen = [gpus[number] for number in config.run.device] if gpus else []
    tf.config.set_visible_devices(chosen, "GPU")
    for gpu in chosen:
        tf.config.experimental.set_memory_growth(gpu, True)
    if not gpus:
        say("no GPU found: training on the CPU")
    precision = config.run.mixed_precision
    if precision == "auto":
        precision = "float16" if gpus else False
    elif precision is True:
        precision = "float16"
    tf.keras.mixed_precision.set_global_policy(f"mixed_{precision}" if precision else "float32")
    tf.keras.backend.clear_session()
    tf.keras.utils.set_random_seed(config.run.seed)
    strategy = tf.distribute.MirroredStrategy() if len(chosen) > 1 else tf.distribute.get_strategy()
    workers = config.loading.num_workers
    if workers is None:
        workers = os.cpu_count() if gpus else 0
    return strategy, config.replace(mixed_precision=precision, num_workers=workers)


def _fit(
    config: TrainConfig,
    manifest: Manifest,
    transforms: Mapping[str, A.Compose],
    plan: BalancePlan,
    strategy: "tf.distribute.Strategy",
    folder: Path,
    resumption: Resumption,
    digests: Callable[[], Digests],
    limit: TimeLimit,
) -> None:
    from segbalance.balancing.ledger import write_skipped
    from segbalance.dataloader.batches import timed_waiting, training_batches, validation_dataset
    from segbalance.legacy_keras import tf
    from segbalance.model.host_copy import HostCopy
    from segbalance.model.networks import read_variables, training_variables
    from segbalance.train.background import BackgroundWriter
    from segbalance.train.callbacks import run_callbacks
    from segbalance.train.progress import live_bar

    pairs = pair_reader(config)
    training_reader, stream = training_parts(config, manifest, plan, transforms, pairs)
    if resumption.state and resumption.exact:
        for epoch, positions in resumption.state["positions"].items():
            stream.positions[int(epoch)] = np.array(positions)
        stream.bad_files.restore(resumption.state["skipped"])
    first_step = resumption.step(config.steps_per_epoch)
    training, waited = training_batches(training_reader, stream, first_step), None
    if strategy.num_replicas_in_sync == 1:  # for several, TensorFlow itself asks ahead
        training, waited = timed_waiting(training)
    held_out = valid_tables(manifest)
    resize = dict.fromkeys(held_out, valid_transform(config.network.image_size))
    validation, validation_reader = validation_dataset(
        loader_subsets(manifest, held_out, resize),
        image_size=config.network.image_size,
        batch_size=config.optimisation.batch_size,
        pairs=pairs,
    )
    with strategy.scope():
        model = build_model(config, held_out, plan)
        variables = training_variables(model)
        if resumption.checkpoint:  # before the folder changes: it may be the state of another model
            read_variables(variables, resumption.checkpoint.variables)
    _begin_folder(config, folder, resumption)
    say("\n".join(start_lines(config, manifest, model.network.count_params())))
    go_on = f"go on with: {typed('train')} --resume {folder}"
    try:
        before = f"stopped before the first step, nothing to save; {go_on}"
        with StopRequest(limit, before) as stop, BackgroundWriter() as writer, live_bar() as bar:
            model.fit(
                training,
                steps_per_epoch=config.steps_per_epoch,
                epochs=config.optimisation.epochs,
                validation_data=validation,
                callbacks=run_callbacks(
                    config,
                    HostCopy(model, folder),
                    plan,
                    stream,
                    folder,
                    resumption,
                    digests,
                    stop,
                    writer,
                    waited,
                    bar,
                    validation,
                ),
                verbose=0,
            )
    except tf.errors.OpError:
        failure = training_reader.failure or validation_reader.failure
        if failure is None:
            raise
        raise InputError(f"training stopped: {failure}") from None
    except (KeyboardInterrupt, SystemExit):
        print(f"\nstopped; {go_on}")
        raise
    finally:
        write_skipped(stream.bad_files, folder, config.steps_per_epoch, config.optimisation.epochs)
        if Path(folder, HISTORY).exists():
            draw_curves(read_history(folder), folder)


def _begin_folder(config: TrainConfig, folder: Path, resumption: Resumption) -> None:
    """Writes the config, and brings the records back to where the checkpoint was written."""
    folder.mkdir(parents=True, exist_ok=True)
    remove_others(folder, resumption.checkpoint)
    keep_own_file(config, folder)
    save_config(config, folder)
    state = resumption.state or {"history": [], "ledger": []}
    for name, rows, write in (
        (HISTORY, state["history"], write_history),
        (LEDGER, state["ledger"], write_ledger),
    ):
        if rows:
            write(rows, folder)
        else:
            Path(folder, name).unlink(missing_ok=True)


def build_model(config: TrainConfig, subsets: Iterable[str], plan: BalancePlan) -> "SegmentationModel":
    """The compiled model; `subsets` are those of the validation scores."""
    from segbalance.model.networks import SegmentationModel, build_network, compile_model

    network = build_network(
        config.network.backbone,
        config.network.image_size,
        architecture=config.network.architecture,
        encoder_weights=None if config.network.encoder_weights == "none" else config.network.encoder_weights,
        decoder_filters=tuple(config.network.decoder_filters),
        freeze_encoder=config.optimisation.freeze_epochs > 0,
        outputs=config.outputs,
        task=config.data.task,
    )
    assert config.optimisation.loss is not None, "resolved"
    weights: dict[str, LossWeights] = {"none": None, "pixel": "pixel", "subset": list(plan.loss_weights)}
    loss_weights = weights[plan.weighting]
    model = SegmentationModel(network, subsets, loss_weights, config.filled_in.classes, config.data.task)
    steps = config.optimisation.epochs * config.steps_per_epoch
    warmup = (
        0
        if config.filled_in.decay_start
        else min(round(config.optimisation.warmup_epochs * config.steps_per_epoch), steps // 10)
    )
    compile_model(
        model,
        learning_rate=config.optimisation.learning_rate,
        steps=steps,
        warmup_steps=warmup,
        weight_decay=config.optimisation.weight_decay,
        decay_start=config.filled_in.decay_start,
        freeze_steps=config.optimisation.freeze_epochs * config.steps_per_epoch,
        unfreeze_learning_rate=config.optimisation.unfreeze_learning_rate,
        loss=config.optimisation.loss,
    )
    return model


def _print_scores(manifest: Manifest, folder: Path) -> None:
    """Prints the table of the subsets at the best epoch and writes it to metrics.json."""
    history = read_history(folder)
    best = best_epoch(history)
    table = subset_scores(
        history,
        {name: len(rows) for name, rows in manifest.train.items()},
        {name: len(rows) for name, rows in valid_tables(manifest).items()},
    )
    scores = {name: best[f"val_{name}"] for name in pooled_scores(history)}
    best_by, main = best_by_of(history.keys()), main_score(history)
    chosen = ""
    if best_by != POOLED:
        chosen = f" by the {words_for(task_of_history(history.keys()), best_by)}, {best[main]:.3f}"
        scores |= {main.removeprefix("val_"): best[main]}
    told = ", ".join(f"{name} {best[f'val_{name}']:.3f}" for name in pooled_scores(history))
    print(f"\nbest epoch {best['epoch']:.0f}{chosen}: {told}")
    print(printed_scores(table))
    figures = {"epoch": int(best["epoch"]), "best_by": best_by} | scores | {"subsets": json_rows(table)}
    if class_ious(history):
        classes = pd.DataFrame({"class": class_ious(history).keys(), "iou": class_ious(history).values()})
        print(classes.to_string(index=False, float_format="{:.3f}".format))
        figures["classes"] = json_rows(classes)
    print(f"best weights: {folder / BEST}")
    write_json(folder / METRICS, figures)
