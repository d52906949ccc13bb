"""A training as a process that is watched and struck from outside, with the family that it has."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from scripts.benchmarks.watching import ROOT
from segbalance.train.checkpoints import CHECKPOINTS, newest_checkpoint
from segbalance.train.config_file import CONFIG

SHIFTED_CLOCK = Path(__file__).resolve().parent / "shifted_clock"
PATIENCE = 600  # seconds without a sign of life, on however busy a machine
NAMED = re.compile(r"epoch(\d+)-step(\d+)$")  # a checkpoint


@dataclass(frozen=True)
class Place:
    """Where a training runs.

    Args:
        words: options of train.py, without its folder.
        run: folder of the run.
        photos: folder of the training photos.
        clock: file that says by how many seconds its clock is off.
        caches: folder of caches on disk.
        logs: folder for what each process prints.
        steps_per_epoch: of the run.
        full: how its disk becomes full, one of DISKS.
    """

    words: list[str]
    run: Path
    photos: Path
    clock: Path
    caches: Path
    logs: Path
    steps_per_epoch: int
    full: str

    def newest(self):
        """Name of the newest checkpoint; "" before the first."""
        return max((path.name for path in (self.run / CHECKPOINTS).glob("epoch*-step*")), default="")

    def progress(self):
        """(whole epochs, training steps) of the newest checkpoint."""
        found = NAMED.match(self.newest())
        return (int(found[1]), int(found[2])) if found else (0, 0)

    def command(self):
        """Words of train.py that begin the run, or go on with it where there is anything to go on with."""
        if (self.run / CONFIG).exists():
            return ["--resume", str(self.run)]
        return [*self.words, "--work_dir", str(self.run)]

    def problem(self):
        """What is wrong with the newest checkpoint, which no fault may damage; "" where it is whole."""
        return "; ".join(newest_checkpoint(self.run)[1])


class Trainer:
    """train.py in a process group of its own, in which its reading processes are as well.

    Args:
        place: Place.
        options: more of train.py's.
    """

    def __init__(self, place, options=()):
        self.place, self.first = place, place.newest()
        command = [*place.command(), *options]
        self.resumed = "--resume" in command
        place.logs.mkdir(parents=True, exist_ok=True)
        self.log = place.logs / f"{len(list(place.logs.iterdir())) + 1:04}.txt"
        environment = os.environ | {
            "PYTHONPATH": str(SHIFTED_CLOCK),
            "PYTHONUNBUFFERED": "1",  # what it said is there even if it is killed
            "CHAOS_CLOCK": str(place.clock),
            "CHAOS_PARENT": str(os.getpid()),
            "XDG_CACHE_HOME": str(place.caches),
        }
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "train.py"), *command],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, process_group=0,
                env=environment,
            )  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        with contextlib.suppress(ProcessLookupError):  # all have ended
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @property
    def status(self):
        """Exit status, negative for a signal; None while it runs."""
        return self.process.poll()

    def ends_within(self, seconds):
        """Waits; whether it has ended."""
        return self.until(lambda: False, seconds) is None

    def until(self, happened, seconds=PATIENCE):
        """Waits until `happened()`. Returns True, False after so many seconds, None once it has ended."""
        end = time.monotonic() + seconds
        while self.status is None:
            if happened():
                return True
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return None

    def makes_checkpoint(self):
        """Waits for a new one; as `until`."""
        before = self.place.newest()
        return self.until(lambda: self.place.newest() > before)

    def makes_steps(self, count):
        """Waits until there is a checkpoint so many steps after the newest; as `until`."""
        _, before = self.place.progress()
        return self.until(lambda: self.place.progress()[1] >= before + count)

    def family(self):
        """Process numbers of its living group."""
        return [pid for pid, fields in processes() if int(fields[2]) == self.process.pid and fields[0] != "Z"]

    def readers(self):
        """Process numbers of its reading processes."""
        return [pid for pid in self.family() if "spawn_main" in command_line(pid)]

    def outlived_by(self):
        """Process numbers of its family that are still there half a minute after its end."""
        end = time.monotonic() + 30
        while (left := self.family()) and time.monotonic() < end:
            time.sleep(0.05)
        return left

    def said(self):
        """All that it has printed."""
        return self.log.read_text(errors="replace")

    def phase(self):
        """What it is doing at this moment, as far as it shows."""
        run = self.place.run
        if any((run / CHECKPOINTS).glob(".*.tmp")):
            return "writing"
        if not self.readers():
            return "starting"
        if self.place.newest() == self.first:
            return "first steps"
        epoch, step = self.place.progress()
        return "validation" if step == (epoch + 1) * self.place.steps_per_epoch else "training"


def processes():
    """Yields (process number, fields of its /proc/<pid>/stat from the state on)."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            yield int(folder.name), (folder / "stat").read_text().rpartition(")")[2].split()


def command_line(pid):
    """Its words with spaces between them; "" once it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""
