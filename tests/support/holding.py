"""Locks of others: of real processes, and of processes that there never were."""

import contextlib
import dataclasses
import os
import subprocess
import sys
import threading
import time

from segbalance.files.holders import Holder
from tests.support.places import ROOT

HOLDS = """
import sys, time
sys.path[:0] = [sys.argv[1]]
from segbalance.files.locks import locked

with locked(sys.argv[2], "training", "--work_dir", part=sys.argv[3]):
    print("held", flush=True)
    time.sleep(600)
"""


@contextlib.contextmanager
def held_elsewhere(folder, part=""):
    """The process (subprocess.Popen) that holds a folder."""
    words = [sys.executable, "-c", HOLDS, ROOT, folder, part]
    process = subprocess.Popen(list(map(str, words)), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def foreign_lock(folder, **changes):
    """Writes the lock of a process that is not this one; by default of one on another host. Returns it."""
    holder = dataclasses.replace(Holder.here("training"), **({"host": "elsewhere"} | changes))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".lock").write_bytes(holder.content())
    return holder


@contextlib.contextmanager
def beating(path, first=None, step=10**7):
    """Touches a file all the time, by a clock (nanoseconds) of its own that begins at `first`."""
    ended = threading.Event()

    def beat():
        touched = time.time_ns() if first is None else first
        while not ended.wait(0.02):
            touched += step
            os.utime(path, ns=(touched, touched))

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
