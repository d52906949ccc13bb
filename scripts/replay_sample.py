"""Draws one augmented image and mask of a run again, exactly as the training step saw them."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from segbalance.commands.replay import main

if __name__ == "__main__":
    sys.exit(main(transforms_file=ROOT / "transforms.py"))
