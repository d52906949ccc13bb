"""The table of the classes: what it says of mask files, and what is wrong with it."""

import numpy as np
import pytest

from segbalance.data_processing.class_table import read_classes
from segbalance.data_processing.classes import IGNORED, Classes, usual_colour
from segbalance.data_processing.mask_encoding import MaskEncoding, summarise_colours, summarise_grey
from segbalance.errors import InputError


@pytest.fixture
def read(tmp_path):
    """Reads a table from its text."""
    path = tmp_path / "classes.csv"

    def read(text, ignore_index=None):
        path.write_text(text, encoding="utf-8")
        return read_classes(path, ignore_index)

    return read


def test_grey_values_or_colours_stand_for_ids(read):
    table = read("id,name,colour\n0,background,0\n1,nail,128\n1,,255\n")
    assert table.encodings()[0] == MaskEncoding("values", ((0, 0), (128, 1), (255, 1)))
    assert table.classes == Classes(("background", "nail"), ("#000000", "#800000"))
    table = read("\ufeffname,colour,id\nbackground,#000000,0\n\nnail, #FF0000 ,1\n")
    assert table.encodings()[0] == MaskEncoding("colours", (("#000000", 0), ("#ff0000", 1)))
    assert table.classes == Classes(("background", "nail"), ("#000000", "#ff0000"))
    assert table.is_binary


THREE = "id,name,colour\n0,background,#000000\n1,nail,#ff0000\n2,ring,#00ff00\n"
IDS = np.uint8(np.arange(36).reshape(6, 6) % 3)


