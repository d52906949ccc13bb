"""Compares runs on one page: scores with intervals, subsets, curves, and the options that differ."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from segbalance.commands.compare import main

if __name__ == "__main__":
    sys.exit(main())
