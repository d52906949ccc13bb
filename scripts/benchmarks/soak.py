"""Trains for some minutes, watches the memory, and ends the training as Ctrl-C does.

    python scripts/benchmarks/soak.py --minutes 20 --num_workers 2 --cache ram

Takes the command line of train.py. The memory is what its processes have taken for themselves, without mapped
libraries, of which other programs carry a part. Ends with status 0 if the memory of the last third of the
time is no more than 2 % above that of the second, and the training ended with status 130; else with 1.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np

from segbalance.errors import InputError
from segbalance.runtime.command_line import INTERRUPTED, command
from segbalance.runtime.memory import family_memory
from segbalance.train.config import TrainConfig
from segbalance.train.config_file import parse_config, save_config
from segbalance.train.folder import read_history
from segbalance.train.inputs import read_data

SLACK = 1.02
SAMPLES = 120  # of the memory, over the whole time


@dataclass(frozen=True)
class SoakOptions:
    """The soak.

    Args:
        minutes: How long to train after the first epoch.
    """

    config: TrainConfig
    minutes: float = 20.0

    def __post_init__(self):
        if not 0 < self.minutes < float("inf"):
            raise InputError(f"minutes must be greater than 0, got {self.minutes}; try 20")


def soak(config, minutes, folder):
    """Trains as `config` says for so many minutes after its first epoch.

    Returns:
        (MB of the training's processes at even times, float (N,); its exit status)
    """
    save_config(config, folder)
    # A shell that starts this in the background would have Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    words = [
        sys.executable,
        ROOT / "train.py",
        "--config",
        folder / "config.yaml",
        "--work_dir",
        folder / "run",
    ]
    training = subprocess.Popen([str(word) for word in words], stdout=subprocess.DEVNULL, process_group=0)
    try:
        while not (folder / "run" / "history.csv").exists() and training.poll() is None:
            time.sleep(0.2)
        started, taken = time.monotonic(), []
        while training.poll() is None and len(taken) < SAMPLES:
            taken.append(family_memory(training.pid, files=False))
            time.sleep(max(0, started + len(taken) * 60 * minutes / SAMPLES - time.monotonic()))
        if training.poll() is None:
            os.killpg(training.pid, signal.SIGINT)
        return np.array(taken), training.wait(timeout=120)
    finally:
        if training.poll() is None:
            os.killpg(training.pid, signal.SIGKILL)


@command
def main(argv):
    """Trains, prints the memory of each third of the time, and judges."""
    options = parse_config(SoakOptions, argv, prog="soak.py", description=__doc__)
    config = options.config
    read_data(config)  # what is wrong there is said at once
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        taken, status = soak(config, options.minutes, Path(folder))
        if len(taken) < SAMPLES:
            raise InputError(f"the training ended by itself, with status {status}; give it more --epochs")
        epochs = len(read_history(Path(folder, "run")))
    thirds = [part.mean() for part in np.array_split(taken, 3)]
    print(f"{epochs} epochs, then Ctrl-C: status {status}")
    print(
        "memory by thirds (MB): " + ", ".join(f"{mean:.0f}" for mean in thirds) + f"; peak {taken.max():.0f}"
    )
    if thirds[2] > SLACK * thirds[1]:
        raise RuntimeError(
            f"the memory grew by {thirds[2] / thirds[1] - 1:.1%} from the second third to the last"
        )
    if status != INTERRUPTED:
        raise RuntimeError(f"the training ended with status {status}, expected {INTERRUPTED}")


if __name__ == "__main__":
    sys.exit(main())
