"""A person's own file of transforms: run by its path, under one name, in worker processes too."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from segbalance.balancing.draws import Draws
from segbalance.dataloader.reading import BatchReader
from segbalance.dataloader.samples import Subset
from segbalance.errors import InputError
from segbalance.transforms import own_file as own_files
from segbalance.transforms.own_file import (
    MODULE,
    file_of,
    forget_own_file,
    how_to_begin,
    load_own_file,
    own_file,
)
from segbalance.transforms.pipelines import build_transform, subset_transforms
from tests.support.data import write_data
from tests.support.places import ROOT

OWN = """
import os
from pathlib import Path

from helper_beside_it import BRIGHTER
from segbalance.transforms.pipelines import resize, strong_transform
from segbalance.transforms.quiet_albumentations import A

SUBSET_TRANSFORMS = {"a": "soft", 4: strong_transform}


class Brighter(A.ImageOnlyTransform):
    def apply(self, img, **params):
        import sys  # tells in a file of the process whether TensorFlow is loaded
        Path(__file__).with_name(f"seen_{os.getpid()}").write_text(str("tensorflow" in sys.modules))
        return img // 2 + BRIGHTER


def soft(image_size):
    return A.Compose([A.HorizontalFlip(p=0.5), Brighter(p=1), resize(image_size)])
"""


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch):
    """Each test begins and ends without a file of transforms, and with the usual path."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    forget_own_file()
    sys.modules.pop("helper_beside_it", None)


@pytest.fixture
def own(tmp_path):
    """A file of one's own, in a folder that is not the working folder."""
    path = tmp_path / "mine" / "my_transforms.py"
    path.parent.mkdir()
    path.write_text(OWN)
    path.with_name("helper_beside_it.py").write_text("BRIGHTER = 100\n")
    return path


def test_it_is_run_under_one_name_and_keeps_what_was_run(own):
    loaded = load_own_file(own)
    assert (
        own_file() is loaded and sys.modules[MODULE] is loaded.module and "my_transforms" not in sys.modules
    )
    assert loaded.functions == ["soft"]
    own.write_text("changed since")
    assert loaded.source == OWN.encode()
    # The hash of no bytes, as any table of SHA-256 has it.
    assert dataclasses.replace(loaded, source=b"").sha256.startswith("e3b0c44298fc1c149afbf4c8996fb924")
    image = np.full((40, 50, 3), 20, np.uint8)
    assert (build_transform("transforms:soft", 32)(image=image)["image"] == 110).all()


def test_it_counts_where_a_transform_comes_from_it(own):
    loaded = load_own_file(own)
    assert file_of(["train", "transforms:soft"]) is loaded
    assert file_of(["train", "my_transforms:soft"]) is None, "that is a module's, whatever the file is called"
    assert file_of(["train", "my_package.transforms:soft"]) is None
    forget_own_file()
    assert file_of(["transforms:soft"]) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", r"my_transforms\.py has no SUBSET_TRANSFORMS; expected a dictionary, as in SUBSET_TRAN"),
        ("SUBSET_TRANSFORMS = ['train']\n", r"SUBSET_TRANSFORMS is of type list; expected a dictionary, as"),
        (
            "SUBSET_TRANSFORMS = {'a': 3}\n",
            r"has 'a': 3; expected the name of a subset, and the name of a tra",
        ),
        ("SUBSET_TRANSFORMS = {1.5: 'train'}\n", r"has 1\.5: 'train'; expected the name of a subset"),
        ("\nraise RuntimeError('no luck')\n", r"py cannot be run: RuntimeError: no luck \(line 2\)"),
        ("def soft(:\n", r"my_transforms\.py cannot be run: SyntaxError: .*line 1"),
        ("import sys\nsys.exit(0)\n", r"my_transforms\.py cannot be run: SystemExit: 0 \(line 2\)"),
        ("import no_such_module\n", r"cannot be run: ModuleNotFoundError: No module named 'no_such_module'"),
        ("SUBSET_TRANSFORMS = {\0", r"cannot be run: (SyntaxError|ValueError): "),
    ],
)
def test_a_file_that_will_not_do(own, text, message):
    own.write_text(text)
    with pytest.raises(InputError, match=message):
        load_own_file(own).subset_transforms()
    assert "cannot be run" not in message or own_file() is None


