"""Folders held by one process at a time: a lock file that names its holder, with a heartbeat.

A holder touches its lock file every BEAT seconds. Where it was a process of this machine and has ended, the
next takes its place at once. Otherwise the lock counts as dead once its file has stood still for SILENCE
seconds, watched from here: no clock of another host is asked, and a jump of this one's changes nothing.
Whoever writes files whole asks `check_held` before each rename, so that a process whose lock was taken over,
as after hours without network, leaves the files of its successor alone.

The package filelock has most of this, but takes over only where two names can be swapped in one step, which
network file systems refuse.
"""

import contextlib
import hashlib
import os
import signal
import stat
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import NamedTuple, NoReturn

from segbalance.errors import InputError
from segbalance.files.holders import Holder

LOCK = ".lock"
BEAT, SILENCE = 10.0, 120.0  # seconds
POLL = 0.2  # seconds between two looks at another's lock
MOST_BETWEEN = 2.0  # seconds between two looks that count: while a file server is away, nobody can beat
MOST_BYTES = 4096  # of a lock file

_held: "dict[Path, FolderLock]" = {}  # the locks of this process


@contextlib.contextmanager
def locked(
    folder: str | Path, what: str, option: str, *, part: str = "", patience: float = 0.0
) -> Iterator[None]:
    """Holds a folder until the block ends. It is made if need be, and goes again if nothing came into it.

    A thread may enter a folder that it holds already. SIGTERM leaves the block as Ctrl-C does.

    Args:
        what: is done there, for the others' message.
        option: by which the user named the folder.
        part: of the folder, where several processes write to it, each of them other files.
        patience: seconds to wait for another process that holds it.

    Raises:
        InputError: another process holds it, or no lock can be written there; in the block, by `check_held`.
    """
    path = Path(os.path.realpath(folder), f"{LOCK}-{part}" if part else LOCK)
    own = _held.get(path)
    if own and own.thread == threading.get_ident():
        yield
        return
    lock = FolderLock(path, Holder.here(what))
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(made_folder(path.parent))
            stack.enter_context(_sigterm_leaves())
            stack.callback(lock.release)
            _take(path, lock.holder, patience)
        except _InUseError as error:
            other = "" if option == "--resume" else f", or choose another {option}"
            raise InputError(
                f"{option} {folder} is in use: {error}. Wait for it, or end it{other}."
            ) from None
        except OSError as error:
            raise InputError(
                f"{option} {folder} cannot be locked, with {path.name} in it: {error.strerror or error}. "
                "Choose a folder that can be written to and has room left."
            ) from None
        lock.begin()
        yield


def check_held(places: Iterable[str | Path]) -> None:
    """To be called before files or folders are put in their places.

    Raises:
        InputError: a place lies in a folder that this process held, and has lost. Others are not asked about.
    """
    if not _held:
        return
    folders = {Path(os.path.realpath(Path(place).parent)) for place in places}
    for lock in list(_held.values()):
        if any(folder.is_relative_to(lock.path.parent) for folder in folders):
            lock.check()


@contextlib.contextmanager
def made_folder(folder: Path, exist_ok: bool = True) -> Iterator[None]:
    """Makes a folder and those above it; those of them that are empty in the end go again.

    Raises:
        FileExistsError: it is there, and `exist_ok` is False.
        OSError: it cannot be made.
    """
    absent = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=exist_ok)
    try:
        yield
    finally:
        for place in absent:
            with contextlib.suppress(OSError):  # it is in use
                place.rmdir()


class FolderLock:
    """A lock that this process takes.

    Args:
        path: of the lock file.
        holder: this process.
    """

    def __init__(self, path: Path, holder: Holder) -> None:
        self.path = path
        self.holder = holder
        self.thread = threading.get_ident()  # that took it
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="lock", daemon=True)

    def begin(self) -> None:
        """The lock is taken: `check_held` knows of it, and its heart beats."""
        _held[self.path] = self
        self._heart.start()

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            with contextlib.suppress(OSError):  # the network may come back
                if self._is_held():
                    os.utime(self.path)

    def _is_held(self) -> bool:
        now = _look(self.path)
        return now is not None and now.content == self.holder.content()

    def check(self) -> None:
        """Raises InputError where another process has taken the folder, or somebody has removed the lock."""
        if not self._is_held():
            now = _look(self.path)
            taken = f"is in use: {now}" if now else f"has lost its lock {self.path.name}"
            raise InputError(
                f"{self.path.parent} {taken}. The {self.holder.what} of this process, since "
                f"{self.holder.since}, ends here and leaves the files there as they are."
            )

    def release(self) -> None:
        """Removes the lock file, as far as it is that of this lock."""
        self._ended.set()
        if self._heart.ident is not None:
            self._heart.join()
            del _held[self.path]
        with contextlib.suppress(OSError):
            if self._is_held():
                self.path.unlink()


