"""How long a training step takes, its optimiser's part, and what writing adds to an epoch.

    python scripts/benchmarks/training_step.py
    python scripts/benchmarks/training_step.py --subject writing --image_size 64 --steps 100

`step` compares Keras' AdamW with the fused one of this project: the update alone, on gradients that are there
already, and the whole step of a U-Net, milliseconds. `writing` compares what an epoch's end costs, where the
epoch is the best so far: nothing written; best weights, last weights and checkpoint written before the next
step, as once; copied and written in the background. An epoch is the writing, then so many steps,
then the wait for what is not yet written; `held_ms` of it is what the steps stood still.

All ways take turns, in one process and on the same data; the median over the rounds is shown with the
quartiles. `ratio` is to the first line of each kind, round by round.
"""

import functools
import itertools
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import pandas as pd

from segbalance.errors import InputError
from segbalance.files.writing import same_file, write_json
from segbalance.runtime.command_line import command, parse_options
from segbalance.train.checkpoints import checkpoint_name, save_checkpoint
from segbalance.train.folder import BEST, LAST

SUBSETS = ("a", "b")


@dataclass(frozen=True)
class StepOptions:
    """Options of the benchmark.

    Args:
        subject: What is measured.
        backbone: Of the U-Net, with its usual decoder.
        image_size: Width and height in pixels.
        batch_size: Images in a step.
        steps: Of an epoch, for `writing`.
        rounds: How often each way has its turn.
        json: File for the table as JSON.
    """

    subject: Literal["step", "writing"] = "step"
    backbone: str = "resnet18"
    image_size: int = 128
    batch_size: int = 8
    steps: int = 100
    rounds: int = 15
    json: str | None = None

    def __post_init__(self):
        for name in ("image_size", "batch_size", "steps", "rounds"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name} must be greater than 0, got {getattr(self, name)}")


def compiled_model(options, optimizer_class=None):
    """A model with its optimiser built; with Keras' AdamW in place of ours where that is given."""
    from segbalance.model import networks, optimizer
    from segbalance.model.networks import SegmentationModel, build_network, compile_model

    usual = optimizer.FusedAdamW
    optimizer.FusedAdamW = optimizer_class or usual
    try:
        model = SegmentationModel(build_network(options.backbone, options.image_size), SUBSETS)
        compile_model(model, learning_rate=1e-3, steps=10**6, warmup_steps=100)
    finally:
        optimizer.FusedAdamW = usual
    networks.training_variables(model)
    return model


def random_batch(options):
    """uint8 photos and masks, and subsets, of one batch."""
    from segbalance.legacy_keras import tf

    rng = np.random.default_rng(0)
    shape = (options.batch_size, options.image_size, options.image_size)
    photo = rng.integers(0, 256, (*shape, 3), np.uint8)
    mask, subset = (photo[..., :1] > 127).astype(np.uint8), np.zeros(options.batch_size, np.int32)
    return tuple(map(tf.constant, (photo, mask, subset)))


def step_ways(options):
    """{(what, way): a function of nothing} for the update and the step of either optimiser."""
    from segbalance.legacy_keras import tf

    batch, ways = random_batch(options), {}
    for name, optimizer_class in (("Keras' AdamW", tf.keras.optimizers.AdamW), ("fused", None)):
        model = compiled_model(options, optimizer_class)
        weights = model.network.trainable_variables
        gradients = [tf.random.normal(weight.shape) for weight in weights]

        @tf.function
        def update(gradients, model=model, weights=weights):
            model.optimizer.apply_gradients(zip(gradients, weights, strict=True))

        ways["update", name] = functools.partial(update, gradients)
        ways["step", name] = functools.partial(tf.function(model.train_step), batch)
    return dict(sorted(ways.items(), key=lambda item: item[0][0], reverse=True))


