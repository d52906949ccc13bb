"""What the tables of bad and of unusual input are made with: a small project folder, and ways to spoil it.

A way to spoil it is a function of the folder, in which a case then runs as its working folder:

    data/       train and valid of the subsets a and b
    csv_file/   their manifests
    run/        the config.yaml of a run on them, without weights
"""

import contextlib
import hashlib
import importlib
import io
import os
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import yaml
from PIL import Image

from segbalance.files.holders import Holder
from segbalance.runtime.command_line import DONE, WRONG_INPUT
from tests.support.data import draw_pair, write_data, write_image
from tests.support.holding import foreign_lock
from tests.support.places import ROOT

PHOTO, MASK = "data/train/images/a/0.png", "data/train/masks/a/0.png"
NETWORK = (
    "--image_size 32 --batch_size 2 --epochs 1 --steps_per_epoch 2 --backbone resnet18 "
    "--encoder_weights none --report false"
)


@dataclass(frozen=True)
class Case:
    """One line of a table.

    Args:
        given: what was given, in words.
        line: the command line, relative to the folder.
        message: regular expression that the message, or what was printed, holds.
        change: what is done to the folder before.
    """

    given: str
    line: str
    message: str = ""
    change: Callable[[Path], None] = lambda folder: None


class Outcome(NamedTuple):
    """What a command answered: its exit status, what it printed, and its errors."""

    status: int
    printed: str
    errors: str


def make_kit(folder):
    """Makes the project folder that the cases get copies of; returns it."""
    folder = folder.resolve()
    write_data(folder / "data", {"a": 3, "b": 2}, height=40, width=48)
    write_data(folder / "data", {"a": 1, "b": 1}, "valid", first_seed=1, height=40, width=48)
    folder.joinpath("mine.txt").write_text("a person's own file")
    outcome = answer("data_processing.py --data_root data --csv_dir csv_file", folder)
    assert outcome.status == 0, outcome.errors
    _write_config(folder)
    return folder


def _write_config(folder):
    from segbalance.data_processing.manifest import read_manifest
    from segbalance.train.config import TrainConfig
    from segbalance.train.config_file import save_config
    from segbalance.train.inputs import resolved

    small = {"image_size": 32, "batch_size": 2, "epochs": 2, "backbone": "resnet18"}
    config = TrainConfig.of(csv_dir=str(folder / "csv_file"), **small)
    save_config(resolved(config, read_manifest(config.data.csv_dir), folder / "run"), folder / "run")


def copy_kit(kit, place):
    """A copy of the project folder that knows its own place; returns it."""
    shutil.copytree(kit, place)
    for name in ("csv_file/manifest.json", "run/config.yaml"):
        swap(name, str(kit), str(place.resolve()))(place)
    return place


def command_module(name):
    """The module behind a front door or script of this file name, which has the command's `main`."""
    door = next(path for folder in ("", "scripts") if (path := ROOT / folder / name).exists())
    behind = re.search(r"^from (segbalance\.commands\.\w+) import main", door.read_text(), re.MULTILINE)
    return importlib.import_module(
        behind[1] if behind else ".".join(door.relative_to(ROOT).with_suffix("").parts)
    )


def answer(line, folder):
    """Runs one command line in this process, with `folder` as the working folder."""
    name, *words = shlex.split(line)
    program = command_module(name)
    printed, errors = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(errors),
    ):
        status = program.main(words)
    return Outcome(status, printed.getvalue(), errors.getvalue())


