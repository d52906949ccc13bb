"""How a program ends that has used TensorFlow."""

import atexit
import contextlib
import os
import sys
from typing import NoReturn


def leave(status: int) -> NoReturn:
    """Ends the program with an exit status, after what is registered with `atexit`.

    Where TensorFlow is loaded, Python is not taken down: threads of tf.data may still be reading after an
    error, and a few such programs in a hundred ended with a segmentation fault in place of their status.
    """
    if "tensorflow" not in sys.modules:
        sys.exit(status)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # whoever read it may have gone
            stream.flush()
    os._exit(status)
