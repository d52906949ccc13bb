"""Where the time of training goes: the loader's stages, the model's step, and the one setting to change."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from segbalance.commands.profile import main

if __name__ == "__main__":
    sys.exit(main())
