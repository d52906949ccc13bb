"""The script behind the tutorial's outputs and pictures."""

import os

import cv2
import numpy as np

from scripts.docs import figures
from tests.support.places import ROOT

PAGE = r"""
<!-- parsed only: why -->
```bash
python train.py --work_dir runs/first \
    --epochs 2
python scripts/evaluate.py --work_dir "runs/first"
```

    --8<-- "small/train.txt"

![A picture](small/curves.webp)
"""


def test_a_page_is_run_block_by_block(tmp_path, stub, monkeypatch):
    run_words, site, folder = [], tmp_path / "site", tmp_path / "work"
    site.mkdir()
    (site / "small.md").write_text(PAGE)

    def run(words, place):
        run_words.append(words)
        (place / "runs").mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(
            str(place / "runs" / "curves.png"), np.full((50, 2 * figures.WIDEST, 3), 90, np.uint8)
        )
        return f"\n{words[1]} said so\n"

    stub(figures, "run", run)
    monkeypatch.setattr(figures, "PLACE", site)
    figures.make_page("small", folder)
    assert run_words == [
        ["python", "train.py", "--work_dir", "runs/first", "--epochs", "2"],
        ["python", "scripts/evaluate.py", "--work_dir", "runs/first"],
    ]
    assert (site / "small" / "train.txt").read_text() == "train.py said so\n\nscripts/evaluate.py said so\n"
    assert cv2.imread(str(site / "small" / "curves.webp")).shape == (25, figures.WIDEST, 3)


def test_outputs_name_no_place_of_this_machine(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "work").mkdir()
    folder = tmp_path / "work"
    (folder / "nails").symlink_to(tmp_path / "data")
    beside = os.path.relpath(ROOT, folder)
    text = f"data at {tmp_path / 'data'}, run in {folder}/runs/first; {ROOT}/transforms.py; {beside}/train.py"
    assert figures.without_places(text, folder) == "data at nails, run in runs/first; transforms.py; train.py"


def test_the_photos_must_be_there(tmp_path, capsys):
    assert figures.main(["--page", "nails", "--data", tmp_path]) == 2
    assert capsys.readouterr().err.startswith("error: --data must be the folder of Images and Masks of nails")
