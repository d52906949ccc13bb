"""Trains for an hour among faults at random moments, and compares the results with an undisturbed run's.

    nice python scripts/benchmarks/chaos.py --minutes 60

A small network is trained on rendered data: once in peace, then again and again among faults, until the
time is full. Trainer and reading processes are killed (SIGKILL), the trainer gets SIGTERM, the disk of the
run is full for a while, photos vanish and come back, and the clock jumps by up to two days. Where the
training ends it must say why, with the status that is meant for it, leave no process and no damaged
checkpoint behind, and then go on with --resume. Each run that comes to its end must have weights, history.csv
(but for `seconds`) and ledger.csv that are bit-identical to the undisturbed run's, with caches off, in memory
or on disk by turns.

The disk is a small tmpfs of the benchmark's own, as root or where users may have namespaces of mounts;
elsewhere the system limits the size of the trainer's files. The clock is shifted as Python sees it (see
shifted_clock/sitecustomize.py). The folder `--output` gets a line for each fault, what each process said, and
the table as Markdown and JSON. Ends with status 1 if anything failed. Linux only.
"""

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.benchmarks.chaos_faults import FAULTS, schedule, verdict
from scripts.benchmarks.chaos_record import Record
from scripts.benchmarks.chaos_trainer import PATIENCE, Place, Trainer
from segbalance.commands.verify_resume import differences, prepare
from segbalance.errors import InputError
from segbalance.runtime.command_line import command, parse_options

STEPS_PER_EPOCH = 12
SETTINGS = {
    "backbone": "resnet18",
    "batch_size": 8,
    "steps_per_epoch": STEPS_PER_EPOCH,
    "save_every": 4,
    "learning_rate": 0.002,
    "num_workers": 2,
    "on_bad_file": "stop",
}
CACHES = {  # by kind of disk: a limit of files would also be one of the memory that processes share
    "tmpfs": ("off", "ram", "disk"),
    "limit": ("off", "disk"),
}
ENDED = ("trainer killed", "SIGTERM")  # faults that no training survives
LONGEST = 800  # characters of a line in the log
MOST_FAILURES = 5  # of a run, which is then given up
OWN_MOUNTS = "CHAOS_OWN_MOUNTS"


@dataclass(frozen=True)
class ChaosOptions:
    """Options of the benchmark.

    Args:
        minutes: Of training among faults, besides the undisturbed run.
        epochs: Of each run.
        every: Seconds between two faults on average, besides the wait for a checkpoint before every other.
        seed: Of the faults.
        disk: How the disk becomes full. `tmpfs`: a small file system is filled. `limit`: files may not grow.
            `auto`: the former where it is allowed.
        output: New folder for the log, the table, and what each process said.
    """

    minutes: float = 60.0
    epochs: int = 24
    every: float = 12.0
    seed: int = 0
    disk: Literal["auto", "tmpfs", "limit"] = "auto"
    output: str = "chaos"

    def __post_init__(self):
        for name in ("minutes", "epochs", "every"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name} must be greater than 0, got {getattr(self, name)}")
        if self.seed < 0:
            raise InputError(f"seed must not be negative, got {self.seed}")
        if Path(self.output).exists():
            raise InputError(f"--output {self.output} is there already; delete it, or choose another")


def meet(trainer, fault):
    """Strikes, waits for the answer, and judges it: a row for `Record.fault`; None if it came too late."""
    before, phase, started = trainer.place.newest(), trainer.phase(), time.monotonic()
    with FAULTS[fault.kind](trainer, fault) as detail:
        pass
    if detail is None:
        return None
    wrong = (
        []
        if answers(trainer, fault.kind)
        else [f"neither an end nor {STEPS_PER_EPOCH} steps within {PATIENCE} s"]
    )
    ended, said = trainer.status is not None, trainer.said()
    if ended:
        wrong += aftermath(trainer, before)
    return {
        "kind": fault.kind,
        "phase": phase,
        "detail": detail,
        "verdict": "failed" if wrong else verdict(fault.kind, trainer.status, said),
        "status": trainer.status,
        "seconds": round(time.monotonic() - started, 1),
        "said": wrong + (last_lines(said) if ended else []),
        "log": trainer.log.name,
    }


def answers(trainer, kind):
    """Waits until a training has ended, or shown that it goes on; returns False if it does neither."""
    if kind in ENDED:
        return trainer.ends_within(PATIENCE)
    # Batches are read ahead, and none are read in the validation.
    return trainer.makes_steps(STEPS_PER_EPOCH) is not False


def last_lines(said):
    """The message that a process ended with, or the end of what it printed."""
    lines = [line[:LONGEST] for line in said.splitlines() if line.strip()]
    errors = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    return lines[errors[-1] if errors else -2 :][:4]


def aftermath(trainer, before):
    """What is wrong after the end of a training, `before` being the newest checkpoint before the fault."""
    wrong = []
    if left := trainer.outlived_by():
        wrong.append(f"processes of its family outlived it: {left}")
    if trainer.place.newest() < before:
        wrong.append(f"the checkpoint {before} is gone")
    try:
        wrong += filter(None, [trainer.place.problem()])
    except InputError as error:
        wrong.append(str(error))
    return wrong


def comes(trainer, fault):
    """Waits for the moment of a fault; False if the training ends before, or makes no more checkpoints."""
    # In the start-up it would be memory that a limit refuses.
    limit = fault.kind == "disk full" and trainer.place.full == "limit"
    if (fault.after_checkpoint or limit) and not trainer.makes_checkpoint():
        return False
    if fault.kind == "reading process killed" and not trainer.until(trainer.readers):
        return False
    return not trainer.ends_within(fault.delay)