def test_a_file_that_is_not_there(tmp_path):
    for path, reason in ((tmp_path / "gone.py", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(InputError, match=f"^transforms file {path}: {reason}.*; {how_to_begin()}"):
            load_own_file(path)


def test_the_way_to_begin_is_one_that_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert how_to_begin() == "transforms.py is the clone's, to edit or to copy"
    monkeypatch.chdir(ROOT / "docs")
    assert how_to_begin().startswith("../transforms.py is the clone's")
    for started, words in (
        ("/somewhere/bin/segbalance", "segbalance transforms"),
        (str(ROOT / "segbalance/__main__.py"), "python -m segbalance transforms"),
    ):
        monkeypatch.setattr(sys, "argv", [started])
        assert how_to_begin() == f"`{words} --output my_transforms.py` writes one to begin with"


def test_a_function_that_it_does_not_have(own):
    load_own_file(own)
    with pytest.raises(InputError, match="my_transforms.py has no function 'sotf'; it has: soft"):
        build_transform("transforms:sotf", 32)


def test_no_file_is_imported_by_the_bare_name_transforms(tmp_path, monkeypatch):
    (tmp_path / "transforms.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "transforms", raising=False)
    with pytest.raises(InputError, match="needs its path.*pass the file: --transforms transforms"):
        build_transform("transforms:valid_transform", 32)
    assert not (tmp_path / "imported").exists()


def batches(reader):
    """Images and masks of three batches, and closes the reader's processes with it."""
    reader.wait_until_ready()
    reader.read(np.arange(4), np.zeros(4, bool))  # the first comes from threads in any case
    return [reader.read(np.arange(4 * k, 4 * k + 4), np.zeros(4, bool))[:2] for k in (1, 2, 3)]


def test_worker_processes_run_it_before_they_unpack(own, tmp_path, monkeypatch):
    root = write_data(tmp_path / "data", {"a": 6})
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    load_own_file(own)
    transforms = subset_transforms({"a": "transforms:soft"}, ["a"], 32)
    own.write_text("raise RuntimeError('changed since')\n")  # which the processes must not mind
    pairs = [[f"{root}/train/{kind}/a/{number}.png" for number in range(6)] for kind in ("images", "masks")]
    subsets = [Subset("a", *pairs, transforms["a"])]
    threads = batches(BatchReader(subsets, 32, Draws([6], seed=0)))
    mine = {path.name for path in own.parent.glob("seen_*")}
    processes = batches(BatchReader(subsets, 32, Draws([6], seed=0), processes=2))
    for one, other in zip(threads, processes, strict=True):
        for wanted, found in zip(one, other, strict=True):
            np.testing.assert_array_equal(wanted, found)
    assert min(images.min() for images, _ in threads) >= 100, "the class was not applied"
    seen = {path.name: path.read_text() for path in own.parent.glob("seen_*") if path.name not in mine}
    assert len(seen) == 2 and set(seen.values()) == {"False"}, "a worker process has TensorFlow"


def test_the_template_is_the_clones_own_and_light():
    template = ROOT / "segbalance/transforms/template.py"
    assert template.read_bytes() == (ROOT / "transforms.py").read_bytes(), (
        "copy one over the other; never mind if this is your own clone, with a transforms.py for your data"
    )
    program = (
        "import sys\nfrom segbalance.transforms.own_file import load_own_file\n"
        f"load_own_file({str(template)!r})\nsys.exit(bool({{'tensorflow', 'pandas'}} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60).returncode == 0


def test_the_templates_example_works():
    load_own_file(Path(own_files.__file__).with_name("template.py"))
    steps = build_transform("transforms:gentle", 32).transforms
    assert [type(step).__name__ for step in steps][-1] == "Resize" and len(steps) == 4


def test_the_templates_names_are_those_of_the_door():
    loaded = load_own_file(ROOT / "transforms.py")
    assert loaded.functions == ["gentle"]
    assert set(loaded.module.__all__) <= set(vars(loaded.module))
    assert loaded.subset_transforms() == {"default": "train"}
