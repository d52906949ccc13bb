"""The boundary of the data root, and walks that stay inside it and end."""

import os

import pytest

from segbalance.data_processing.pairs import find_folders, find_pairs
from segbalance.data_processing.rows import unusable_files
from segbalance.files import data_root as boundary
from segbalance.files.data_root import DataRoot, is_within
from segbalance.files.images import empty_folders, walk_files
from tests.support.data import write_data


@pytest.fixture
def places(tmp_path):
    """A data root `data` with links inwards, outwards, to themselves and to each other; returns tmp_path."""
    for name in ("data/a/0.png", "data/a/deep/0.png", "data/top.png", "outer/secret.png", "data2/0.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    links = {
        "in": "a",
        "out": "../outer",
        "a/in.png": "../top.png",
        "a/out.png": "../../outer/secret.png",
        "a/there_and_back.png": "../../data/top.png",
        "a/twice.png": "out.png",
        "through": "out",
        "self.png": "self.png",
        "one": "two",
        "two": "one",
    }
    for name, target in links.items():
        (tmp_path / "data" / name).symlink_to(target)
    return tmp_path


INSIDE = [
    "top.png",
    "a/0.png",
    "./a//0.png",
    "a/../top.png",
    "in/0.png",
    "in/../top.png",
    "a/in.png",
    "",
    ".",
]
INSIDE += ["in/deep/0.png", "in/in.png", "a/there_and_back.png", "none.png", "none/none.png", "self.png"]
INSIDE += ["one", "one/0.png", "a\0.png", "\0/a.png", "c:top.png", "a\\..\\..\\x.png", "x" * 300, "a/.."]
OUTSIDE = {
    "../outer/secret.png": "outer/secret.png",
    "a/../../outer/secret.png": "outer/secret.png",
    "..": ".",
    "../data2/0.png": "data2/0.png",
    "out/secret.png": "outer/secret.png",
    "out": "outer",
    "through/secret.png": "outer/secret.png",
    "a/out.png": "outer/secret.png",
    "a/twice.png": "outer/secret.png",
    "in/out.png": "outer/secret.png",
    "out/../data/top.png": "data/top.png",
    "../none.png": "none.png",
}


def test_paths_inside_are_let_through(places):
    root = DataRoot(places / "data")
    found = {path: root.outside(path) for path in [*INSIDE, str(places / "data/a/0.png")]}
    assert set(found.values()) == {None}


def test_the_place_of_paths_outside_is_told(places):
    root = DataRoot(places / "data")
    expected = {path: os.path.realpath(places / real) for path, real in OUTSIDE.items()}
    inside = expected.pop("out/../data/top.png")  # through the outside and back in
    assert {path: root.outside(path) for path in expected} == expected
    assert root.outside("out/../data/top.png") is None and inside.startswith(root.folder)
    assert root.outside("/etc/passwd") == os.path.realpath("/etc/passwd")
    assert DataRoot(places / "data", allow_outside=True).outside("../outer/secret.png") is None


def test_the_short_way_gives_what_realpath_gives(places):
    root = DataRoot(places / "data")
    for path in [*INSIDE, *OUTSIDE, "/etc/passwd"]:
        if "\0" not in path:
            place = os.path.join(root.folder, path)
            real = os.path.realpath(place)
            loops = path.startswith(("self", "one"))  # of which realpath gives another name
            assert loops or root._real_path(place) == real, path


def test_the_root_itself_may_be_a_link(places):
    (places / "link").symlink_to("data")
    root = DataRoot(places / "link")
    assert root.folder == os.path.realpath(places / "data")
    assert root.outside("a/0.png") is root.outside(str(places / "link/a/0.png")) is None
    assert root.outside("out/secret.png") == os.path.realpath(places / "outer/secret.png")


@pytest.mark.parametrize(
    "folder, path, within",
    [
        ("/d", "/d", True),
        ("/d", "/d/x", True),
        ("/d", "/data", False),
        ("/d/x", "/d", False),
        ("/", "/d", True),
    ],
)
def test_is_within(folder, path, within):
    assert is_within(folder, path) is within


