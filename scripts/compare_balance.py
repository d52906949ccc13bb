"""What balancing brings a classification: the rendered sample set, trained in several ways."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from segbalance.commands.compare_balance import main

if __name__ == "__main__":
    sys.exit(main())
