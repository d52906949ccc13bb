"""Draws validation photos of every subset with true (green) and predicted (magenta) outlines on one sheet."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from segbalance.commands.contact_sheet import main

if __name__ == "__main__":
    sys.exit(main())
