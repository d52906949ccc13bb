"""Manifests -> balanced batches: the door to segbalance/dataloader/, which `train.py` reads through."""

from segbalance.dataloader.batches import subset_draws, training_batches, validation_dataset
from segbalance.dataloader.loaders import load_data_path, sample_from_datasets, tf_dataset

__all__ = [
    "load_data_path",
    "sample_from_datasets",
    "subset_draws",
    "tf_dataset",
    "training_batches",
    "validation_dataset",
]
