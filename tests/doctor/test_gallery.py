"""The page: it holds all by itself, shows every kind with pictures, and no name from the data gets out."""

import base64
import html.parser
import os
import re
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from segbalance.commands import doctor
from segbalance.data_processing.pairs import Pair
from segbalance.doctor.gallery import CROP, close_ups
from segbalance.runtime.command_line import DONE, WRONG_INPUT
from tests.support.data import draw_pair, write_data, write_image

HOSTILE = "<img src=x onerror=alert(1)>.png"


class Page(html.parser.HTMLParser):
    """The elements of a page, its text, and whether each opened element is closed in its turn."""

    VOID = {"meta", "img", "link", "br", "hr", "input"}

    def __init__(self, source):
        super().__init__()
        self.source, self.elements, self.open, self.words = source, [], [], []
        self.feed(source)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def page(tmp_path, capsys):
    """Runs the doctor on data; returns the Page."""

    def make(root, *words, status=DONE):
        output = tmp_path / "new" / "report.html"
        words = ["--data_root", root, "--only", "data", "--output", output, *words]
        assert doctor.main(words) == status
        assert f"wrote {output}\n" in capsys.readouterr().out
        return Page(output.read_text(encoding="utf-8"))

    return make


@pytest.fixture
def faulty(tmp_path):
    """Data with faults of many kinds."""
    root = write_data(tmp_path / "data", {"a": 30, "b": 4})
    masks, images = root / "train/masks/a", root / "train/images/a"
    (masks / "0.png").unlink()
    (images / "1.png").write_bytes(b"")
    write_image(masks / "2.png", cv2.imread(str(masks / "2.png"), 0) // 255)
    write_image(masks / "3.png", cv2.blur(cv2.imread(str(masks / "3.png"), 0), (3, 3)))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(draw_pair(90)[0]).save(images / "4.png", exif=exif)
    exif[0x0112] = 3
    Image.fromarray(draw_pair(91)[0]).save(images / "5.png", exif=exif)
    shutil.copyfile(images / "6.png", images / "7.png")
    write_image(masks / "8.png", 255 - cv2.imread(str(masks / "8.png"), 0))
    write_image(masks / "9.png", np.zeros((50, 60), np.uint8))
    return root


def test_the_page_needs_nothing_from_elsewhere_and_runs_nothing(faulty, page):
    shown = page(faulty, status=WRONG_INPUT)
    assert shown.source.startswith("<!doctype html>") and shown.open == []
    assert not shown.all("script") and [link["href"] for link in shown.all("link")] == ["data:,"]
    assert "http:" not in shown.source and "https:" not in shown.source and "@import" not in shown.source
    policy = next(meta["content"] for meta in shown.all("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline';")
    assert not [name for _, attributes in shown.elements for name in attributes if name.startswith("on")]
    for image in shown.all("img"):
        content = re.fullmatch(r"data:image/webp;base64,(.*)", image["src"])[1]
        pixels = cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_COLOR)
        assert pixels.shape[:2] == (int(image["height"]), int(image["width"])) and max(pixels.shape) <= 240
        assert image["alt"]
    assert len(shown.source) < 1_000_000


def test_every_kind_has_a_section_that_the_contents_lead_to(faulty, page):
    shown = page(faulty, status=WRONG_INPUT)
    identities = [attributes["id"] for _, attributes in shown.elements if "id" in attributes]
    assert len(set(identities)) == len(identities)
    kinds = {
        "image_without_mask", "damaged_file", "mask_encoding_differs", "grey_fringes", "exif_rotation",
        "duplicate_with_other_mask", "inverted_mask", "empty_mask",
    }  # fmt: skip
    sections = {section.get("id") for section in shown.all("section")}
    assert kinds <= sections
    links = {link["href"] for link in shown.all("a")}
    assert links == {f"#{name}" for name in sections - {None}} | {"#findings"}
    text = " ".join(shown.words)
    for words in ("masks with grey fringes", "no picture", "Replace the damaged files", "All places"):
        assert words in text
    named = {section["aria-labelledby"] for section in shown.all("section") if "aria-labelledby" in section}
    assert named <= set(identities) and "prefers-color-scheme: dark" in shown.source


def captions(shown):
    return [word.strip() for word in shown.words if re.match(r"\s*(before|after)", word)]


def test_what_can_be_corrected_is_shown_before_and_after(faulty, page):
    shown = page(faulty, status=WRONG_INPUT)
    found = captions(shown)
    for name in ("masks/a/2.png", "masks/a/3.png", "images/a/4.png"):
        assert f"after: train/{name}" in found
    assert "before: train/masks/a/3.png" in found
    # A half turn can be meant either way: both are shown.
    assert [caption for caption in found if "a/5.png" in caption] == [
        "before: train/images/a/5.png",
        "after, --drawn_on stored: train/images/a/5.png",
        "after, --drawn_on displayed: train/images/a/5.png",
    ]


def test_a_close_up_shows_the_pixels_that_change():
    before = np.zeros((300, 400), np.uint8)
    before[200:210, 300:310] = 90
    after = np.where(before > 0, 255, 0).astype(np.uint8)
    pictures = close_ups(Pair(None, "a", "images/a.png", "masks/a.png"), before, after)
    for picture, value in zip(pictures, (90, 255), strict=True):
        content = base64.b64decode(picture.source.partition(",")[2])
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
        assert pixels.shape == (240, 240) and (pixels == value).sum() == 100 * (240 // CROP) ** 2
        assert picture.description.endswith("100 pixels change in all")


def test_names_from_the_data_stay_text(tmp_path, page):
    root = write_data(tmp_path / "data", {"<b>bold&": 2, "a": 4})
    for kind in ("images", "masks"):
        os.rename(root / f"train/{kind}/a/0.png", root / f"train/{kind}/a/{HOSTILE}")
    write_image(root / f"train/masks/a/{HOSTILE}", draw_pair(0)[1] // 255)
    write_image(root / f"train/images/a/{HOSTILE[:-4]}2.png", draw_pair(77)[0])  # without mask
    write_image(root / "train/masks/<b>bold&/0.png", np.zeros((50, 60), np.uint8))
    shown = page(root, status=WRONG_INPUT)
    assert all(image["src"].startswith("data:") for image in shown.all("img"))
    assert not shown.all("b")
    assert "<img src=x" not in shown.source and "&lt;img src=x onerror=alert(1)&gt;.png" in shown.source
    assert f"train/images/a/{HOSTILE[:-4]}2.png" in " ".join(shown.words)


def test_no_more_pictures_than_asked_for(tmp_path, page):
    root = write_data(tmp_path / "data", {"a": 16})
    for path in root.rglob("masks/a/*.png"):
        if path.stem not in ("0", "1"):
            write_image(path, np.zeros((50, 60), np.uint8))
    shown = page(root, "--pictures", "3")
    assert len(shown.all("img")) == 3 and "The first 3 are shown." in " ".join(shown.words)
    assert sum("train/masks/a/" in word for word in shown.words) == 3 + 14
    shown = page(root, "--pictures", "0")
    assert len(shown.all("img")) == 0


def test_a_page_of_nothing(tmp_path, page):
    shown = page(write_data(tmp_path / "data", {"a": 4}))
    assert "Nothing was found." in " ".join(shown.words)


def test_a_page_that_cannot_be_written_is_wrong_input(tmp_path, capsys):
    root = write_data(tmp_path / "data", {"a": 4})
    words = ["--data_root", root, "--only", "data", "--output", tmp_path]
    assert doctor.main(words) == WRONG_INPUT
    assert f"{tmp_path} cannot be written" in capsys.readouterr().err
