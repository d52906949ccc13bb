"""Balanced image segmentation: folders -> manifests -> balanced batches -> a trained U-Net.

The public names are loaded when they are first used, so that `import segbalance` takes no time: TensorFlow
comes with the names that need it, pandas with those that read manifests.
"""

import importlib
from typing import Any

PUBLIC = {
    "ClassBalance": "balancing.any_dataset",
    "InputError": "errors",
    "Manifest": "data_processing.manifest",
    "ManifestOptions": "data_processing.make_csv_file",
    "RunPredictor": "prediction.predictor",
    "SegmentationModel": "model.networks",
    "TrainConfig": "train.config",
    "balance_dataset": "balancing.any_dataset",
    "balance_plan": "balancing.plan",
    "build_network": "model.networks",
    "class_weights": "balancing.plan",
    "compile_model": "model.networks",
    "load_config": "train.config_file",
    "load_data_path": "dataloader.loaders",
    "load_weights": "model.networks",
    "make_csv_file": "data_processing.make_csv_file",
    "read_manifest": "data_processing.manifest",
    "sample_from_datasets": "dataloader.loaders",
    "split_data_train": "data_processing.make_csv_file",
    "tf_dataset": "dataloader.loaders",
    "train_transform": "transforms.pipelines",
    "training_dataset": "dataloader.batches",
    "valid_transform": "transforms.pipelines",
    "validation_dataset": "dataloader.batches",
}
__all__ = sorted(PUBLIC)


def __getattr__(name: str) -> Any:
    """The public name, from the module that it lives in (PEP 562)."""
    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *PUBLIC])
