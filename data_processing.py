"""Folders -> manifests: the first step, and the door to segbalance/data_processing/.

python data_processing.py --data_root D
"""

import sys

from segbalance.commands.prepare import main
from segbalance.data_processing.make_csv_file import ManifestOptions, make_csv_file, split_data_train
from segbalance.data_processing.manifest import read_manifest

__all__ = ["ManifestOptions", "main", "make_csv_file", "read_manifest", "split_data_train"]

if __name__ == "__main__":
    sys.exit(main())
