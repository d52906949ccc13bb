"""Random data folders, manifests and manifest.json: read, or refused with an InputError, no third way.

`make test` runs EXAMPLES["quick"] examples in all, the same each time; `make test-all` also EXAMPLES["full"],
new ones each time.
"""

import csv
import io
import itertools
import json
import os
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from segbalance.data_processing.description import read_description
from segbalance.data_processing.make_csv_file import ManifestOptions, make_csv_file, split_data_train
from segbalance.data_processing.manifest import COLUMNS, read_manifest, read_table
from segbalance.data_processing.replacing import refuse_to_replace
from segbalance.errors import InputError
from segbalance.files.images import EXTENSIONS, is_system_name
from tests.support.bad_input_kit import make_kit
from tests.support.data import draw_pair

EXAMPLES = {"quick": 200, "full": 10_000}
SHARES = {"table": 0.4, "description": 0.2, "folders": 0.4}  # of the examples
AMOUNTS = [pytest.param(name, marks=[pytest.mark.slow] if name == "full" else []) for name in EXAMPLES]
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF")


def fuzz(subject, amount, check, **strategies):
    """Runs `check`, which returns an outcome, on the subject's share of an amount of examples.

    No outcome may be rare, or the test would say little.
    """
    outcomes = Counter()
    run = settings(
        max_examples=round(SHARES[subject] * EXAMPLES[amount]),
        derandomize=amount == "quick",
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run(given(**strategies)(lambda **example: outcomes.update([check(**example)])))()
    print(f"{subject}: {sum(outcomes.values())} examples, {dict(outcomes)}")
    assert len(outcomes) == 2 and min(outcomes.values()) > 0.1 * sum(outcomes.values()), outcomes


# Bytes


@st.composite
def damaged(draw, contents):
    """Some of `contents` (a strategy of bytes), mostly with a few edits."""
    content = bytearray(draw(contents))
    for _ in range(draw(st.sampled_from((0, 0, 1, 1, 2, 5)))):
        start = draw(st.integers(0, max(len(content) - 1, 0)))
        kind = draw(st.sampled_from(("change", "cut off", "take out", "double", "put in")))
        if kind == "change" and content:
            content[start] = draw(st.integers(0, 255))
        elif kind == "cut off":
            del content[start:]
        elif kind == "take out":
            del content[start : start + draw(st.integers(1, 9))]
        elif kind == "double":
            content[start:start] = content[start : start + draw(st.integers(1, 40))]
        elif kind == "put in":
            content[start:start] = draw(
                st.sampled_from((b"\0", b'"', b",", b"\r", b"\n", b"\xff", b"\xef\xbb\xbf"))
            )
    return bytes(content)


def pictures(kind):
    """The bytes of valid photos or masks: of each format, two sizes, and a few modes."""
    found = []
    for seed, size in itertools.product(range(2), ((16, 12), (12, 12))):
        photo, mask = (
            Image.fromarray(part).resize(size, Image.Resampling.NEAREST) for part in draw_pair(seed)
        )
        modes = ("RGB", "L", "P", "RGBA", "CMYK") if kind == "photo" else ("L", "1", "P", "RGB", "I;16")
        for image_type, mode in itertools.product(FORMATS, modes):
            content = io.BytesIO()
            try:
                (photo if kind == "photo" else mask).convert(mode).save(content, image_type)
            except (OSError, ValueError):  # a mode that the format does not have
                continue
            found.append(content.getvalue())
    return found


def plain_pictures(kind):
    """Bytes of PNG pictures of one size, so that pairs of them are right."""
    parts = [draw_pair(seed)[kind == "mask"] for seed in range(60)]
    found = []
    for part in parts:
        content = io.BytesIO()
        Image.fromarray(part).resize((16, 12), Image.Resampling.NEAREST).save(content, "PNG")
        found.append(content.getvalue())
    return found


# Manifests


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    """A small project folder."""
    return make_kit(tmp_path_factory.mktemp("fuzz") / "kit")


def state(folder):
    """{path: size and time of change} of everything below a folder."""
    found = {}
    for directory, _, names in os.walk(os.fsencode(folder)):
        for path in [directory, *[os.path.join(directory, name) for name in names]]:
            status = os.lstat(path)
            found[path] = status.st_size, status.st_mtime_ns
    return found


def assert_sound(manifest):
    """Every row's files exist, and its numbers can be."""
    for table in [*manifest.train.values(), manifest.valid]:
        assert len(table) and (table["type"] != "").all()
        assert all(os.path.isfile(manifest.data_root / path) for path in [*table["images"], *table["masks"]])
        assert table["coverage"].between(0, 1).all() and (table[["width", "height"]] >= 1).all(axis=None)
    assert set(dict(manifest.encoding.ids).values()) <= {0, 1}


CELLS = st.one_of(
    st.sampled_from(
        ("train/images/a/0.png", "train/masks/a/0.png", "train/images/b/1.png", "a", "b", "", "48")
    ),
    st.sampled_from(
        ("/0/a.png", "..", "/", ".", "nan", "inf", "-1", "1e400", "9" * 30, "0.5", "True", "\\", "~")
    ),
    st.text(max_size=8),
)
ROWS = st.lists(st.lists(CELLS, max_size=8), max_size=5)


def csv_text(rows, **options):
    """Rows as the csv module writes them."""
    text = io.StringIO()
    csv.writer(text, **options).writerows(rows)
    return text.getvalue().encode("utf-8", "surrogatepass")


@st.composite
def tables(draw, valid):
    """Bytes of a manifest: the `valid` one damaged, one with rows of random cells, or random bytes."""
    header = draw(st.permutations(COLUMNS))[: draw(st.integers(1, len(COLUMNS)))]
    rows = csv_text(draw(ROWS), lineterminator=draw(st.sampled_from(("\n", "\r\n"))))
    whole = csv_text([header]) + rows
    return draw(damaged(st.sampled_from((valid, valid, valid + rows, whole, whole))) | st.binary(max_size=60))


@pytest.mark.parametrize("amount", AMOUNTS)
def test_manifests(amount, kit):
    path = kit / "csv_file/traina.csv"
    valid, before = path.read_bytes(), state(kit / "data")

    def check(content):
        path.write_bytes(content)
        try:
            table = read_table(path)
            manifest = read_manifest(kit / "csv_file")
        except InputError:
            return "refused"
        records = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        next(records)
        assert len(table) == len(manifest.train["a"]) == sum(any(record) for record in records)
        assert_sound(manifest)
        for row in range(len(table)):
            assert manifest.line("a", row)[0] == path
        return "read"

    try:
        fuzz("table", amount, check, content=tables(valid))
    finally:
        path.write_bytes(valid)
    assert state(kit / "data") == before


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)
ENCODINGS = st.fixed_dictionaries(
    {"kind": st.sampled_from(("values", "colours", "threshold", "magic"))},
    optional={
        "ids": JSON_VALUES
        | st.dictionaries(
            st.sampled_from(("0", "255", "#000000", "#ffffff", "1" * 20)), JSON_VALUES | st.just(1)
        )
    },
)


