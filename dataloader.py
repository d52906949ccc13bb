"""Manifests -> balanced batches: the door to segbalance/dataloader/, which `train.py` reads through."""

from segbalance.dataloader.batches import (
    load_data_path,
    subset_draws,
    tf_dataset,
    training_batches,
    validation_dataset,
)

__all__ = ["load_data_path", "subset_draws", "tf_dataset", "training_batches", "validation_dataset"]