class _InUseError(Exception):
    """Another process holds the lock; the text says which."""


class _Seen(NamedTuple):
    """A lock file at one moment: its content, and when it was last touched, by whatever clock."""

    content: bytes
    touched: int

    @property
    def holder(self) -> Holder | None:
        """Whom it names, if it is whole."""
        return Holder.read(self.content)

    def __str__(self) -> str:
        return str(self.holder or "its lock does not say by whom")


def _look(path: Path) -> _Seen | None:
    """The lock file as it is now; None without one. It may come from elsewhere, and be a link or a pipe."""
    careful = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        # Opened, because network file systems answer other questions from memory.
        descriptor = os.open(path, os.O_RDONLY | careful)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{path} is no file")
        return _Seen(os.read(descriptor, MOST_BYTES), status.st_mtime_ns)
    finally:
        os.close(descriptor)


class _Watch:
    """Whether the holder of a lock lives, as far as it was watched."""

    def __init__(self) -> None:
        self._seen: _Seen | None = None
        self._looked = 0.0
        self._beats = False
        self.silent = 0.0  # seconds without a heartbeat

    def alive(self, seen: _Seen) -> bool | None:
        """What is known with this look; None for not yet."""
        now = time.monotonic()
        if seen == self._seen:
            self.silent += min(now - self._looked, MOST_BETWEEN)
        else:
            self._beats = self._seen is not None and seen.content == self._seen.content
            self.silent = 0.0
        self._seen, self._looked = seen, now
        runs = seen.holder.runs() if seen.holder else None
        if runs is not None:
            return runs
        return False if self.silent >= SILENCE else self._beats or None


def _take(path: Path, own: Holder, patience: float) -> None:
    """Writes a lock file, once there is none of a living holder.

    Raises:
        _InUseError: there is, and `patience` seconds have passed.
        OSError: it cannot be written.
    """
    watch, until, told = _Watch(), time.monotonic() + patience, False
    while not _created(path, own):
        seen = _look(path)
        alive = watch.alive(seen) if seen else None
        if seen and alive is False and _took_over(path, seen, own):
            return
        if seen and alive and time.monotonic() >= until:
            raise _InUseError(str(seen))
        if seen and watch.silent > 1 and not told:
            told = True
            print(
                f"{path.parent} is in use: {seen}; waiting for its heartbeat. Without one in "
                f"{SILENCE:.0f} s the folder is free.",
                flush=True,
            )
        time.sleep(POLL)


def _created(path: Path, own: Holder) -> bool:
    """Writes a lock file where there is none; False where there is one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)  # another may just have left it
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except (FileExistsError, FileNotFoundError):
        return False
    with open(descriptor, "wb") as file:
        file.write(own.content())
    return True


def _took_over(path: Path, dead: _Seen, own: Holder) -> bool:
    """Replaces the lock file of a dead holder; False where it is no longer there, or another process does so.

    Only who holds a second lock, named after the content of the first, may replace that. Two that found the
    same holder dead then never both win, and the second lock is taken over like any other.
    """
    claim = path.with_name(f"{path.name}.{hashlib.sha256(dead.content).hexdigest()[:8]}")
    try:
        _take(claim, own, 0)
    except _InUseError:
        return False
    new = path.with_name(f"{path.name}.{own.token}")
    try:
        if _look(path) != dead:
            return False
        new.write_bytes(own.content())
        new.replace(path)
        return True
    finally:
        new.unlink(missing_ok=True)
        claim.unlink(missing_ok=True)


@contextlib.contextmanager
def _sigterm_leaves() -> Iterator[None]:
    """SIGTERM ends the block, and with it the program, where it would have ended the program on the spot."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    others_see_to_it = threading.current_thread() is not threading.main_thread()  # who alone gets signals
    if others_see_to_it or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
