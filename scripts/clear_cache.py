"""Deletes the decoded pairs that `train.py --cache disk` has kept in the user's cache folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from segbalance.commands.clear_cache import main

if __name__ == "__main__":
    sys.exit(main())
