"""Where the time of training goes: the loader's stages, the model's step, and the one setting to change."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from segbalance.commands.profile import main

if __name__ == "__main__":
    sys.exit(main(transforms_file=ROOT / "transforms.py"))
