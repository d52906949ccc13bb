"""Manifests -> a run folder: the main step, and the door to segbalance/train/.

python train.py
"""

from pathlib import Path

from segbalance.commands.train import main
from segbalance.runtime.leaving import leave
from segbalance.train.config import TrainConfig
from segbalance.train.config_file import load_config
from segbalance.train.fitting import train

__all__ = ["TrainConfig", "load_config", "main", "train"]

if __name__ == "__main__":
    leave(main(transforms_file=Path(__file__).resolve().parent / "transforms.py"))
