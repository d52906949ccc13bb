"""Kills a tiny run again and again, resumes it each time, and compares the result with the unbroken run's."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from segbalance.commands.verify_resume import main

if __name__ == "__main__":
    sys.exit(main())
