"""A program that has used TensorFlow ends at once, and says all that it had to say."""

import subprocess
import sys

import pytest

from segbalance.runtime.leaving import leave
from tests.support.places import ROOT

BUSY = f"""
import atexit, sys, threading, time
sys.path[:0] = [{str(ROOT)!r}]
from segbalance.runtime.leaving import leave
sys.modules["tensorflow"] = None
threading.Thread(target=time.sleep, args=(600,)).start()  # Python would wait for it
atexit.register(print, "registered")
print("said", end=" ")
leave(75)
"""


def test_it_waits_for_no_thread_and_loses_no_word():
    done = subprocess.run([sys.executable, "-c", BUSY], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (75, "said registered\n", "")


def test_without_tensorflow_it_is_the_usual_end(monkeypatch):
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    with pytest.raises(SystemExit) as leaving:
        leave(3)
    assert leaving.value.code == 3
