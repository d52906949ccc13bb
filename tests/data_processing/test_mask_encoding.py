"""What mask files mean: found out from all of them, or read from a table of classes."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from segbalance.data_processing.mask_encoding import (
    SEVERAL,
    UNNAMED,
    MaskEncoding,
    decide_encoding,
    is_grey,
    summarise_colours,
    summarise_grey,
    usual_encoding,
)
from segbalance.errors import InputError
from tests.support.data import write_image


def disc(foreground=255, background=0, line=cv2.LINE_8, radius=12):
    """A mask uint8 (50, 60) of one disc."""
    return cv2.circle(np.full((50, 60), background, np.uint8), (30, 25), radius, foreground, -1, line)


def as_jpeg(pixels, quality=80):
    """What JPEG leaves of uint8 pixels (H, W)."""
    return cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 0)


def toe():
    """The faint edge that a fringe leaves where its object lies just outside the picture."""
    mask = np.zeros((50, 60), np.uint8)
    mask[-1, :20] = np.arange(3, 23)
    return mask


def decide(*masks):
    """decide_encoding of uint8 masks, grey (H, W) or RGB (H, W, 3), named 0, 1, ..."""
    summaries = [summarise_grey(m) if m.ndim == 2 else summarise_colours(m) for m in masks]
    return decide_encoding({str(number): summary for number, summary in enumerate(summaries)})


def painted(colour, background=(0, 0, 0)):
    """A colour mask uint8 (50, 60, 3) of one disc."""
    return np.where(disc()[..., None] > 0, np.uint8(colour), np.uint8(background))


def refusal(*masks):
    with pytest.raises(InputError) as caught:
        decide(*masks)
    return str(caught.value)


@pytest.mark.parametrize(
    "masks, found, kind",
    [
        ([disc(255)], "0/255", "threshold"),
        ([np.full((9, 9), 255, np.uint8)], "0/255", "threshold"),
        ([disc(1)], "0/1", "values"),
        ([np.ones((9, 9), np.uint8), disc(1)], "0/1", "values"),
        ([disc(200)], "0/200", "values"),
        ([disc(7), disc(7, radius=3)], "0/7", "values"),
        ([as_jpeg(disc())], "0/255, 1 of 1 grey-fringed", "threshold"),
        ([disc(line=cv2.LINE_AA)], "0/255, 1 of 1 grey-fringed", "threshold"),
        ([disc(), as_jpeg(disc()), disc(line=cv2.LINE_AA)], "0/255, 2 of 3 grey-fringed", "threshold"),
        ([as_jpeg(disc()), disc(254)], "0/255, 1 of 2 grey-fringed", "threshold"),
        ([painted((255, 0, 0))], "black and #ff0000", "colours"),
        ([painted((0, 1, 0)), np.zeros((50, 60), np.uint8)], "black and #000100", "colours"),
    ],
)
def test_plain_encodings_are_found(masks, found, kind):
    encoding, description = decide(*masks)
    assert (encoding.kind, description) == (kind, found)
    for mask in masks:
        foreground = (mask if mask.ndim == 2 else mask.max(axis=2)) > (127 if kind == "threshold" else 0)
        pixels = mask if mask.ndim == 3 or kind != "colours" else np.dstack([mask] * 3)
        np.testing.assert_array_equal(encoding.decode(pixels), foreground)


@pytest.mark.parametrize("value", [1, 200, 255])
def test_blank_masks_fit_every_encoding(value):
    blank = np.zeros((50, 60), np.uint8)
    encoding, _ = decide(blank, disc(value), blank)
    assert not encoding.decode(blank).any() and encoding.decode(disc(value)).any()


def test_the_toe_of_a_fringe_is_background():
    faint = np.zeros((50, 60), np.uint8)
    faint[-1, :5] = 20  # one value only, as {0, v} would have
    encoding, found = decide(as_jpeg(disc()), toe(), faint)
    assert found == "0/255, 1 of 3 grey-fringed"
    assert not encoding.decode(toe()).any() and not encoding.decode(faint).any()


def test_small_classes_are_not_taken_for_the_toe_of_a_fringe():
    """Ids 1 and 2 on less than 2 % of the pixels look like a toe, but no mask here has a fringe."""
    ids = np.zeros((50, 60), np.uint8)
    ids[5:8, 5:8], ids[20:23, 20:23] = 1, 2
    assert refusal(ids, ids).startswith("the masks hold several grey values of unclear meaning (2 of")
    assert "of unclear meaning (1 of them, for example 1):\n  0  " in refusal(disc(), ids)


def test_a_class_alone_in_its_mask_belongs_to_the_others():
    """Masks of one class each stand beside masks of several: one table, not a contradiction."""
    both = cv2.circle(disc(120), (10, 10), 6, 60, -1)
    message = refusal(disc(120), both, disc(60))
    assert "of unclear meaning (1 of them, for example 1):\n" in message
    assert [line.split()[0] for line in message.splitlines()[1:4]] == ["0", "60", "120"]


def test_contradicting_masks_are_named():
    assert refusal(disc(1), disc(255), disc(255)) == (
        "masks of one data set encode the foreground in different ways:\n"
        "  0/1  1 of the masks, for example 0\n"
        "  0/255  2 of the masks, for example 1\n"
        "Expected one encoding; save all masks alike (0 background, 255 foreground), "
        "or give a table of the classes with --classes."
    )


@pytest.mark.parametrize(
    "masks",
    [
        (disc(1), as_jpeg(disc())),
        (disc(1), disc(2)),
        (painted((255, 0, 0)), disc(255)),
        (painted((255, 0, 0)), painted((0, 255, 0)), disc(1)),
        (as_jpeg(disc(255)), cv2.circle(disc(255), (10, 10), 6, 128, -1)),
        (painted((255, 0, 0)), cv2.circle(disc(255), (10, 10), 6, 128, -1)),
    ],
)
def test_every_mixture_of_families_is_refused(masks):
    assert refusal(*masks).startswith("masks of one data set encode the foreground in different ways")


def test_masks_without_any_foreground_are_refused():
    blank = np.zeros((9, 9), np.uint8)
    assert refusal(blank, blank) == (
        "none of the 2 masks has any foreground, for example 0; "
        "expected some pixels that are not background. Are these the right masks?"
    )


def test_several_grey_values_show_what_was_found_and_the_way_out():
    mask = np.zeros((10, 10), np.uint8)
    mask[:5, :5], mask[5:, 5:] = 128, 255
    assert refusal(mask) == (
        "the masks hold several grey values of unclear meaning (1 of them, for example 0):\n"
        "  0  50.00% of the pixels\n  128  25.00% of the pixels\n  255  25.00% of the pixels\n"
        "Expected black and one other value. Say what each value means with --classes classes.csv, a table "
        "with the columns id,name,colour and rows such as 1,nail,255 (id 0 is background); masks "
        "with more values than classes (lossy JPEG) must be saved again as PNG."
    )


@pytest.mark.parametrize(
    "masks",
    [
        (painted((255, 0, 0)), painted((0, 255, 0))),
        (painted((255, 0, 0), (255, 255, 255)),),
        (painted((255, 0, 0), (255, 0, 0)),),
    ],
)
def test_colours_that_are_not_black_and_one_other_need_a_table(masks):
    message = refusal(*masks)
    assert message.startswith(f"the masks hold colours of unclear meaning ({len(masks)} of them")
    assert "  #ff0000  " in message and "rows such as 1,nail,#ff" in message


def test_countless_colours_are_named():
    noise = np.random.default_rng(0).integers(0, 255, (20, 20, 3), np.uint8)
    assert "  0  more than 16 values\n" in refusal(noise)


def test_random_masks_of_one_value_are_read_back():
    """Any {0, v}, any share of foreground, blank masks among them: decode gives 1 just where v stood."""
    rng = np.random.default_rng(0)
    for value in [*rng.integers(1, 256, 40), 1, 127, 128, 254, 255]:
        truths = [rng.random((12, 17)) < share for share in (0, *rng.random(3), 1)]
        masks = [np.uint8(value) * truth for truth in truths]
        encoding, found = decide(*masks)
        assert found == f"0/{value}"
        for truth, mask in zip(truths, masks, strict=True):
            np.testing.assert_array_equal(encoding.decode(mask), truth)
            assert summarise_grey(mask).coverage(encoding) == pytest.approx(truth.mean(), abs=1e-12)


def test_random_fringed_masks_are_cut_at_half():
    """A blob of any size, stored as JPEG of any quality or drawn with a soft edge, is thresholded at 128."""
    rng = np.random.default_rng(1)
    for _ in range(40):
        clean = disc(radius=int(rng.integers(3, 20)))
        soft = as_jpeg(clean, int(rng.integers(60, 100))) if rng.random() < 0.5 else cv2.blur(clean, (3, 3))
        encoding, _ = decide_encoding({"soft": summarise_grey(soft, lossy=True)})
        np.testing.assert_array_equal(encoding.decode(soft), soft >= 128)
        assert (encoding.decode(soft) != (clean > 0)).mean() < 0.03


def test_a_lossy_file_is_never_taken_for_values():
    faint = disc(40)
    assert summarise_grey(faint).kind == "binary"
    assert summarise_grey(faint, lossy=True).kind == "levels"


def test_grey_stored_as_colour_is_known():
    grey = np.dstack([disc()] * 3)
    assert is_grey(grey, lossy=False) and not is_grey(painted((255, 0, 0)), lossy=False)
    tinted = grey + np.uint8([0, 0, 5]) * (grey == 0)
    assert not is_grey(tinted, lossy=False)
    assert is_grey(tinted, lossy=True) and not is_grey(painted((255, 0, 0)), lossy=True)
    assert is_grey(np.zeros((4, 4, 3), np.uint8), lossy=True)


def test_files_of_every_storage_are_read_alike(tmp_path):
    truth = disc() > 0
    write_image(tmp_path / "grey.png", disc())
    write_image(tmp_path / "rgb.png", np.dstack([disc()] * 3))
    write_image(tmp_path / "grey.bmp", disc())
    Image.fromarray(truth).save(tmp_path / "bit.png")
    palette = Image.fromarray(truth.astype(np.uint8), "P")
    palette.putpalette([0, 0, 0, 255, 255, 255])
    palette.save(tmp_path / "palette.png")
    for path in sorted(tmp_path.iterdir()):
        np.testing.assert_array_equal(MaskEncoding().read(path), truth, err_msg=path.name)


def test_a_table_reads_values_and_colours(tmp_path):
    write_image(tmp_path / "values.png", disc(7, 3))
    write_image(tmp_path / "colours.png", painted((255, 0, 0), (255, 255, 255)))
    values = MaskEncoding("values", ((3, 0), (7, 1)))
    colours = MaskEncoding("colours", (("#ffffff", 0), ("#ff0000", 1)))
    np.testing.assert_array_equal(values.read(tmp_path / "values.png"), disc() > 0)
    np.testing.assert_array_equal(colours.read(tmp_path / "colours.png"), disc() > 0)
    assert colours.read(tmp_path / "colours.png").dtype == np.uint8


def test_a_value_without_entry_is_an_error_at_reading(tmp_path):
    write_image(tmp_path / "a.png", disc(9))
    encoding = MaskEncoding("values", ((0, 0), (7, 1)))
    assert UNNAMED in encoding.decode(disc(9))
    with pytest.raises(OSError, match=r"a\.png holds values .* \(values 0 -> 0, 7 -> 1\)"):
        encoding.read(tmp_path / "a.png")


@pytest.mark.parametrize(
    "encoding",
    [
        MaskEncoding(),
        MaskEncoding("values", ((0, 0), (7, 1))),
        MaskEncoding("colours", (("#000000", 0), ("#ff0000", 1))),
    ],
)
def test_an_encoding_survives_the_manifest(encoding):
    assert MaskEncoding.from_dict(json.loads(json.dumps(encoding.to_dict()))) == encoding


@pytest.mark.parametrize(
    "stored",
    [{}, {"kind": "magic"}, {"kind": "values", "ids": {"x": 1}}, {"kind": "values", "ids": 3}, "grey"],
)
def test_a_damaged_encoding_is_refused(stored):
    with pytest.raises(
        InputError, match=r"^manifest\.json: mask_encoding .* is not understood; expected a kind"
    ):
        MaskEncoding.from_dict(stored)


def test_the_usual_encoding_leaves_out_what_contradicts_it():
    ids = np.uint8(np.eye(60) > 0)
    ids[20:40, 20:40] = 1
    several = ids * 255
    several[:20, :20] = 100
    summaries = {f"{number}.png": summarise_grey(ids * 255) for number in range(5)} | {
        "ones.png": summarise_grey(ids),
        "several.png": summarise_grey(several),
        "red.png": summarise_colours(np.dstack([ids * 255, ids * 0, ids * 0])),
        "blank.png": summarise_grey(ids * 0),
    }
    encoding, strangers = usual_encoding(summaries)
    assert encoding == MaskEncoding()
    assert strangers == {"ones.png": "0/1", "several.png": SEVERAL, "red.png": "colours"}
    with pytest.raises(InputError, match="none of the 1 masks has any foreground"):
        usual_encoding({"blank.png": summaries["blank.png"]})


def test_a_toe_is_a_stranger_once_the_fringes_have_gone():
    """Two fringed masks among four of 0/1: what was the toe of a fringe is then a value of its own."""
    ids = np.uint8(np.zeros((60, 60)))
    ids[20:40, 20:40] = 1
    toe = np.zeros((60, 60), np.uint8)
    toe[0, :4] = (5, 10, 20, 30)
    soft = cv2.blur(ids * 255, (5, 5))
    summaries = {f"{number}.png": summarise_grey(ids) for number in range(4)}
    summaries |= {f"soft{number}.png": summarise_grey(soft) for number in range(2)}
    encoding, strangers = usual_encoding(summaries | {"toe.png": summarise_grey(toe)})
    assert encoding == MaskEncoding("values", ((0, 0), (1, 1)))
    assert strangers == {"soft0.png": "0/255", "soft1.png": "0/255", "toe.png": SEVERAL}
