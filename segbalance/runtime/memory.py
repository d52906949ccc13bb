"""Memory of processes: freed blocks are kept for the next array, and what a family of processes takes."""

import ctypes
from pathlib import Path

# Parameter numbers of mallopt(3) in glibc.
TRIM_THRESHOLD, MMAP_MAX = -1, -4
KEPT_BYTES = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tells glibc to reuse freed blocks instead of handing them back to the system at once.

    A training step on the CPU allocates and frees hundreds of megabytes; mapping them anew each time can
    take as long as the step itself. Does nothing on other C libraries.

    Returns:
        True if the settings were taken.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return False
    return bool(mallopt(MMAP_MAX, 0) and mallopt(TRIM_THRESHOLD, KEPT_BYTES))


def release_freed_memory() -> bool:
    """Hands back to the system what is free by now.

    Over thousands of steps, blocks of other sizes get in between those that are kept, and more and more is
    kept. Once in a while that is worth the time of mapping some anew.

    Returns:
        True if anything was handed back; False on other C libraries too.
    """
    try:
        return bool(ctypes.CDLL(None).malloc_trim(0))
    except (AttributeError, OSError, TypeError):
        return False


def family_memory(pid: int | str, files: bool = True) -> float:
    """MB (2**20 bytes) of a process and its descendants now, shared pages counted once; 0 outside Linux.

    Args:
        files: whether mapped files count, such as libraries: a part of them is on the account of any other
            program that has them mapped, and comes back when that ends.
    """
    kinds = ("Pss:",) if files else ("Pss_Anon:", "Pss_Shmem:")
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has ended
        return 0
    own = sum(int(line.split()[1]) / 1024 for line in lines if line.startswith(kinds))
    return own + sum(family_memory(child, files) for child in children)
