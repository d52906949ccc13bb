"""Freed memory stays with the process, so that the next array does not have to be mapped anew."""

import ctypes

# Parameter numbers of mallopt(3) in glibc.
TRIM_THRESHOLD, MMAP_MAX = -1, -4
KEPT_BYTES = 2**31 - 1


def keep_freed_memory():
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