def contents(folder):
    """{path below `folder`: (time of the last change, hash)} of every file; folders have neither.

    The lock of a folder, which comes and goes again, changes its time.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        plain = path.is_file() and not path.is_symlink()
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if plain else None
        changed = path.lstat().st_mtime_ns if digest or path.is_symlink() else None
        found[path.relative_to(folder).as_posix()] = changed, digest
    return found


def bad_answer(case, folder):
    """Runs a case of bad input in its folder.

    Returns:
        (Outcome, list of what is wrong with it)
    """
    case.change(folder)
    before = contents(folder)
    outcome = answer(case.line, folder)
    problems = []
    if outcome.status != WRONG_INPUT:
        problems.append(f"status {outcome.status}, expected {WRONG_INPUT}")
    if "Traceback" in outcome.errors or not re.search("^error: ", outcome.errors, re.MULTILINE):
        problems.append(f"not a message alone: {outcome.errors}")
    if not re.search(case.message, outcome.errors):
        problems.append(f"no {case.message!r} in {outcome.errors!r}")
    return outcome, problems + [f"{path} changed" for path in changed(before, contents(folder))]


def fine_answer(case, folder):
    """Runs a case of unusual input in its folder, reads its manifests back and loads batches.

    Returns:
        (Outcome, list of what is wrong with it)
    """
    from segbalance.data_processing.manifest import read_manifest

    case.change(folder)
    before = contents(folder)
    outcome = answer(case.line, folder)
    if outcome.status != DONE:
        return outcome, [f"status {outcome.status}: {outcome.errors}"]
    touched = [path for path in changed(before, contents(folder)) if path in before]
    problems = [f"{path} changed" for path in touched]
    made = (folder / "new").is_dir()
    (root,) = [path for path in folder.iterdir() if path.name.endswith("data")]
    manifest = read_manifest(folder / ("new" if made else "csv_file"), root)
    images = {image for table in [*manifest.train.values(), manifest.valid] for image in table["images"]}
    there = {path.relative_to(root).as_posix() for path in root.glob("*/images/*/*")}
    if made and images != there:
        problems.append(f"rows and files differ in {images ^ there}")
    return outcome, problems + list(batch_problems(manifest))


def batch_problems(manifest, size=32, passes=10):
    """Draws every training row several times; yields what is wrong with the pixels."""
    from segbalance.balancing.draws import Draws
    from segbalance.dataloader.pair_cache import PairReader
    from segbalance.dataloader.reading import BatchReader
    from segbalance.train.inputs import loader_subsets
    from segbalance.transforms.pipelines import subset_transforms

    transforms = subset_transforms({}, list(manifest.train), size)
    subsets = loader_subsets(manifest, manifest.train, transforms)
    reader = BatchReader(subsets, size, Draws([*map(len, subsets)], seed=0), pairs=PairReader(None, 2 * size))
    for number, subset in enumerate(subsets):
        draws = np.arange(passes * len(subset)) * len(subsets) + number
        images, masks, _ = reader.read(draws, np.zeros(len(draws), bool))
        if images.shape != (len(draws), size, size, 3) or masks.shape != (len(draws), size, size, 1):
            yield f"subset {subset.name}: {images.shape}, {masks.shape}"
        if set(np.unique(masks)) != {0, 1} or images.std() < 1:
            yield f"subset {subset.name}: masks of {np.unique(masks)}, images of deviation {images.std()}"


def changed(before, after):
    """Sorted paths that differ between two results of `contents`."""
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))


# Ways to change the folder


def put(name, content):
    """Writes a file, text or bytes."""

    def change(folder):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return change


def held(name):
    """Puts the lock of a living process into a folder."""
    return lambda folder: foreign_lock(folder / name, host=Holder.here("").host)


def swap(name, old, new):
    """Replaces a text in a file, which holds it."""

    def change(folder):
        content = (folder / name).read_bytes()
        assert old.encode() in content, f"{name} has no {old!r}"
        (folder / name).write_bytes(content.replace(old.encode(), new.encode()))

    return change


def add_row(name, row):
    """Adds a row to a manifest."""

    def change(folder):
        with open(folder / name, "a", encoding="utf-8", newline="") as file:
            file.write(f"{row}\n")

    return change


def add_column(name):
    """Adds a column of a person's own to a manifest."""

    def change(folder):
        header, *rows = (folder / name).read_text().splitlines()
        (folder / name).write_text("\n".join([f"{header},mine", *[f"{row},x" for row in rows]]))

    return change


