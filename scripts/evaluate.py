"""Scores of a run's best weights: over the data, for every subset and image, and at every threshold."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from segbalance.commands.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