@st.composite
def descriptions(draw, valid):
    """Bytes of a manifest.json: the `valid` one with other values, some left out, damaged."""
    description = json.loads(valid)
    for name in draw(st.lists(st.sampled_from(sorted(description)), max_size=3)):
        description[name] = draw(ENCODINGS if name == "mask_encoding" else JSON_VALUES)
    options = json.loads(valid)["options"]
    if draw(st.booleans()):
        description["options"] = options | {draw(st.sampled_from(sorted(options))): draw(JSON_VALUES)}
    for name in draw(st.sets(st.sampled_from(sorted(description)), max_size=2)):
        del description[name]
    return draw(damaged(st.just(json.dumps(description).encode())))


@pytest.mark.parametrize("amount", AMOUNTS)
def test_descriptions(amount, kit):
    csv_dir = kit / "csv_file"
    path, table = csv_dir / "manifest.json", csv_dir / "traina.csv"
    valid, rows, before = path.read_bytes(), table.read_bytes(), state(kit / "data")

    def check(content, columns):
        path.write_bytes(content)
        table.write_bytes(columns)
        read_by = 0
        for read in (
            lambda: read_description(csv_dir),
            lambda: refuse_to_replace(csv_dir, kit / "data"),
            lambda: assert_sound(read_manifest(csv_dir)),
            lambda: assert_sound(read_manifest(csv_dir, kit / "data")),
        ):
            try:
                read()
            except InputError:
                continue
            read_by += 1
        return "read" if read_by == 4 else "refused"

    try:
        short = st.sampled_from((rows, b"images\ntrain/images/a/0.png\n"))
        fuzz("description", amount, check, content=descriptions(valid), columns=short)
    finally:
        path.write_bytes(valid)
        table.write_bytes(rows)
    assert state(kit / "data") == before


# Folders

