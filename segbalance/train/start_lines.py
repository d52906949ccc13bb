"""What will happen in a run, in a few lines before it does."""

from segbalance.data_processing.manifest import Manifest
from segbalance.train.config import TrainConfig


def start_lines(config: TrainConfig, manifest: Manifest, parameters: int) -> list[str]:
    """Data, network, steps and folder of a run; what it takes is known after some steps.

    Args:
        config: resolved.
        parameters: number of the network's.
    """
    images = sum(len(table) for table in manifest.train.values())
    network, optimisation = config.network, config.optimisation
    side = network.image_size
    name = network.backbone
    if manifest.kind.with_masks:
        name = f"{network.architecture} with {name}"
    return [
        f"data: {_counted(len(manifest.train), 'subset')}, {_counted(images, 'image')} to train on, "
        f"{len(manifest.valid)} to validate with, {manifest.task}",
        f"network: {name}, {parameters / 1e6:.1f} million parameters, input {side} x {side} pixels",
        f"steps: {_counted(optimisation.epochs, 'epoch')} of {_counted(config.steps_per_epoch, 'step')} of "
        f"{_counted(optimisation.batch_size, 'image')}",
        f"run folder: {config.run.work_dir}",
    ]


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
