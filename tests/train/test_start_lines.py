"""segbalance/train/start_lines.py."""

from pathlib import Path

from segbalance.data_processing.manifest import read_manifest
from segbalance.train.config import TrainConfig
from segbalance.train.inputs import resolved
from segbalance.train.start_lines import start_lines


def test_the_start_says_what_will_happen(tables):
    manifest = read_manifest(tables)
    config = TrainConfig.of(
        csv_dir=str(tables), image_size=64, batch_size=1, epochs=2, steps_per_epoch=7, transforms={}
    )
    config = resolved(config, manifest, Path("/runs/first"))
    images = sum(map(len, manifest.train.values()))
    assert start_lines(config, manifest, 12_345_678) == [
        f"data: 3 subsets, {images} images to train on, {len(manifest.valid)} to validate with, segmentation",
        "network: unet with efficientnetb4, 12.3 million parameters, input 64 x 64 pixels",
        "steps: 2 epochs of 7 steps of 1 image",
        "run folder: /runs/first",
    ]
