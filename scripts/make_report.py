"""Writes the report of a run: one page with its scores, curves and pictures, which needs no network."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from segbalance.commands.report import main

if __name__ == "__main__":
    sys.exit(main())
