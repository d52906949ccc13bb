"""What each way of balancing does to your data: a table and a picture, without training."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from segbalance.commands.preview import main

if __name__ == "__main__":
    sys.exit(main())
