"""Worker processes that import nothing but what they work with, and that end with their parent."""

import contextlib
import mmap
import multiprocessing
import multiprocessing.connection
import multiprocessing.reduction
import multiprocessing.resource_tracker
import multiprocessing.util
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
SIGNALS = (signal.SIGINT, signal.SIGTERM)  # clusters and terminals send them to all processes of a job
KILLED = -9  # by SIGKILL, which Windows lacks
MOST_DEATHS = 5  # of a crew's processes in a row, without one answer between them


@contextlib.contextmanager
def worker_pool(count: int) -> Iterator[ProcessPoolExecutor]:
    """An executor with `count` processes, already starting; an error in the block drops what has not begun.

    The functions that it is given must be importable. Ctrl-C ends the workers at once, so they should leave
    nothing half done that matters.
    """
    # Hidden until the end, for a process that starts late.
    with _hidden_script, ProcessPoolExecutor(count, CONTEXT, _prepare_worker) as pool:
        with _signals_held():
            for _ in range(count):
                pool.submit(int)
        try:
            yield pool
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


class _HiddenScript:
    """Spawned processes would import the script that was started anew, with TensorFlow if it imports that.

    It is hidden while at least one thread has entered.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._script: types.ModuleType | None = None

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._script = sys.modules["__main__"]
                sys.modules["__main__"] = types.ModuleType("__main__")

    def __exit__(self, *raised: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                assert self._script is not None, "whoever came first has set it"
                sys.modules["__main__"] = self._script


_hidden_script = _HiddenScript()


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Keeps the SIGNALS until the block ends; processes started in it see none before they ask for it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    multiprocessing.resource_tracker.ensure_running()  # the start of the first process lets all signals in
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _prepare_worker(at_signal: signal.Handlers = signal.SIG_DFL) -> None:
    """Ends without a traceback at Ctrl-C, ends with its parent, and leaves the other cores to the others."""
    for number in SIGNALS:
        signal.signal(number, at_signal)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
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
    processes finish what they do at Ctrl-C and SIGTERM, and end with this process or object. One that dies,
    killed for memory say, is replaced, and its call is made again.

    Args:
        count: number of processes.
        function: importable; called in a process with `state` and the arguments of a call. A call may come
            twice, so it must not matter whether it came once.
        state: copied to each process as it starts, also to one that starts later.
        prepare: importable; called there without arguments before the state is unpacked.
    """

    def __init__(
        self,
        count: int,
        function: Callable[..., Any],
        state: Any,
        prepare: Callable[[], object] | None = None,
    ) -> None:
        self._work = function, prepare, Packed(state)
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._deaths = 0  # since the last answer
        self._failure: Exception | None = None  # that keeps processes from starting
        self._starting = [_Worker(*self._work) for _ in range(count)]

    def ready(self) -> bool:
        """True once all processes have started. Raises what kept one from it."""
        if not self._starting:
            return True
        with self._lock:
            for place, worker in enumerate(self._starting):
                if worker.connection.poll() and not self._has_started(worker):
                    self._starting[place] = self._replacement(worker)
            for worker in [worker for worker in self._starting if worker.started]:
                self._starting.remove(worker)
                self._idle.put(worker)
            return not self._starting

    def call(self, *arguments: Any) -> Any:
        """What the function returns in a process that is idle; waits for one. Any number of threads may call.

        Raises:
            InputError: MOST_DEATHS processes died in a row.
            Exception: whatever the function raised, or what kept a new process from starting.
        """
        worker = self._idle.get()
        try:
            while True:
                if worker.started or self._has_started(worker):
                    with contextlib.suppress(_DeadError):
                        result, error = worker.answer(arguments)
                        break
                with self._lock:
                    worker = self._replacement(worker)
        finally:
            self._idle.put(worker)
        self._deaths = 0
        if error is not None:
            raise error
        return result

    def _has_started(self, worker: "_Worker") -> bool:
        """Waits for a process to start; False where it died. Raises what kept it from starting."""
        if self._failure is None:
            try:
                _, self._failure = worker.answer()
            except _DeadError:
                return False
        if self._failure is not None:
            raise self._failure
        worker.started = True
        return True

    def _replacement(self, dead: "_Worker") -> "_Worker":
        """A new process in the place of one that died; says so. With the lock."""
        self._deaths += 1
        if self._deaths >= MOST_DEATHS or multiprocessing.util.is_exiting():
            raise InputError(
                "a worker process ended before its time, perhaps because memory ran out. Try fewer "
                "--num_workers, or 0 for threads."
            )
        text = f"warning: {dead.obituary()}; a new one takes its place and does its work again"
        with contextlib.suppress(OSError):  # the terminal may be what has gone
            print(f"\n{text}\n", end="", flush=True)  # at once, for others print too
        return _Worker(*self._work)


class _DeadError(Exception):
    """A process died before it answered."""


class _Worker:
    """A process of a WorkerCrew, which has begun to start."""

    def __init__(
        self, function: Callable[..., Any], prepare: Callable[[], object] | None, packed: "Packed"
    ) -> None:
        self.connection, theirs = CONTEXT.Pipe()
        self.process = CONTEXT.Process(target=_serve, args=(theirs, function, prepare, packed), daemon=True)
        self.started = False
        weakref.finalize(self, self.connection.close)
        with _hidden_script, _signals_held():
            self.process.start()
        theirs.close()
        _workers.add(self)

    def answer(self, arguments: tuple[Any, ...] | None = None) -> tuple[Any, Exception | None]:
        """(result, error) of a call; without arguments, of the start.

        Raises:
            _DeadError: the process died.
        """
        try:
            if arguments is not None:
                self.connection.send(arguments)
            answer: tuple[Any, Exception | None] = self.connection.recv()
        except (EOFError, OSError):
            raise _DeadError from None
        return answer

    def obituary(self) -> str:
        """Which process died, and of what."""
        self.process.kill()  # where it lives on without its connection
        self.process.join(5)
        code = self.process.exitcode
        if code == KILLED:
            return f"worker process {self.process.pid} was killed, perhaps because memory ran out"
        known = "" if code is None else f" with status {code}"  # another thread may have just asked
        return f"worker process {self.process.pid} ended{known}"


_workers: "weakref.WeakSet[_Worker]" = weakref.WeakSet()


def _kill_workers() -> None:
    for worker in list(_workers):
        worker.process.kill()


# Before multiprocessing ends them by SIGTERM, which they ignore, and waits.
multiprocessing.util.Finalize(None, _kill_workers, exitpriority=0)


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
    with contextlib.suppress(EOFError, OSError):  # nobody is left to ask, or to tell
        _answer_calls(connection, function, prepare, packed)


def _answer_calls(
    connection: Connection,
    function: Callable[..., Any],
    prepare: Callable[[], object] | None,
    packed: Packed,
) -> None:
    try:
        if prepare is not None:
            prepare()
        state = packed.unpacked()
    except Exception as error:
        connection.send((None, error))
        return
    connection.send((None, None))
    while True:
        arguments = connection.recv()
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
