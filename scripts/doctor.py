"""Looks for what is wrong with the machine and the data before training does, and shows it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from segbalance.commands.doctor import main

if __name__ == "__main__":
    sys.exit(main())