def test_files_outside_are_told_from_missing_ones(places):
    root = DataRoot(places / "data")
    paths = [*INSIDE[:6], *OUTSIDE, "none.png", "/0/a.png", "/etc/passwd"]
    missing, outside = unusable_files(root, paths)
    assert missing == {"none.png", "/0/a.png"}, "/0/a.png is how the tutorial writes a path"
    assert set(outside) == {*OUTSIDE, "/etc/passwd"} - {"out/../data/top.png"}
    missing, outside = unusable_files(DataRoot(places / "data", allow_outside=True), paths)
    assert outside == {} and missing == {"none.png", "/0/a.png", "..", "out", "../none.png"}


def test_plain_files_cost_no_look_at_links(places, stub):
    root = DataRoot(places / "data")
    looked, real_path = [], root._real_path
    stub(root, "_real_path", lambda place, links=0: (looked.append(place), real_path(place))[1])
    assert unusable_files(root, 100 * ["a/0.png", "a/in.png"]) == (set(), {})
    assert len(looked) == 3, "for the folder, and for the link in it and where it leads"


# Walks


def test_a_walk_in_links_that_lead_round_ends(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/0.png").touch()
    for name, target in {
        "a/b/up": "..",
        "a/b/self": ".",
        "a/top": "../..",
        "c": "a",
        "a/other": "../c",
    }.items():
        (tmp_path / name).symlink_to(target)
    found = list(walk_files(tmp_path / "a"))
    assert found[0] == "b/0.png" and len(found) == 1
    assert sorted(walk_files(tmp_path)) == ["a/b/0.png", "c/b/0.png"]


def test_links_that_do_not_lead_round_are_followed(places):
    (places / "data/a/again").symlink_to("deep")
    assert "a/again/0.png" in set(walk_files(places / "data"))
    assert "out/secret.png" in set(walk_files(places / "data")), "the caller says what is outside"


def test_a_walk_leaves_out_what_it_is_told_to(places):
    asked = []

    def leads_out(link):
        asked.append(os.path.relpath(link, places / "data"))
        return os.path.basename(link) in ("out", "through")

    found = set(walk_files(places / "data", leads_out))
    assert "out/secret.png" not in found and "through/secret.png" not in found
    assert "in/0.png" in found and "a/out.png" in found, "a file is named, for the caller to judge"
    assert {"out", "through", "a/out.png", "self.png", "one"} <= set(asked) and "a/0.png" not in asked
    assert empty_folders(places / "data", leads_out) == []


def linked_data(tmp_path):
    """A data root of which subset b, one image of a and one mask of a lie elsewhere."""
    root = write_data(tmp_path / "data", {"a": 4, "b": 2})
    (tmp_path / "elsewhere").mkdir()
    for path in ("images/b", "masks/b", "images/a/0.png", "masks/a/1.png"):
        target = tmp_path / "elsewhere" / path.replace("/", "_")
        (root / "train" / path).rename(target)
        (root / "train" / path).symlink_to(target)
    return root


def test_pairs_outside_are_findings(tmp_path):
    root = linked_data(tmp_path)
    search = find_pairs(root, find_folders(root))
    assert [pair.image for pair in search.pairs] == ["train/images/a/2.png", "train/images/a/3.png"]
    lines = [
        f"train/{path} is {tmp_path}/elsewhere/{path.replace('/', '_')}"
        for path in ("images/a/0.png", "images/b", "masks/a/1.png", "masks/b")
    ]
    headline, *shown, advice = search.findings.message().split("\n")
    assert headline == "paths that lead out of the data root: 4"
    assert sorted(shown) == [f"  {line}" for line in lines] and advice == boundary.STAY_INSIDE
    assert search.unpaired == {} and len(search.outside) == 4
    everything = find_pairs(root, find_folders(root), allow_outside=True)
    assert len(everything.pairs) == 6 and not everything.findings and everything.outside == {}


def test_a_whole_images_folder_may_not_lie_outside(tmp_path):
    root = write_data(tmp_path / "data", {"a": 2})
    (root / "train").rename(tmp_path / "train")
    (root / "train").symlink_to(tmp_path / "train")
    search = find_pairs(root, find_folders(root))
    assert search.pairs == [] and list(search.outside) == ["train/images", "train/masks"]
    assert len(find_pairs(root, find_folders(root), allow_outside=True).pairs) == 2