class Epoch:
    """An epoch of one way to write: `save`, then the steps, then `wait`."""

    def __init__(self, save, wait, step, steps):
        self.save, self.wait, self.step, self.steps = save, wait, step, steps
        self.held = 0.0

    def __call__(self):
        started = time.perf_counter()
        self.save()
        self.held = time.perf_counter() - started
        for _ in range(self.steps):
            self.step()
        started = time.perf_counter()
        self.wait()
        self.held += time.perf_counter() - started


def writing_ways(options, folder):
    """{(what, way): Epoch} for nothing written, written at once, and written in the background."""
    from segbalance.legacy_keras import tf
    from segbalance.model.host_copy import HostCopy
    from segbalance.model.networks import save_weights, write_variables
    from segbalance.train.background import BackgroundWriter
    from segbalance.train.checkpointer import copy_step

    model, numbers = compiled_model(options), itertools.count()
    copy, writer = HostCopy(model, folder), BackgroundWriter()
    step = functools.partial(tf.function(model.train_step), random_batch(options))

    def at_once():
        save_weights(model.network, folder / BEST)
        save_weights(model.network, folder / LAST)
        write = functools.partial(write_variables, copy.originals)
        save_checkpoint(folder, checkpoint_name(next(numbers), 0), write, {})

    def in_the_background():
        copy_step(copy, writer)
        name = checkpoint_name(next(numbers), 0)
        writer.submit(lambda: copy.write_weights(folder / LAST))
        writer.submit(lambda: same_file(folder / BEST, folder / LAST))
        writer.submit(lambda: save_checkpoint(folder, name, copy.write_variables, {}))

    ways = {"nothing": lambda: None, "at once": at_once, "in the background": in_the_background}
    return {("epoch", name): Epoch(save, writer.wait, step, options.steps) for name, save in ways.items()}


def in_turns(ways, rounds):
    """Runs each way once, then in turns.

    Returns:
        DataFrame of what, way, round, ms, cpu_ms of all threads; held_ms for an Epoch.
    """
    for run in ways.values():
        run()
    rows = []
    for number, ((what, way), run) in itertools.product(range(rounds), ways.items()):
        started, cpu = time.perf_counter(), time.process_time()
        run()
        taken = {"ms": time.perf_counter() - started, "cpu_ms": time.process_time() - cpu}
        held = {"held_ms": run.held} if isinstance(run, Epoch) else {}
        rows.append(
            {"what": what, "way": way, "round": number}
            | {name: 1000 * seconds for name, seconds in (taken | held).items()}
        )
    return pd.DataFrame(rows)


def summary(rows):
    """A line for each way: medians and quartiles of the milliseconds, and of the ratio to the first way."""
    lines = []
    for (what, way), own in rows.groupby(["what", "way"], sort=False):
        first = rows[rows["what"] == what].iloc[0]["way"]
        line = {"what": what, "way": way}
        base = rows[(rows["what"] == what) & (rows["way"] == first)]
        for name in ("ms", "cpu_ms"):
            low, middle, high = own[name].quantile([0.25, 0.5, 0.75])
            line |= {name: middle, f"{name}_spread": f"{low:.1f} to {high:.1f}"}
            ratios = np.quantile(own[name].to_numpy() / base[name].to_numpy(), [0.25, 0.5, 0.75])
            column = "ratio" if name == "ms" else "cpu_ratio"
            line |= {column: f"{ratios[1]:.3f} ({ratios[0]:.3f} to {ratios[2]:.3f})"}
        if "held_ms" in own:
            line["held_ms"] = own["held_ms"].median()
        lines.append(line)
    return pd.DataFrame(lines)


@command
def main(argv):
    """Measures and prints a table."""
    options = parse_options(StepOptions, argv, prog="training_step.py", description=__doc__)
    with tempfile.TemporaryDirectory(prefix="step-") as folder:
        ways = step_ways(options) if options.subject == "step" else writing_ways(options, Path(folder))
        table = summary(in_turns(ways, options.rounds))
    print(table.to_string(index=False, float_format="{:.1f}".format))
    if options.json:
        write_json(options.json, table.to_dict("records"))


if __name__ == "__main__":
    sys.exit(main())