def disturb(trainer, faults, until, record):
    """Strikes a training until it ends, by itself or not, or the time is over; then waits for its end."""
    while time.monotonic() < until:
        fault = next(faults)
        if not comes(trainer, fault):
            break
        row = meet(trainer, fault)
        if row:
            record.fault(**row)
        if trainer.status is not None or row and row["verdict"] == "failed":
            return
    if run_on(trainer) != 0:
        record.fault(
            kind="no fault", phase="no fault", detail="", verdict="failed", status=trainer.status,
            seconds=0.0, said=last_lines(trainer.said()), log=trainer.log.name,
        )  # fmt: skip


def run_on(trainer):
    """Waits for the end of a training as long as it makes checkpoints; returns its status, None without."""
    while trainer.makes_checkpoint():
        pass
    return trainer.status


def train_in_peace(place):
    """The run that the others are compared with."""
    with Trainer(place) as trainer:
        if run_on(trainer) != 0:
            raise RuntimeError(f"the undisturbed run ended with status {trainer.status}:\n{trainer.said()}")


def train_among_faults(place, faults, caches, until, record):
    """One run to its end; returns the number of its resumes, or None if it failed again and again."""
    failures = 0
    for resumes in itertools.count():
        with Trainer(place, ["--cache", next(caches)]) as trainer:
            disturb(trainer, faults, until, record)
            if trainer.status == 0:
                return resumes
        failures += record.faults[-1]["verdict"] == "failed"
        if failures == MOST_FAILURES:
            return None


def undisturbed_place(options, folder, record):
    """Makes the data in `folder`; returns the Place of the undisturbed run."""
    words = [*prepare(folder), f"--epochs={options.epochs}"]
    return Place(
        words=words + [f"--{name}={value}" for name, value in SETTINGS.items()],
        run=folder / "undisturbed",
        photos=folder / "data" / "train" / "images",
        clock=folder / "clock",
        caches=folder / "caches",
        logs=record.output / "said",
        steps_per_epoch=STEPS_PER_EPOCH,
        full=record.disk,
    )


def chaos(options, folder, record):
    """Trains in peace, then among faults until the time is full; all of it in `folder`."""
    place = undisturbed_place(options, folder, record)
    record.tell("the undisturbed run begins")
    started = time.monotonic()
    train_in_peace(place)
    record.tell(f"the undisturbed run took {time.monotonic() - started:.0f} s")
    faults = schedule(options.seed, options.every)
    caches = itertools.cycle(CACHES[record.disk])
    size = 2 * sum(path.stat().st_size for path in place.run.rglob("*") if path.is_file())
    while (left := 60 * (options.minutes - record.minutes)) > 1:
        started = time.monotonic()
        with small_disk(folder / "disk", size, record.disk) as disk:
            run = replace(place, run=disk / "run")
            resumes = train_among_faults(run, faults, caches, started + left, record)
            record.minutes += min(left, time.monotonic() - started) / 60
            different = ["no end"] if resumes is None else differences(run.run, place.run)
            record.run(resumes, different)
            if different:
                shutil.copytree(run.run, record.output / f"run{len(record.runs)}")


@contextlib.contextmanager
def small_disk(folder, size, kind):
    """An empty folder, of `tmpfs` on a file system of so many bytes; removed in the end."""
    folder.mkdir()
    if kind == "tmpfs":
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "chaos", folder], check=True)
    try:
        yield folder
    finally:
        if kind == "tmpfs":
            subprocess.run(["umount", "--lazy", folder], check=True)
        shutil.rmtree(folder)


def with_own_mounts():
    """Starts this program again with mounts of its own, which end with it, where the system allows it."""
    words = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    trial = [*words, "mount", "-t", "tmpfs", "chaos", tempfile.gettempdir()]
    with contextlib.suppress(FileNotFoundError):
        if os.environ.get(OWN_MOUNTS) or subprocess.run(trial, stderr=subprocess.DEVNULL).returncode:
            return
        os.environ[OWN_MOUNTS] = str(os.getpid())  # which stays the same
        os.execvp(words[0], [*words, sys.executable, *sys.orig_argv[1:]])


def chosen_disk(wanted):
    """`tmpfs` or `limit`. Raises InputError where the former is wanted and cannot be had."""
    mounts = os.environ.get(OWN_MOUNTS) == str(os.getpid())
    if wanted == "tmpfs" and not mounts:
        raise InputError(
            "--disk tmpfs needs unshare and mount, and root or user namespaces; try --disk limit"
        )
    return "tmpfs" if mounts and wanted != "limit" else "limit"


@contextlib.contextmanager
def tidy_at_sigterm():
    """Lets SIGTERM end this program as Ctrl-C does: with everything removed."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@command
def main(argv):
    """Trains among faults, prints a table, and judges."""
    options = parse_options(ChaosOptions, argv, prog="chaos.py", description=__doc__)
    record = Record(options.output, chosen_disk(options.disk))
    with tidy_at_sigterm():
        try:
            with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
                chaos(options, Path(folder), record)
        finally:
            record.write()
    if record.failed:
        raise RuntimeError(f"something failed: see {record.output / 'log.txt'}")


if __name__ == "__main__":
    with_own_mounts()
    sys.exit(main())
