"""Folders -> manifests: every file read once and checked, every subset split, nothing lost in silence."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from segbalance.commands.prepare import main

if __name__ == "__main__":
    sys.exit(main())
