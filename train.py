"""Config -> model.fit -> a run folder.

python train.py                      after make_csv_file, with the tutorial's defaults
python train.py --config run.yaml    options from a file; the command line wins
python train.py --resume runs/first  goes on where a run stopped
"""

import dataclasses
import functools
import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from balancing import format_plan
from checkpoints import remove_others
from command import command
from config import CONFIG, TrainConfig, load_config, parse_config, save_config
from errors import InputError
from ledger import LEDGER, write_ledger
from manifest import read_manifest
from resuming import Resumption, check_manifest, manifest_digests, resumed_config
from run_data import (
    checked_plan,
    loader_subsets,
    pair_reader,
    resolved,
    training_parts,
    valid_tables,
)
from run_folder import (
    BEST,
    HISTORY,
    METRICS,
    best_epoch,
    class_ious,
    draw_curves,
    json_rows,
    new_run_folder,
    pooled_scores,
    read_history,
    subset_scores,
    write_history,
)
from run_report import write_report
from stopping import StopRequest
from transforms import valid_transform
from trust import trusted_transforms
from whole_files import write_json

# TensorFlow takes seconds to import: the functions below do so, after the input has been checked.


@dataclass(frozen=True)
class TrainOptions(TrainConfig):
    """Options of a training run.

    Args:
        resume: Folder of a run to go on with, by the options that it was begun with. --epochs may be another
            number.
        force: Goes on in spite of another config or other manifests than the run's.
    """

    resume: str | None = None
    force: bool = False

    def config(self):
        """The TrainConfig in it."""
        return TrainConfig(
            **{field.name: getattr(self, field.name) for field in dataclasses.fields(TrainConfig)}
        )


def train(config, resumption=None, force=False):
    """Trains as `config` says.

    Args:
        resumption: Resumption of the run in the folder `config.work_dir`; None for a new run.
        force: whether to go on with other manifests than the run's.

    Returns:
        Path of the run folder.

    Raises:
        InputError: the input is wrong, or the loss became NaN.
    """
    folder = new_run_folder(config.work_dir) if resumption is None else Path(config.work_dir)
    if config.log == "wandb" and importlib.util.find_spec("wandb") is None:
        raise InputError("log wandb needs the package wandb, which is not installed: pip install wandb")
    missing = resumption is not None and config.on_bad_file == "skip"
    manifest = read_manifest(
        config.csv_dir, config.data_root, config.allow_outside, config.max_pixels, missing_train=missing
    )
    digests = functools.cache(lambda: manifest_digests(manifest))  # seconds for a million rows
    resumption, warnings = check_manifest(folder, resumption or Resumption(None), digests, force)
    print("".join(f"{warning}\n" for warning in warnings), end="")
    config = resolved(config, manifest, folder)
    plan, transforms = checked_plan(config, manifest)
    _print_plan(config, manifest, plan)
    if not is_finished(config, resumption):
        strategy, config = prepare_tensorflow(config)
        _fit(config, manifest, transforms, plan, strategy, folder, resumption, digests)
    _print_scores(manifest, folder)
    if config.report:
        print(f"report: {_report(config, manifest)}")
    return folder


def _report(config, manifest):
    """Writes the report of a run that has ended; returns its path."""
    try:
        return write_report(config, manifest)[0]
    except InputError as error:
        raise InputError(
            f"{error}\nThe training itself is finished and saved; only its report is missing. Make it with: "
            f"python scripts/make_report.py --work_dir {config.work_dir}"
        ) from None


def is_finished(config, resumption):
    """Whether a run has nothing left to do; says so."""
    state = resumption.state
    if state is None:
        return False
    stopped = config.patience is not None and (state["early_stopping"] or {}).get("stopped_epoch")
    if state["epoch"] < config.epochs and not stopped:
        print(f"going on at step {resumption.step(config.steps_per_epoch)}, counted from 0")
        return False
    why = f"--patience {config.patience} ended it" if stopped else f"it was to have {config.epochs}"
    print(f"the run is finished after {state['epoch']} epochs: {why}. More: --epochs")
    return True


def _print_plan(config, manifest, plan):
    draws = config.steps_per_epoch * config.batch_size
    default = config.transforms.get("default", "train")
    table = plan.table(draws)
    table["transform"] = [config.transforms.get(name, default) for name in table["subset"]]
    print(format_plan(table))
    for note in [*manifest.notes, *plan.notes(draws)]:
        print(note if note.startswith("warning: ") else f"note: {note}")
    if config.freeze_epochs and config.encoder_weights == "none":
        print("warning: freeze_epochs keeps an encoder of random weights; it is meant for encoder_weights")


def prepare_tensorflow(config):
    """Chooses devices, precision and seed; returns the strategy and the config with what was chosen."""
    from legacy_keras import tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus and max(config.device) >= len(gpus):
        raise InputError(f"device {config.device} names a GPU that is not there; found {len(gpus)}")
    chosen = [gpus[number] for number in config.device] if gpus else []
    tf.config.set_visible_devices(chosen, "GPU")
    for gpu in chosen:
        tf.config.experimental.set_memory_growth(gpu, True)
    if not gpus:
        print("no GPU found: training on the CPU")
    precision = config.mixed_precision
    if precision == "auto":
        precision = "float16" if gpus else False
    elif precision is True:
        precision = "float16"
    tf.keras.mixed_precision.set_global_policy(f"mixed_{precision}" if precision else "float32")
    tf.keras.backend.clear_session()
    tf.keras.utils.set_random_seed(config.seed)
    strategy = tf.distribute.MirroredStrategy() if len(chosen) > 1 else tf.distribute.get_strategy()
    workers = config.num_workers
    if workers is None:
        workers = os.cpu_count() if gpus else 0
    return strategy, dataclasses.replace(config, mixed_precision=precision, num_workers=workers)


