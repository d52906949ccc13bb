"""The faults: when they come, what each does to a training, and which answers will do."""

import contextlib
import os
import re
import resource
import signal
import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from segbalance.files.writing import write_atomically

CLOCK_STEPS = 48  # hours, forward and backward
HELD = 15  # seconds that a disk is full or files are away, at most, if nobody notices
BLOCK = 2**20


@dataclass(frozen=True)
class Fault:
    """A fault and its moment.

    Args:
        kind: one of FAULTS.
        after_checkpoint: whether `delay` counts from the process's next checkpoint, or from the fault before,
            which may be in the start-up.
        delay: seconds.
        strength: 0 to 1, how much of it.
        held: seconds that it lasts, if it is one that lasts.
    """

    kind: str
    after_checkpoint: bool
    delay: float
    strength: float
    held: float


class Answer(NamedTuple):
    """What a training may end with at a fault: its statuses, and words that its message must have."""

    statuses: tuple[int, ...] = ()
    words: str = ""


def schedule(seed, every):
    """Yields Faults without end: each kind as often as the others, `every` seconds apart on average."""
    rng = np.random.default_rng(seed)
    while True:
        for kind in rng.permutation(list(FAULTS)):
            yield Fault(
                str(kind),
                bool(rng.random() < 0.5),
                float(rng.exponential(every)),
                float(rng.random()),
                float(rng.uniform(1, HELD)),
            )


@contextlib.contextmanager
def killed(trainer, fault):
    """SIGKILL of the trainer."""
    trainer.process.kill()
    yield ""


@contextlib.contextmanager
def terminated(trainer, fault):
    """SIGTERM, as clusters and service managers send it."""
    trainer.process.terminate()
    yield ""


@contextlib.contextmanager
def reader_killed(trainer, fault):
    """SIGKILL of a reading process; yields None where there is none."""
    readers = trainer.readers()
    if readers:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(readers[int(fault.strength * len(readers))], signal.SIGKILL)
    yield f"one of {len(readers)}" if readers else None


@contextlib.contextmanager
def disk_full(trainer, fault):
    """No room on the disk of the run, or little, for a while."""
    full = full_file_system if trainer.place.full == "tmpfs" else full_by_limit
    with full(trainer, fault) as detail:
        trainer.ends_within(fault.held)
        yield detail


@contextlib.contextmanager
def full_file_system(trainer, fault):
    """Another file takes the room."""
    disk = trainer.place.run.parent
    free = room(disk)
    left = int(free * max(0, fault.strength - 0.3) ** 3)  # none at all in every third
    filler = disk / "filler"
    try:
        with open(filler, "wb") as file, contextlib.suppress(OSError):  # the trainer takes room as well
            os.posix_fallocate(file.fileno(), 0, max(1, free - left))
        yield f"{room(disk) / BLOCK:.1f} MB left"
    finally:
        filler.unlink(missing_ok=True)


def room(disk):
    """Bytes that are free on the file system of a folder."""
    state = os.statvfs(disk)
    return state.f_bavail * state.f_frsize


@contextlib.contextmanager
def full_by_limit(trainer, fault):
    """The process may write no file larger than so much, as a quota."""
    most, pid = int((8 + 60 * fault.strength) * BLOCK), trainer.process.pid
    with contextlib.suppress(ProcessLookupError):
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, before[1]))
    yield f"files of at most {most / BLOCK:.1f} MB"
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def photos_vanished(trainer, fault):
    """Some or all of the training photos are somewhere else for a while."""
    folder = trainer.place.photos
    photos = sorted(path for path in folder.rglob("*") if path.is_file())
    away = photos[: max(1, round(fault.strength * len(photos)))]
    try:
        for path in away:
            path.rename(elsewhere(path, folder))
        trainer.ends_within(fault.held)
        yield f"{len(away)} of {len(photos)}"
    finally:
        for path in filter(lambda path: elsewhere(path, folder).exists(), away):
            elsewhere(path, folder).rename(path)


def elsewhere(path, folder):
    """Where a photo below `folder` is while it is away."""
    place = folder.with_name("away")
    place.mkdir(exist_ok=True)
    return place / "_".join(path.relative_to(folder).parts)


@contextlib.contextmanager
def clock_jumped(trainer, fault):
    """The clock is hours ahead or behind from now on, and the files' times are as far off the other way."""
    hours = CLOCK_STEPS * (2 * fault.strength - 1)
    write_atomically(trainer.place.clock, str(3600 * hours))
    moment = time.time() - 3600 * hours
    for path in trainer.place.run.rglob("*"):
        with contextlib.suppress(OSError):  # it has just been renamed or removed
            os.utime(path, (moment, moment))
    yield f"{hours:+.1f} h"


FAULTS = {
    "trainer killed": killed,
    "reading process killed": reader_killed,
    "SIGTERM": terminated,
    "disk full": disk_full,
    "photos vanished": photos_vanished,
    "clock jumped": clock_jumped,
}
ANSWERS = {
    "trainer killed": Answer((-signal.SIGKILL,)),
    "reading process killed": Answer((2,), "process"),
    "SIGTERM": Answer((128 + signal.SIGTERM, -signal.SIGTERM)),  # the latter before it can save anything
    "disk full": Answer((2,), "(?i)room|space|too large"),
    "photos vanished": Answer((2,), "png|jpe?g"),
    "clock jumped": Answer(),
}


def verdict(kind, status, said):
    """`survived`, `answered` or `failed`.

    Args:
        kind: of the fault.
        status: exit status of the training, negative for a signal; None where it runs on.
        said: what it printed.
    """
    if status in (None, 0):
        return "survived"
    answer = ANSWERS[kind]
    if status not in answer.statuses:
        return "failed"
    if status != 2:
        return "answered"
    message = said.rpartition("error: ")[2] if "error: " in said and "Traceback" not in said else ""
    return "answered" if re.search(answer.words, message) and message else "failed"
