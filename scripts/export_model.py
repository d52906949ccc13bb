"""Exports a run's best weights as a model to take away, checked against the run's network."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from segbalance.commands.export import main

if __name__ == "__main__":
    sys.exit(main())
