"""The whole way on rendered sample data: photos, manifests, training from scratch, scores, pictures."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from segbalance.commands.demo import main

if __name__ == "__main__":
    sys.exit(main())