def test_masks_of_ids_are_known_by_their_values(read):
    """The colours then are for pictures alone."""
    table = read(THREE)
    assert table.encoding([summarise_grey(IDS)]) == MaskEncoding("values", ((0, 0), (1, 1), (2, 2)))
    assert table.encoding([summarise_colours(table.classes.colour_masks(IDS))]).kind == "colours"
    mixed = [summarise_grey(IDS), summarise_colours(table.classes.colour_masks(IDS))]
    assert table.encoding(mixed).kind == "colours", "the plainest"
    palette = summarise_colours(table.classes.colour_masks(IDS) // 2)._replace(indices=((0, 12), (2, 24)))
    assert table.encoding([palette]) == MaskEncoding("indices", ((0, 0), (1, 1), (2, 2)))


def test_numbers_may_be_places_in_a_palette(read):
    table = read("id,name,colour\n0,background,4\n1,nail,5\n", 9)
    palette = summarise_colours(np.dstack([IDS * 90] * 2 + [IDS]))._replace(indices=((4, 30), (9, 6)))
    assert table.encoding([palette]) == MaskEncoding("indices", ((9, IGNORED), (4, 0), (5, 1)))
    assert table.encoding([summarise_grey(IDS % 2 + 4)]).kind == "values"


def test_without_colours_the_ids_are_in_the_masks(read):
    table = read("id,name,colour\n0,,\n1,nail,\n2,ring,\n255,void,\n", 255)
    encoding = MaskEncoding("values", ((0, 0), (1, 1), (2, 2), (255, IGNORED)))
    assert table.encodings()[0] == encoding
    assert table.classes == Classes(("class 0", "nail", "ring"), ("#000000", "#800000", "#008000"))
    assert not table.is_binary and table.ignore_index == 255


@pytest.mark.parametrize("ignored", ["", "9,border,#ffffff\n"])
def test_the_ignored_id_may_have_any_number_and_a_colour(ignored, read):
    table = read(THREE + ignored, 9)
    colours, values, indices = (
        (dict(encoding.ids) for encoding in table.encodings() + [None] if encoding)
        if False
        else [dict(encoding.ids) for encoding in table.encodings()]
    )
    assert values == indices == {0: 0, 1: 1, 2: 2, 9: IGNORED}
    assert colours.get("#ffffff") == (IGNORED if ignored else None)


def test_colours_that_are_not_given_are_those_of_pascal_voc():
    expected = [
        "#000000",
        "#800000",
        "#008000",
        "#808000",
        "#000080",
        "#800080",
        "#008080",
        "#808080",
        "#400000",
    ]
    assert [usual_colour(class_id) for class_id in range(9)] == expected
    assert len({usual_colour(class_id) for class_id in range(254)}) == 254


def test_every_wrong_row_is_named_by_its_line(read, tmp_path):
    rows = "0,background,0\n\n254,hand,9\n1,nail,red\n1,nail,256\n1,nail,#12345g\n1,nail,0\n-1\n255,void,7\n"
    with pytest.raises(InputError) as caught:
        read("id,name,colour\n" + rows + "2,\x1b[31m,3\n")
    path = tmp_path / "classes.csv"
    assert str(caught.value) == (
        "rows of the classes that are wrong: 8\n"
        f"  {path} line 4: id is '254', expected a number from 0 to 253\n"
        f"  {path} line 5: colour is 'red', expected #rrggbb, a grey value 0..255 or nothing\n"
        f"  {path} line 6: colour is '256', expected #rrggbb, a grey value 0..255 or nothing\n"
        f"  {path} line 7: colour is '#12345g', expected #rrggbb, a grey value 0..255 or nothing\n"
        f"  {path} line 8: colour 0 stands there twice\n"
        f"  {path} line 9: id is '-1', expected a number from 0 to 253\n"
        f"  {path} line 10: id is '255', expected a number from 0 to 253; or is it what --ignore_index "
        "should name?\n"
        f"  {path} line 11: name is '\\\\x1b[31m', expected one without control characters\n"
        "Expected id,name,colour with an id for each class from 0 (background) on, as in `1,nail,#ff0000`; "
        "the id of --ignore_index may be there too."
    )


@pytest.mark.parametrize(
    "text, message",
    [
        ("id,name,colour\n1,nail,255\n", r"the ids are \[1\]; expected each of 0 to 1\. Expected id,name"),
        ("id,name,colour\n0,a,0\n2,nail,255\n", r"the ids are \[0, 2\]; expected each of 0 to 2\."),
        (
            "id,name,colour\n0,background,0\n1,nail,#ff0000\n",
            "mixes grey values and #rrggbb colours.*#808080",
        ),
        ("id,name,colour\n0,background,0\n1,nail,\n", "the ids 1 have no colour, but others do"),
        ("id,name,colour\n0,nail,0\n1,nail,7\n", "nail names several ids; expected a name for each"),
        (
            "id,name,colour\n0,background,0\n1,nail,7\n1,ring,8\n",
            r"rows of the classes[^!]*line 4: id 1 is 'ring', but 'nail' in a row above",
        ),
        ("id;name;colour\n0;background;0\n", "the first line is id;name;colour. Expected id,name,colour"),
        ("", "the first line is nothing. Expected id,name,colour"),
    ],
)
def test_a_table_that_is_wrong_as_a_whole_is_refused(text, message, read):
    with pytest.raises(InputError, match=f"^(--classes .*classes.csv:? )?{message}"):
        read(text)


def test_an_ignored_value_is_no_class(read):
    grey = "id,name,colour\n0,background,0\n1,nail,128\n2,ring,255\n"
    with pytest.raises(InputError, match="the grey value 255 is class 2, but --ignore_index 255 takes it"):
        read(grey, 255)
    # A row of its own says which value it is.
    (encoding, _) = read(grey + "9,border,7\n", 9).encodings()
    assert dict(encoding.ids) == {0: 0, 128: 1, 255: 2, 7: IGNORED}


def test_a_table_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "latin.csv").write_bytes("id,name,colour\n0,H\xe4nde,0\n".encode("latin-1"))
    for name in ("none.csv", "latin.csv"):
        with pytest.raises(InputError, match=f"{name}: cannot be read .* expected a CSV file"):
            read_classes(tmp_path / name)
