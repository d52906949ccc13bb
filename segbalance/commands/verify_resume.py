"""Kills a tiny run again and again, resumes it each time, and compares the result with the unbroken run's.

    python scripts/verify_resume.py

Each run is killed (SIGKILL) at one moment: after a training step, between the start of a checkpoint and its
rename, or in the validation. It is then resumed to its end. Weights, history.csv (but for `seconds`) and
ledger.csv must be bit-identical to the unbroken run's. Ends with status 1 if any is not.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import h5py

from segbalance.balancing.ledger import LEDGER
from segbalance.data_processing.make_csv_file import ManifestOptions, make_csv_file, split_data_train
from segbalance.errors import InputError
from segbalance.files.writing import write_json
from segbalance.runtime.command_line import command, parse_options
from segbalance.runtime.verbs import usage
from segbalance.sample_data.rendering import make_sample_data
from segbalance.train.checkpoints import CHECKPOINTS, HASHES, STATE
from segbalance.train.folder import BEST, HISTORY, LAST

ROOT = Path(__file__).resolve().parent.parent.parent  # where the package lies
STEPS_PER_EPOCH, EPOCHS = 6, 3
SETTINGS = {
    "image_size": 64,
    "batch_size": 5,
    "epochs": EPOCHS,
    "steps_per_epoch": STEPS_PER_EPOCH,
    "save_every": 2,
    "encoder_weights": "none",
    "learning_rate": 0.01,
    "augment": "copies",
    "report": "false",
}
DECODER = ["--decoder_filters", "16", "8", "8", "4", "4"]
CHECKPOINT_EVENTS = "writing 1, state 2, rename 1, hashes 3, rename 4, writing 5, rename 7"
# (kind, detail): after training step n; when checkpoint number n is about to be written (its variables, its
# state, its hashes) or renamed; after validation batch n.
Moment = tuple[str, int | str]

MOMENTS: list[Moment] = [
    *(("step", step) for step in (1, 2, 5, 7, 9, 10, 11, 14, 16)),
    *(("checkpoint", event) for event in CHECKPOINT_EVENTS.split(", ")),
    *(("validation", batch) for batch in (1, 3, 4, 5)),
]  # fmt: skip

TEMPORARY = re.compile(rf"{CHECKPOINTS}/\.epoch\d+-step\d+\.\d+\.tmp$")
EVENTS = {STATE: "state", HASHES: "hashes"}  # {file that is opened: event}


@dataclass(frozen=True)
class VerifyOptions:
    """Options of the check.

    Args:
        backbones: Encoders to check with; the kills are shared out among them.
        kills: How many of the 20 moments, evenly chosen.
        json: File for the table as JSON.
    """

    backbones: list[str] = field(default_factory=lambda: ["resnet18", "efficientnetb0"])
    kills: int = len(MOMENTS)
    json: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.kills <= len(MOMENTS):
            raise InputError(f"kills must be from 1 to {len(MOMENTS)}, got {self.kills}")


def kill() -> None:
    """Ends this process as a failing machine would."""
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at(kind: str, detail: str) -> None:
    """Makes this process kill itself at a moment of MOMENTS."""
    from segbalance.legacy_keras import tf
    from segbalance.train import callbacks

    class Killer(tf.keras.callbacks.Callback):
        validated = 0

        def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
            if kind == "step" and int(self.model.optimizer.iterations) == int(detail):
                kill()

        def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
            self.validated += 1
            if kind == "validation" and self.validated == int(detail):
                kill()

    usual = callbacks.run_callbacks
    callbacks.run_callbacks = lambda *arguments: [Killer(), *usual(*arguments)]
    if kind == "checkpoint":
        sys.addaudithook(checkpoint_killer(*detail.split()))


def checkpoint_killer(wanted: str, number: str) -> Callable[[str, tuple[Any, ...]], None]:
    """An audit hook (Python's sys.addaudithook) that kills at an event of the checkpoint of this number."""
    begun: set[Path] = set()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in ("open", "os.mkdir", "os.rename") or not isinstance(arguments[0], str | os.PathLike):
            return
        path = Path(arguments[0])
        folder = next((place for place in (path, *path.parents) if TEMPORARY.search(str(place))), None)
        if folder is None:
            return
        begun.add(folder)
        if len(begun) < int(number):
            return
        if wanted == "writing":
            threading.Thread(target=kill_when_filled, args=(folder,), daemon=True).start()
        elif wanted == (EVENTS.get(path.name) if event == "open" else event.removeprefix("os.")):
            kill()

    return hook


def kill_when_filled(folder: Path) -> None:
    """Kills this process as soon as there is a file in `folder`."""
    while not (folder.is_dir() and any(folder.iterdir())):
        time.sleep(0.0001)
    kill()


def run_child(words: Sequence[str], moment: Moment | None = None) -> int:
    """Trains in a process of its own; returns its exit status, negative for a signal."""
    place = [str(part) for part in moment] if moment else ["never", "0"]
    done = subprocess.run(
        [sys.executable, "-m", "segbalance.commands.verify_resume", "--child", *place, *words],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    if done.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"training ended with status {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done.returncode


def differences(folder: Path, expected: Path) -> list[str]:
    """Names of what is not bit-identical in two run folders."""
    found = [name for name in (BEST, LAST) if not same_weights(folder / name, expected / name)]
    histories = [pd.read_csv(place / HISTORY).drop(columns="seconds") for place in (folder, expected)]
    found += [] if histories[0].equals(histories[1]) else [HISTORY]
    same = (folder / LEDGER).read_bytes() == (expected / LEDGER).read_bytes()
    return found + ([] if same else [LEDGER])


def same_weights(path: Path, other: Path) -> bool:
    """Whether two weights files hold the same arrays under the same names, to the last bit."""
    import h5py

    def arrays(file: "h5py.File") -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        file.visititems(lambda name, item: found.update({name: item[()]}) if hasattr(item, "shape") else None)
        return found

    with h5py.File(path) as file, h5py.File(other) as other_file:
        first, second = arrays(file), arrays(other_file)
    return first.keys() == second.keys() and all(
        value.tobytes() == second[name].tobytes()
        and (value.shape, value.dtype) == (second[name].shape, second[name].dtype)
        for name, value in first.items()
    )


def prepare(folder: Path) -> list[str]:
    """Makes data and manifests below `folder`; returns the options of a run on them, but for its place."""
    make_sample_data(folder / "data", scale=0.03, image_size=96, progress=False)
    make_csv_file(ManifestOptions(data_root=str(folder / "data"), csv_dir=str(folder / "csv_file")))
    split_data_train(str(folder / "csv_file"))
    settings = SETTINGS | {"csv_dir": folder / "csv_file"}
    return [f"--{name}={value}" for name, value in settings.items()] + DECODER


def verify(options: VerifyOptions, folder: Path) -> list[dict[str, Any]]:
    """Runs everything below `folder`, as many at a time as there are cores; a row a kill."""
    words = prepare(folder)
    places = np.linspace(0, len(MOMENTS) - 1, options.kills).round().astype(int)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        unbroken = {
            backbone: pool.submit(
                run_child, [*words, f"--backbone={backbone}", f"--work_dir={folder / backbone}"]
            )
            for backbone in options.backbones[: options.kills]
        }
        rows = []
        for number, place in enumerate(places):
            backbone = options.backbones[number % len(options.backbones)]
            own = [*words, f"--backbone={backbone}", f"--work_dir={folder / f'killed{number}'}"]
            rows.append(pool.submit(kill_and_resume, folder / f"killed{number}", own, MOMENTS[place]))
        found = []
        for number, (place, row) in enumerate(zip(places, rows, strict=True)):
            backbone = options.backbones[number % len(options.backbones)]
            left = row.result()
            unbroken[backbone].result()
            different = ", ".join(differences(folder / f"killed{number}", folder / backbone)) or "nothing"
            moment = " ".join(map(str, MOMENTS[place]))
            found.append(
                {
                    "kill": number + 1,
                    "backbone": backbone,
                    "moment": moment,
                    "newest_checkpoint": left,
                    "different": different,
                }
            )
            print(f"{number + 1}: {backbone} killed at {moment}: {different}", flush=True)
    return found


def kill_and_resume(run: Path, words: Sequence[str], moment: Moment) -> str:
    """Trains until the moment, then resumes to the end; name of the newest checkpoint that the kill left."""
    if run_child(words, moment) != -signal.SIGKILL:
        raise RuntimeError(f"the moment {moment} never came")
    left = sorted(path.name for path in (run / CHECKPOINTS).glob("epoch*")) or ["none"]
    run_child([f"--resume={run}"])
    return left[-1]


@command
def main(argv: list[str]) -> None:
    """Kills, resumes, compares, and prints a table."""
    options = parse_options(VerifyOptions, argv, prog=usage("verify-resume"), description=__doc__)
    with tempfile.TemporaryDirectory(prefix="resume-") as folder:
        rows = verify(options, Path(folder))
    table = pd.DataFrame(rows)
    print(table.to_string(index=False))
    if options.json:
        write_json(options.json, rows)
    identical = int((table["different"] == "nothing").sum())
    print(f"{identical} of {len(table)} bit-identical to the unbroken run")
    if identical < len(table):
        raise RuntimeError("a resumed run is not what the unbroken one is")


def child(words: list[str]) -> int:
    """What a process of its own does: train.py with the words after the moment."""
    kind, detail, *words = words
    from segbalance.commands import train

    kill_at(kind, detail)
    return train.main(words)


if __name__ == "__main__":
    sys.exit(child(sys.argv[2:]))
