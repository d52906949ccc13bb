"""Worker processes that import nothing but what they work with, and that end with their parent."""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import types
from concurrent.futures import ProcessPoolExecutor

import cv2

from memory import keep_freed_memory


@contextlib.contextmanager
def worker_pool(count):
    """An executor with `count` processes, already starting; an error in the block drops what has not begun.

    The functions that it is given must be importable. Ctrl-C ends the workers at once, so they should leave
    nothing half done that matters.
    """
    # Forking is not safe once a library such as TensorFlow has started threads.
    context = multiprocessing.get_context("spawn")
    with _hidden_script(), ProcessPoolExecutor(count, context, _prepare_worker) as pool:
        with _interrupts_held():
            for _ in range(count):
                pool.submit(int)
        try:
            yield pool
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@contextlib.contextmanager
def _hidden_script():
    """Spawned processes would import the script that was started anew, with TensorFlow if it imports that."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


@contextlib.contextmanager
def _interrupts_held():
    """Keeps Ctrl-C until the block ends; processes started in it see none before they ask for it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _prepare_worker():
    """Ends without a traceback at Ctrl-C, ends with its parent, and leaves the other cores to the others."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(0)
    keep_freed_memory()


def _end_with_parent():
    """A worker whose parent was killed would wait for work for ever."""
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
