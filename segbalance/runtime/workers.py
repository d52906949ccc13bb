"""Worker processes that import nothing but what they work with, and that end with their parent."""

import contextlib
import mmap
import multiprocessing
import multiprocessing.connection
import multiprocessing.reduction
import os
import pickle
import queue
import signal
import sys
import tempfile
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

import cv2

from segbalance.errors import InputError
from segbalance.runtime.memory import keep_freed_memory

# Forking is not safe once a library such as TensorFlow has started threads.
CONTEXT = multiprocessing.get_context("spawn")


@contextlib.contextmanager
def worker_pool(count: int) -> Iterator[ProcessPoolExecutor]:
    """An executor with `count` processes, already starting; an error in the block drops what has not begun.

    The functions that it is given must be importable. Ctrl-C ends the workers at once, so they should leave
    nothing half done that matters.
    """
    # Hidden until the end, for a process that starts late.
    with _hidden_script(), ProcessPoolExecutor(count, CONTEXT, _prepare_worker) as pool:
        with _interrupts_held():
            for _ in range(count):
                pool.submit(int)
        try:
            yield pool
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@contextlib.contextmanager
def _hidden_script() -> Iterator[None]:
    """Spawned processes would import the script that was started anew, with TensorFlow if it imports that."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Keeps Ctrl-C until the block ends; processes started in it see none before they ask for it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _prepare_worker(at_interrupt: signal.Handlers = signal.SIG_DFL) -> None:
    """Ends without a traceback at Ctrl-C, ends with its parent, and leaves the other cores to the others."""
    signal.signal(signal.SIGINT, at_interrupt)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(0)
    keep_freed_memory()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "this is a worker"
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


class WorkerCrew:
    """Processes that each answer calls of one function, for work in small pieces without a pause.

    An executor's queues and threads take a core longer for each call than a good part of the work here. The
    processes finish what they do at Ctrl-C and end with this process or object.

    Args:
        count: number of processes.
        function: importable; called in a process with `state` and the arguments of a call.
        state: copied to each process as it starts.
        prepare: importable; called there without arguments before the state is unpacked.
    """

    def __init__(
        self,
        count: int,
        function: Callable[..., Any],
        state: Any,
        prepare: Callable[[], object] | None = None,
    ) -> None:
        self._idle: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        self._starting: list[Connection] = []
        self._lock = threading.Lock()
        with _hidden_script(), _interrupts_held():
            for _ in range(count):
                own, theirs = CONTEXT.Pipe()
                work = theirs, function, prepare, Packed(state)
                process = CONTEXT.Process(target=_serve, args=work, daemon=True)
                process.start()
                theirs.close()
                self._starting.append(own)
                weakref.finalize(self, own.close)

    def ready(self) -> bool:
        """True once all processes have started. Raises what kept one from it."""
        if not self._starting:
            return True
        with self._lock:
            for connection in self._starting[:]:
                if connection.poll():
                    _answer(connection)
                    self._starting.remove(connection)
                    self._idle.put(connection)
            return not self._starting

    def call(self, *arguments: Any) -> Any:
        """What the function returns in a process that is idle; waits for one. Any number of threads may call.

        Raises:
            InputError: the process ended before its time.
            Exception: whatever the function raised.
        """
        connection = self._idle.get()
        try:
            return _answer(connection, arguments)
        finally:
            self._idle.put(connection)


def _answer(connection: Connection, arguments: tuple[Any, ...] | None = None) -> Any:
    try:
        if arguments is not None:
            connection.send(arguments)
        result, error = connection.recv()
    except (EOFError, OSError):
        raise InputError(
            "a worker process ended before its time, perhaps because memory ran out. Try fewer "
            "--num_workers, or 0 for threads."
        ) from None
    if error is not None:
        raise error
    return result


class Packed:
    """A value that a new process unpacks when it is asked to, not before it has taken all of it in.

    Unpacking can mean to import for seconds, while the process that starts it waits.
    """

    _packed: bytes  # in the new process

    def __init__(self, value: Any) -> None:
        self._value = value

    def __getstate__(self) -> dict[str, bytes]:
        # While a process starts, for what it inherits (SharedMemory) is told only then.
        return {"_packed": bytes(multiprocessing.reduction.ForkingPickler.dumps(self._value))}

    def unpacked(self) -> Any:
        """The value, in the new process."""
        return pickle.loads(self._packed)


def _serve(
    connection: Connection,
    function: Callable[..., Any],
    prepare: Callable[[], object] | None,
    packed: Packed,
) -> None:
    """The work of a process of a WorkerCrew."""
    _prepare_worker(signal.SIG_IGN)
    try:
        if prepare is not None:
            prepare()
        state = packed.unpacked()
    except Exception as error:
        connection.send((None, error))
        return
    connection.send((None, None))
    while True:
        try:
            arguments = connection.recv()
        except (EOFError, OSError):  # nobody is left to ask
            return
        try:
            answer: tuple[Any, Exception | None] = function(state, *arguments), None
        except Exception as error:
            answer = None, error
        connection.send(answer)


class SharedMemory:
    """Memory that worker processes see as well; it grows as needed and goes with the last that holds it.

    It may be given to a process as it starts. Only what is written to takes room.

    Args:
        size: bytes to begin with.
    """

    def __init__(self, size: int = 0) -> None:
        # The usual way, by /dev/shm, is limited to 64 MB in many a container.
        self._descriptor = os.memfd_create("shared") if hasattr(os, "memfd_create") else _nameless_file()
        self._open(size)

    def _open(self, size: int) -> None:
        self._size = 0
        self._lock = threading.Lock()
        self._parts: dict[int, mmap.mmap] = {}
        weakref.finalize(self, os.close, self._descriptor)
        if size:
            self.extend(size)

    def __getstate__(self) -> Any:
        return multiprocessing.reduction.DupFd(self._descriptor)

    def __setstate__(self, descriptor: Any) -> None:
        self._descriptor = descriptor.detach()
        self._open(0)

    def extend(self, size: int) -> int:
        """Adds `size` bytes, in the process that made it; returns their offset."""
        with self._lock:
            offset = self._size
            self._size += -(-size // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
            os.ftruncate(self._descriptor, self._size)
        return offset

    def part(self, offset: int, size: int) -> mmap.mmap:
        """The `size` bytes that `extend` placed at `offset`, to read and write: mmap."""
        part = self._parts.get(offset)
        if part is None:
            part = self._parts[offset] = mmap.mmap(self._descriptor, size, offset=offset)
        return part

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lets one thread of one process in at a time; a process that ends lets go of it."""
        import fcntl  # not on Windows

        with self._lock:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN)


def _nameless_file() -> int:
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
