"""Freed memory is reused: the same work maps far fewer pages."""

import subprocess
import sys
from pathlib import Path

import memory

PROGRAM = """
import resource, sys
import numpy as np
if sys.argv[1] == "kept":
    import memory
    assert memory.keep_freed_memory()
for _ in range(30):
    np.ones(40_000_000, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def page_faults(mode):
    root = Path(memory.__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, mode],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return int(done.stdout)


def test_freed_arrays_are_reused():
    if not memory.keep_freed_memory():
        import pytest

        pytest.skip("this C library has no mallopt")
    assert page_faults("kept") < 0.5 * page_faults("default")


def test_other_c_libraries_are_left_alone(monkeypatch):
    def without_mallopt(name):
        raise OSError

    monkeypatch.setattr(memory.ctypes, "CDLL", without_mallopt)
    assert memory.keep_freed_memory() is False
