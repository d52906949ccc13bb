"""Writes corrected copies of masks to a new folder: clean values, one encoding, upright."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from segbalance.commands.fix_masks import main

if __name__ == "__main__":
    sys.exit(main())
