"""Where the outputs of many photos go, and the tables of what was found."""

import pandas as pd
import pytest

from segbalance.errors import InputError
from segbalance.prediction.many_photos import BadPhoto
from segbalance.prediction.output import OutputChoice
from segbalance.prediction.tables import collected, planned_jobs
from tests.support.data import draw_pair, write_image

MASKS_ALONE = OutputChoice()


@pytest.fixture
def folder(tmp_path):
    """Two photos, a and deep/b."""
    for number, name in enumerate(("a", "deep/b")):
        write_image(tmp_path / f"photos/{name}.png", draw_pair(number)[0])
    return tmp_path


def plan(folder, choice=MASKS_ALONE, **options):
    return planned_jobs([str(folder / "photos")], folder / "out", choice, **options)


def test_each_photo_has_a_place_for_each_output(folder):
    jobs = dict(plan(folder, OutputChoice(overlay=True)))
    places = {"masks": folder / "out/masks/deep/b.png", "overlays": folder / "out/overlays/deep/b.jpg"}
    assert list(jobs) == [str(folder / "photos/a.png"), str(folder / "photos/deep/b.png")]
    assert jobs[str(folder / "photos/deep/b.png")] == places


def test_without_files_of_their_own_photos_have_no_place(folder):
    assert [places for _, places in plan(folder, None)] == [{}, {}]


@pytest.mark.parametrize("name", ["masks/a.png", "predictions.csv", "failed.csv"])
def test_nothing_is_replaced_unasked(folder, name):
    place = folder / "out" / name
    place.parent.mkdir(parents=True)
    place.write_text("mine")
    with pytest.raises(InputError, match="outputs that already exist: 1\n") as caught:
        plan(folder)
    assert str(place) in str(caught.value) and "--overwrite" in str(caught.value)
    assert len(plan(folder, overwrite=True)) == 2
    place.unlink()
    place.mkdir()
    with pytest.raises(InputError, match="outputs where a folder stands"):
        plan(folder, overwrite=True)


def results(*answers):
    yield from answers


def beside(path):
    return path, f"{path}.png"


def tables(answers, output, cells=beside):
    return collected(answers, 3, ["image", "mask", "coverage"], cells, output)


def test_rows_and_failures_are_told_and_written(tmp_path):
    found = tables(results(("a", (1 / 3,)), ("b", BadPhoto("not an image")), ("c", (1.0,))), tmp_path)
    assert found.predictions.to_numpy().tolist() == [["a", "a.png", 1 / 3], ["c", "c.png", 1.0]]
    assert found.failures.to_numpy().tolist() == [["b", "not an image"]]
    assert (tmp_path / "predictions.csv").read_text() == "image,mask,coverage\na,a.png,0.333333\nc,c.png,1\n"
    assert (tmp_path / "failed.csv").read_text() == "image,reason\nb,not an image\n"


def test_the_failures_of_an_earlier_call_go(tmp_path):
    tables(results(("a", BadPhoto("empty"))), tmp_path)
    assert (tmp_path / "failed.csv").exists()
    assert tables(results(("a", (1.0,))), tmp_path).failures.empty
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.csv"]


def test_what_was_found_before_an_interruption_is_kept(tmp_path):
    closed = []

    def answers():
        try:
            yield from (("a", (1.0,)), ("b", (1.0,)))
        finally:
            closed.append(True)

    def interrupted(path):
        if path == "b":
            raise KeyboardInterrupt
        return beside(path)

    running = answers()
    with pytest.raises(KeyboardInterrupt):
        tables(running, tmp_path, interrupted)
    assert pd.read_csv(tmp_path / "predictions.csv")["image"].tolist() == ["a"]
    assert closed, "whoever reads and predicts must stop"
