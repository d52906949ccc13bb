"""Makes the manifests of a data folder: the same command as data_processing.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data_processing import main

if __name__ == "__main__":
    sys.exit(main())