def copy(old, new):
    """Copies the bytes of one file over another."""

    def change(folder):
        (folder / new).write_bytes((folder / old).read_bytes())

    return change


def drop(name):
    """Deletes a file or a folder."""

    def change(folder):
        shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()

    return change


def make_folder(name):
    """Makes an empty folder; a file of that name goes."""

    def change(folder):
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir(parents=True)

    return change


def move(old, new):
    """Renames a file or a folder."""

    def change(folder):
        (folder / new).parent.mkdir(parents=True, exist_ok=True)
        (folder / old).rename(folder / new)

    return change


def together(*changes):
    """One change after another."""

    def change(folder):
        for one in changes:
            one(folder)

    return change


def configure(**options):
    """Changes options in the run's config.yaml; None takes one out."""

    def change(folder):
        path = folder / "run/config.yaml"
        config = yaml.safe_load(path.read_text()) | options
        path.write_text(yaml.safe_dump({name: value for name, value in config.items() if value is not None}))

    return change


def cut(name, part, image_type="png"):
    """Leaves of an image file, first saved as this type, no more than a part of its bytes."""

    def change(folder):
        pixels = cv2.imread(str(folder / name))
        content = cv2.imencode(f".{image_type}", pixels)[1].tobytes()
        (folder / name).unlink()
        Path(folder / name).with_suffix(f".{image_type}").write_bytes(content[: int(part * len(content))])

    return change


def photo(name, image_type=None, mode="RGB", **options):
    """Saves a photo again, in another type, mode or with other options of Pillow's."""

    def change(folder):
        picture = Image.open(folder / name).convert(mode)
        if mode == "RGBA":
            picture.putalpha(Image.linear_gradient("L").resize(picture.size))
        if options.get("save_all"):
            options["append_images"] = [picture.rotate(180)]
        picture.save(folder / name, image_type, **options)

    return change


def mask(name, image_type=None, mode="L", **options):
    """Saves a mask again, as `photo` does."""
    return photo(name, image_type, mode, **options)


def remask(change_pixels, pattern="**/masks/**/*.png"):
    """Writes every mask anew as a function of its pixels, uint8 (H, W)."""

    def change(folder):
        for path in sorted((folder / "data").glob(pattern)):
            write_image(path, change_pixels(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)))

    return change


def deepen(name):
    """Saves a photo or mask with 16 bits a channel."""

    def change(folder):
        pixels = cv2.imread(str(folder / name), cv2.IMREAD_UNCHANGED).astype(np.uint16)
        assert cv2.imwrite(str(folder / name), pixels * 257)

    return change


def add_pair(name, subset="a", size=None):
    """Adds a pair of this file name to a subset's training images; `size` is (width, height)."""

    def change(folder):
        pixels = draw_pair([3, len(name)], 40, 48)
        if size is not None:
            pixels = [np.full((size[1], size[0], *part.shape[2:]), 200, np.uint8) for part in pixels]
            pixels[1][:] = 255
        for kind, part in zip(("images", "masks"), pixels, strict=True):
            path = folder / "data/train" / kind / subset / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(part).save(path, "PNG")

    return change


def pipe(name):
    """Puts a named pipe in the place of a file."""

    def change(folder):
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return change


def link_nowhere(name):
    """Puts a symbolic link to a file that does not exist in the place of a file."""

    def change(folder):
        (folder / name).unlink()
        (folder / name).symlink_to("gone.png")

    return change


def odd_name(old, new):
    """Renames a file to a name of bytes that need not be UTF-8."""

    def change(folder):
        path = os.fsencode(folder / old)
        os.rename(path, os.path.join(os.path.dirname(path), new))

    return change
