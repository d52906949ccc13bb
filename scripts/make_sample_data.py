"""Makes a practice data set: synthetic photos of hands, their masks, five subsets of different looks."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from segbalance.commands.sample_data import main

if __name__ == "__main__":
    sys.exit(main())
