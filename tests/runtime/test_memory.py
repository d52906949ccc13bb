"""Freed memory is reused, so that the same work maps far fewer pages; the memory of a family of processes."""

import subprocess
import sys
from pathlib import Path

import pytest

from segbalance.runtime import memory
from tests.support.places import ROOT

PROGRAM = """
import resource, sys
import numpy as np
if sys.argv[1] == "kept":
    from segbalance.runtime import memory
    assert memory.keep_freed_memory()
for _ in range(30):
    np.ones(40_000_000, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def page_faults(mode):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, mode],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return int(done.stdout)


def test_freed_arrays_are_reused():
    if not memory.keep_freed_memory():
        pytest.skip("this C library has no mallopt")
    assert page_faults("kept") < 0.5 * page_faults("default")


def test_other_c_libraries_are_left_alone(monkeypatch):
    def without_mallopt(name):
        raise OSError

    monkeypatch.setattr(memory.ctypes, "CDLL", without_mallopt)
    assert memory.keep_freed_memory() is False and memory.release_freed_memory() is False


def test_the_memory_of_a_family_counts_shared_pages_once():
    program = (
        "import mmap, subprocess, sys\n"
        "shared = mmap.mmap(-1, 200 * 2**20)\n"
        "shared.write(b'x' * len(shared))\n"
        "import os\n"
        "if os.fork() == 0:\n"
        "    shared.seek(0), shared.read()\n"
        "    print('child', flush=True)\n"
        "    sys.stdin.read()\n"
        "else:\n"
        "    os.wait()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    taken = memory.family_memory(process.pid)
    without_files = memory.family_memory(process.pid, files=False)
    process.communicate("")
    assert 200 < without_files < taken < 300
    assert memory.family_memory(process.pid) == 0, "it has ended"


RELEASED = """
import re
from pathlib import Path
import numpy as np
from segbalance.runtime import memory
memory.keep_freed_memory()
resident = lambda: int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024
kept = [np.ones(50_000_000, np.uint8), np.ones(10, np.uint8)]
del kept[0]
before = resident()
print(memory.release_freed_memory(), before - resident())
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="/proc is Linux'")
def test_what_is_free_goes_back_to_the_system():
    words = [sys.executable, "-c", RELEASED]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    released, megabytes = done.stdout.split()
    assert released == "True" and int(megabytes) >= 40