def _fit(config, manifest, transforms, plan, strategy, folder, resumption, digests):
    from callbacks import run_callbacks
    from dataloader import timed_waiting, training_batches, validation_dataset
    from ledger import write_skipped
    from legacy_keras import tf
    from model import read_variables, training_variables

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
    resize = dict.fromkeys(held_out, valid_transform(config.image_size))
    validation, validation_reader = validation_dataset(
        loader_subsets(manifest, held_out, resize),
        image_size=config.image_size,
        batch_size=config.batch_size,
        pairs=pairs,
    )
    with strategy.scope():
        model = build_model(config, held_out, plan)
        if resumption.state:  # before the folder changes: it may be the state of another model
            read_variables(training_variables(model), resumption.checkpoint.variables)
    _begin_folder(config, folder, resumption)
    try:
        with StopRequest() as stop:
            model.fit(
                training,
                steps_per_epoch=config.steps_per_epoch,
                epochs=config.epochs,
                validation_data=validation,
                callbacks=run_callbacks(
                    config, model.network, plan, stream, folder, resumption, digests, stop, waited
                ),
                verbose=1 if sys.stdout.isatty() else 2,
            )
    except tf.errors.OpError:
        failure = training_reader.failure or validation_reader.failure
        if failure is None:
            raise
        raise InputError(f"training stopped: {failure}") from None
    except (KeyboardInterrupt, SystemExit):
        print(f"\nstopped; go on with: python train.py --resume {folder}")
        raise
    finally:
        write_skipped(stream.bad_files, folder, config.steps_per_epoch, config.epochs)
        if Path(folder, HISTORY).exists():
            draw_curves(read_history(folder), folder)


def _begin_folder(config, folder, resumption):
    """Writes the config, and brings the records back to where the checkpoint was written."""
    folder.mkdir(parents=True, exist_ok=True)
    remove_others(folder, resumption.checkpoint)
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


def build_model(config, subsets, plan):
    """The compiled model; `subsets` are those of the validation scores."""
    from model import SegmentationModel, build_network, compile_model

    network = build_network(
        config.backbone,
        config.image_size,
        architecture=config.architecture,
        encoder_weights=None if config.encoder_weights == "none" else config.encoder_weights,
        decoder_filters=tuple(config.decoder_filters),
        freeze_encoder=config.freeze_epochs > 0,
        outputs=config.outputs,
        task=config.task,
    )
    loss_weights = {"none": None, "pixel": "pixel", "subset": list(plan.loss_weights)}[plan.weighting]
    model = SegmentationModel(network, subsets, loss_weights, config.classes, config.task)
    steps = config.epochs * config.steps_per_epoch
    warmup = (
        0 if config.decay_start else min(round(config.warmup_epochs * config.steps_per_epoch), steps // 10)
    )
    compile_model(
        model,
        learning_rate=config.learning_rate,
        steps=steps,
        warmup_steps=warmup,
        weight_decay=config.weight_decay,
        decay_start=config.decay_start,
        freeze_steps=config.freeze_epochs * config.steps_per_epoch,
        unfreeze_learning_rate=config.unfreeze_learning_rate,
        loss=config.loss,
    )
    return model


def _print_scores(manifest, folder):
    """Prints the table of the subsets at the best epoch and writes it to metrics.json."""
    history = read_history(folder)
    best = best_epoch(history)
    table = subset_scores(
        history,
        {name: len(rows) for name, rows in manifest.train.items()},
        {name: len(rows) for name, rows in valid_tables(manifest).items()},
    )
    scores = {name: best[f"val_{name}"] for name in pooled_scores(history)}
    print(f"\nbest epoch {best['epoch']:.0f}: " + ", ".join(f"{k} {v:.3f}" for k, v in scores.items()))
    print(table.to_string(index=False, float_format="{:.3f}".format))
    figures = {"epoch": int(best["epoch"])} | scores | {"subsets": json_rows(table)}
    if class_ious(history):
        classes = pd.DataFrame({"class": class_ious(history).keys(), "iou": class_ious(history).values()})
        print(classes.to_string(index=False, float_format="{:.3f}".format))
        figures["classes"] = json_rows(classes)
    print(f"best weights: {folder / BEST}")
    write_json(folder / METRICS, figures)


@command
def main(argv):
    """Trains a network on the manifests."""

    def parse(words):
        return parse_config(TrainOptions, words, prog="train.py", description=__doc__)

    options = parse(argv)
    if options.resume is None:
        train(options.config())
        return
    stored = Path(options.resume, CONFIG)
    if stored.is_file() and not any(word.partition("=")[0] == "--transforms" for word in argv):
        trusted_transforms(load_config(options.resume).transforms, None, stored)
    wanted = parse(["--config", str(stored), *argv]).config() if stored.is_file() else options.config()
    # The folder may come from elsewhere, and must not widen what may be read.
    wanted = dataclasses.replace(wanted, allow_outside=options.allow_outside, max_pixels=options.max_pixels)
    config, resumption, warnings = resumed_config(options.resume, wanted, options.force)
    print("".join(f"{warning}\n" for warning in warnings), end="")
    train(config, resumption, options.force)


if __name__ == "__main__":
    sys.exit(main())
