"""Writes the report of a run: one page with its scores, curves and pictures, which needs no network."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from segbalance.commands.report import main

if __name__ == "__main__":
    sys.exit(main(transforms_file=ROOT / "transforms.py"))