ODD = ("a b", "a;b", 'a"b', "a,b", "a\nb", "a\tb", "50%", "💅", "-a", "A", "a", "nan", "..a", "#", "~", "007")
LETTERS = st.characters(exclude_characters="/\0\r", exclude_categories=("Cs",))
NAMES = st.one_of(
    st.sampled_from("012345"),
    st.sampled_from(ODD),
    st.text(LETTERS, min_size=1, max_size=8).filter(lambda name: name not in (".", "..")),
)
REFUSED_NAMES = st.sampled_from(("\udcff", "a\rb", "s" * 230))
SUBSETS = st.sampled_from(("a", "a", "b", "a/deep", "")) | NAMES
LAYOUTS = (
    (("train/images", "train/masks"), ("train/images", "train/masks"), ("valid/images", "valid/masks")),
    (("Images", "Masks"),),
    (("TRAIN/images", "TRAIN/Masks"), ("val/images", "val/masks"), ("test/images", "test/masks")),
)
ENDINGS = st.sampled_from((".png",) * 6 + (*EXTENSIONS, ".PNG", ".gif", ".txt", ""))
RIGHT_PHOTOS, RIGHT_MASKS = (st.sampled_from(plain_pictures(kind)) for kind in ("photo", "mask"))
PHOTOS, MASKS = (damaged(st.sampled_from(pictures(kind))) for kind in ("photo", "mask"))
PNG = st.just(".png")
RIGHT_PAIRS = st.tuples(st.integers(0, 2), SUBSETS, NAMES, PNG, PNG, RIGHT_PHOTOS, RIGHT_MASKS)
ANY_PAIRS = st.tuples(
    st.integers(0, 2),
    SUBSETS | REFUSED_NAMES,
    NAMES | REFUSED_NAMES,
    ENDINGS,
    ENDINGS,
    st.none() | RIGHT_PHOTOS | PHOTOS,
    st.none() | RIGHT_MASKS | MASKS,
)
PAIRS = st.lists(RIGHT_PAIRS, min_size=3, max_size=9) | st.lists(RIGHT_PAIRS | ANY_PAIRS, max_size=6)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "unpaired": st.sampled_from(("error", "skip")),
        "duplicates": st.sampled_from(("warn", "warn", "error")),
        "subset_by": st.sampled_from(("folder", "folder", "coverage", "(.)", "([a-z]+)/", "/([^/]*)")),
        "group_by": st.sampled_from((None, None, None, "(.)[.]", "([0-9])")),
        "mask_suffix": st.sampled_from(("", "", "", "_mask")),
        "valid_fraction": st.sampled_from((0.2, 0.9)),
        "seed": st.integers(0, 2**70),
    },
)


def write_folder(root, layout, pairs):
    """Writes the files of `pairs` into a data folder, as far as the file system lets it."""
    for place, subset, name, *rest in pairs:
        for folder, ending, content in zip(layout[place % len(layout)], rest[:2], rest[2:], strict=True):
            path = os.path.join(root, folder, subset, f"{name}{ending}")
            if content is not None and not os.path.lexists(path):
                try:
                    os.makedirs(os.path.dirname(path), exist_ok=True)
                    Path(path).write_bytes(content)
                except OSError:  # a file where the folder should be
                    continue


def files_below(root):
    """The paths below the images and masks folders of a data folder, without what systems leave there."""
    found = set()
    for directory, _, names in os.walk(root):
        for name in names:
            path = Path(directory, name).relative_to(root)
            if not any(is_system_name(part) for part in path.parts):
                found.add(path.as_posix())
    return found


@pytest.mark.parametrize("amount", AMOUNTS)
def test_data_folders(amount):
    def check(layout, pairs, options):
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            root, csv_dir = Path(folder, "data"), Path(folder, "csv_file")
            root.mkdir()
            write_folder(root, layout, pairs)
            before = state(root)
            try:
                rows = make_csv_file(ManifestOptions(data_root=str(root), csv_dir=str(csv_dir), **options))
            except InputError:
                assert not csv_dir.exists()
                return "refused"
            finally:
                assert state(root) == before
            subsets = split_data_train(csv_dir)
            manifest = read_manifest(csv_dir)
            assert_sound(manifest)
            assert {name: list(table["images"]) for name, table in manifest.train.items()} == {
                name: list(table["images"]) for name, table in subsets.items()
            }
            described = read_description(csv_dir)
            named = {*rows["images"], *rows["masks"], *described["unpaired"], *described["other_files"]}
            assert named == files_below(root)
            assert np.isfinite(rows["coverage"]).all()
            return "made"

    fuzz("folders", amount, check, layout=st.sampled_from(LAYOUTS), pairs=PAIRS, options=OPTIONS)
