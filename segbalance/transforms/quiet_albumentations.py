"""Albumentations without its look-up on the network and without PyTorch: import `A` from here."""

import contextlib
import os
import sys
from collections.abc import Iterator

# It asks the network for a newer version of itself at import.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")


@contextlib.contextmanager
def _without(module: str) -> Iterator[None]:
    # To import it fails, which Albumentations takes as «not installed».
    sys.modules[module] = None  # type: ignore[assignment]  # documented, but not in the types of sys
    try:
        yield
    finally:
        del sys.modules[module]


# Where PyTorch is installed it would be imported as well, which takes seconds in every worker process.
with _without("albumentations.pytorch"):
    import albumentations as A

__all__ = ["A"]
