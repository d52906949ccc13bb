"""Masks for your own photos, from a run or an exported model."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from segbalance.commands.predict import main

if __name__ == "__main__":
    sys.exit(main())
