"""Pairs checked by one reading of their files."""

import cv2
import numpy as np
import pytest
from PIL import Image

from segbalance.data_processing.inspection import FEWEST_FOR_WORKERS, inspect_pairs, usual_workers
from segbalance.data_processing.pairs import Pair, find_folders, find_pairs
from segbalance.errors import Findings
from tests.support.data import draw_pair, write_data, write_image


def save(path, pixels, **options):
    """Writes with Pillow; `orientation` is an EXIF tag."""
    exif = Image.Exif()
    exif[0x0112] = options.pop("orientation", 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(path, exif=exif, **options)


def inspect(root, image="image.png", mask="mask.png"):
    """(PairFacts or None, message of the findings) of one pair."""
    findings, pair = Findings(), Pair(None, "all", image, mask)
    facts = inspect_pairs(root, [pair], findings)
    assert (pair in facts) == (not findings)
    return facts.get(pair), findings.message()


@pytest.fixture
def pair_root(tmp_path):
    """A folder with a good image.png and mask.png of 60x50."""
    image, mask = draw_pair(0)
    write_image(tmp_path / "image.png", image)
    write_image(tmp_path / "mask.png", mask)
    return tmp_path


def test_facts_of_a_good_pair(pair_root):
    fact, message = inspect(pair_root)
    assert message == ""
    assert (fact.width, fact.height, fact.mask.kind) == (60, 50, "binary")
    assert fact.image_hash != fact.mask_hash and len(fact.image_hash) == 64


def test_many_pairs_keep_their_order(tmp_path, monkeypatch):
    monkeypatch.setattr("segbalance.data_processing.inspection.AT_ONCE", 3)
    root = write_data(tmp_path, {"a": 7}, height=40, width=50)
    pairs = find_pairs(root, find_folders(root)).pairs
    facts = inspect_pairs(root, pairs, Findings())
    assert list(facts) == pairs
    assert len({fact.image_hash for fact in facts.values()}) == 7


@pytest.mark.parametrize("name", ["image.png", "mask.png"])
@pytest.mark.parametrize(
    "damage, reason",
    [
        (lambda content: b"", "the file is empty"),
        (lambda content: b"plain text", "not an image"),
        (lambda content: content[: len(content) // 2], "truncated|broken|unrecognized"),
        (lambda content: content[:-5], "cannot be decoded"),
    ],
)
def test_damaged_files_are_named_with_the_reason(name, damage, reason, pair_root):
    path = pair_root / name
    path.write_bytes(damage(path.read_bytes()))
    _, message = inspect(pair_root)
    head, place, advice = message.split("\n")
    assert head == "files that cannot be decoded: 1"
    assert place.startswith(f"  {name}  ") and any(words in place for words in reason.split("|"))
    assert advice == "Replace the damaged files, or move image and mask away."


def test_a_truncated_jpeg_is_found(pair_root):
    content = cv2.imencode(".jpg", draw_pair(0)[0])[1].tobytes()
    (pair_root / "image.jpg").write_bytes(content[:-200])
    assert "  image.jpg  image file is truncated" in inspect(pair_root, "image.jpg")[1]


def test_both_damaged_files_of_a_pair_are_named(pair_root):
    (pair_root / "image.png").write_bytes(b"")
    (pair_root / "mask.png").unlink()
    message = inspect(pair_root)[1]
    assert (
        "cannot be decoded: 2\n  image.png  the file is empty\n  mask.png  No such file or directory\n"
        in message
    )


def test_different_sizes(pair_root):
    write_image(pair_root / "mask.png", draw_pair(0, 50, 61)[1])
    assert inspect(pair_root)[1] == (
        "pairs of different size: 1\n  image.png 60x50, mask.png 61x50\n"
        "Expected equal sizes; save the masks in their image's size."
    )


EXIF_ADVICE = (
    "Save the images upright, without the EXIF tag; turn the masks too where they were drawn on the "
    "unturned image."
)


@pytest.mark.parametrize(
    "orientation, image_size, mask_size, fine",
    [
        (1, (60, 50), (60, 50), True),
        (6, (60, 50), (50, 60), True),  # the mask was drawn on the image as displayed
        (6, (60, 50), (60, 50), False),
        (6, (50, 50), (50, 50), False),  # a square does not tell
        (3, (60, 50), (60, 50), False),
        (8, (60, 50), (50, 60), True),
    ],
)
def test_exif_rotation_of_the_image_alone(orientation, image_size, mask_size, fine, tmp_path):
    save(tmp_path / "image.jpg", draw_pair(0, *image_size[::-1])[0], orientation=orientation)
    save(tmp_path / "mask.png", draw_pair(0, *mask_size[::-1])[1])
    fact, message = inspect(tmp_path, "image.jpg")
    displayed = image_size[::-1] if orientation >= 5 else image_size
    if fine:
        assert (fact.width, fact.height) == displayed
    else:
        assert message == (
            "pairs of which only one file has an EXIF rotation: 1\n"
            f"  image.jpg  EXIF orientation {orientation}, displayed {displayed[0]}x{displayed[1]}; "
            f"mask.png  EXIF orientation 1, {mask_size[0]}x{mask_size[1]}\n{EXIF_ADVICE}"
        )


@pytest.mark.parametrize("orientation, size", [(3, (60, 50)), (6, (50, 60))])
def test_the_same_exif_rotation_of_both_is_fine(orientation, size, tmp_path):
    image, mask = draw_pair(0)
    save(tmp_path / "image.jpg", image, orientation=orientation)
    save(tmp_path / "mask.png", mask, orientation=orientation)
    fact, message = inspect(tmp_path, "image.jpg")
    assert (message, fact.width, fact.height) == ("", *size)


COPY = (
    "masks that are a copy of their image: 1\n  {mask} = {image}\n"
    "Expected a mask of the image; put the right file there."
)


def photo():
    """A smooth picture, which JPEG and grey conversion hardly change."""
    ramp = np.add.outer(np.arange(50), 2 * np.arange(60)).astype(np.uint8)
    return np.dstack([ramp, ramp + 30, 200 - ramp])


@pytest.mark.parametrize("mask", ["same.png", "jpeg.jpg", "grey.png"])
def test_a_mask_that_is_a_copy_of_its_image(mask, tmp_path):
    save(tmp_path / "image.png", photo())
    copies = {"same.png": photo(), "jpeg.jpg": photo(), "grey.png": cv2.cvtColor(photo(), cv2.COLOR_RGB2GRAY)}
    save(tmp_path / mask, copies[mask])
    assert COPY.format(mask=mask, image="image.png") in inspect(tmp_path, mask=mask)[1]


def test_identical_bytes_are_a_copy_even_of_a_black_and_white_image(tmp_path):
    for name in ("image.png", "mask.png"):
        write_image(tmp_path / name, draw_pair(0)[1])
    assert COPY.format(mask="mask.png", image="image.png") in inspect(tmp_path)[1]


def test_a_mask_of_many_greys_is_no_copy(pair_root):
    write_image(pair_root / "mask.png", cv2.blur(draw_pair(0)[1], (25, 25)))
    assert inspect(pair_root)[1] == ""


@pytest.mark.parametrize(
    "mode, place",
    [("I;16", "16-bit grey"), ("F", "floating point"), ("CMYK", "CMYK")],
)
def test_masks_of_an_unusable_type(mode, place, pair_root):
    mask = draw_pair(0)[1]
    picture = (
        Image.fromarray(mask.astype(np.uint16) * 257)
        if mode == "I;16"
        else Image.fromarray(mask).convert(mode)
    )
    name = "mask.png" if mode == "I;16" else "mask.tif"
    picture.save(pair_root / name)
    if mode == "F":  # OpenCV may refuse it before
        assert inspect(pair_root, mask=name)[0] is None
        return
    assert inspect(pair_root, mask=name)[1] == (
        f"masks of an unusable type: 1\n  {name}  {place}\n"
        "Expected 8-bit grey, palette or RGB; save the masks as 8-bit PNG."
    )


def test_transparent_masks(pair_root):
    mask = draw_pair(0)[1]
    clear = np.dstack([np.full_like(mask, 255)] * 3 + [mask])
    Image.fromarray(clear).save(pair_root / "mask.png")
    expected = (
        "masks with transparent pixels: 1\n  mask.png\n"
        "Transparency has no meaning here; flatten the masks to grey or RGB."
    )
    assert inspect(pair_root)[1] == expected
    palette = Image.fromarray((mask > 0).astype(np.uint8), "P")
    palette.putpalette([255, 255, 255, 255, 255, 255])
    palette.save(pair_root / "mask.png", transparency=0)
    assert inspect(pair_root)[1] == expected
    opaque = np.dstack([mask] * 3 + [np.full_like(mask, 255)])
    Image.fromarray(opaque).save(pair_root / "mask.png")
    assert inspect(pair_root)[0].mask.kind == "binary"


@pytest.mark.parametrize(
    "name, options, kind",
    [
        ("mask.jpg", {"quality": 80}, "fringed"),
        ("mask.webp", {"quality": 60}, "fringed"),
        ("mask.webp", {"lossless": True}, "binary"),
        ("mask.bmp", {}, "binary"),
    ],
)
def test_masks_of_every_type_are_summarised(name, options, kind, pair_root):
    Image.fromarray(draw_pair(0)[1]).save(pair_root / name, **options)
    assert inspect(pair_root, mask=name)[0].mask.kind == kind


def test_a_lossless_webp_may_hold_ids(pair_root):
    ids = (draw_pair(0)[1] > 0).astype(np.uint8)
    Image.fromarray(np.dstack([ids] * 3)).save(pair_root / "mask.webp", lossless=True)
    summary = inspect(pair_root, mask="mask.webp")[0].mask
    assert (summary.kind, summary.values[-1]) == ("binary", (1, int(ids.sum())))


@pytest.fixture
def mixed_root(tmp_path):
    """Seven pairs in two subsets: two with damaged files, one whose sizes differ."""
    root = write_data(tmp_path, {"a": 4, "b": 3}, height=40, width=50)
    (root / "train/images/a/1.png").write_bytes(b"")
    (root / "train/masks/b/0.png").write_bytes(b"plain text")
    write_image(root / "train/masks/b/2.png", draw_pair(9, 41, 50)[1])
    return root


def test_workers_find_the_same_as_this_process(mixed_root, monkeypatch):
    monkeypatch.setattr("segbalance.data_processing.inspection.AT_ONCE", 4)
    monkeypatch.setattr("segbalance.data_processing.inspection.CHUNK", 2)
    pairs, found = find_pairs(mixed_root, find_folders(mixed_root)).pairs, []
    for workers in (0, 2):
        findings = Findings()
        facts = inspect_pairs(mixed_root, pairs, findings, workers)
        found.append((list(facts.items()), findings.message()))
    assert found[0] == found[1]
    facts, message = found[1]
    assert [pair.image.removeprefix("train/images/") for pair, _ in facts] == [
        "a/0.png",
        "a/2.png",
        "a/3.png",
        "b/1.png",
    ]
    assert message == (
        "files that cannot be decoded: 2\n"
        "  train/images/a/1.png  the file is empty\n  train/masks/b/0.png  not an image\n"
        "Replace the damaged files, or move image and mask away.\n\n"
        "pairs of different size: 1\n  train/images/b/2.png 50x40, train/masks/b/2.png 50x41\n"
        "Expected equal sizes; save the masks in their image's size."
    )


@pytest.mark.parametrize(
    "pairs, cores, workers",
    [
        (FEWEST_FOR_WORKERS - 1, 2, 0),
        (FEWEST_FOR_WORKERS, 2, 2),
        (10**6, 8, 8),
        (10**6, 1, 0),
        (10**6, None, 0),
    ],
)
def test_workers_are_for_many_pairs_and_several_cores(pairs, cores, workers, stub):
    stub("os.cpu_count", lambda: cores)
    assert usual_workers(pairs) == workers


def test_files_are_only_read(pair_root):
    before = {path.name: path.read_bytes() for path in pair_root.iterdir()}
    inspect(pair_root)
    assert {path.name: path.read_bytes() for path in pair_root.iterdir()} == before != {}
