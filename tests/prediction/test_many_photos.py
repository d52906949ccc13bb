"""Many photos through a model: in order, at the same time, within bounds, and past bad files."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from segbalance.dataloader.working_size import shrink_photo, working_shape
from segbalance.errors import InputError
from segbalance.prediction.many_photos import (
    BadPhoto,
    FlippedMean,
    one_ahead,
    predict_squeezed,
    predict_tiled,
    submitted_ahead,
)
from segbalance.prediction.output import MASKS, OutputChoice
from tests.support.data import draw_pair, write_image


class RedPredictor:
    """Answers how red each pixel is; remembers what it was asked."""

    def __init__(self, input_size=32, working_size=0):
        self.input_size, self.working_size = input_size, working_size
        self.asked, self.threads = [], set()

    def __call__(self, photos):
        assert photos.dtype == np.uint8 and photos.flags["C_CONTIGUOUS"]
        self.asked.append(photos)
        self.threads.add(threading.get_ident())
        return photos[..., :1].astype(np.float32) / 255


def photos(folder, count, **shape):
    paths = []
    for number in range(count):
        paths.append(folder / "photos" / f"{number}.png")
        write_image(paths[-1], draw_pair(number, **shape)[0])
    return paths


def jobs(paths, output):
    return [(path, OutputChoice().places(output, path.stem)) for path in paths]


def squeezed(predictor, paths, output, **options):
    choice = OutputChoice()
    options = {"input_size": 32, "batch_size": 4, "threads": 3} | options
    return list(predict_squeezed(predictor, jobs(paths, output), choice, **options))


def mask_of(output, path):
    return cv2.imread(str(output / "masks" / f"{path.stem}.png"), cv2.IMREAD_UNCHANGED)


@pytest.mark.parametrize("working_size", [0, 40])
def test_photos_are_seen_as_in_training_and_masks_have_their_size(working_size, tmp_path):
    predictor, paths = RedPredictor(working_size=working_size), photos(tmp_path, 10)
    found = squeezed(predictor, paths, tmp_path)
    assert [path for path, _ in found] == paths
    assert [len(batch) for batch in predictor.asked] == [4, 4, 2]
    seen = np.concatenate(predictor.asked)
    for number, (path, outcome) in enumerate(found):
        photo = draw_pair(number)[0]
        shrunk = shrink_photo(photo, working_shape((60, 50), working_size))
        small = cv2.resize(shrunk, (32, 32), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_array_equal(seen[number], small)
        expected = cv2.resize(small[..., 0] / np.float32(255), (60, 50), interpolation=cv2.INTER_LINEAR) > 0.5
        np.testing.assert_array_equal(mask_of(tmp_path, path) > 0, expected)
        assert outcome[:2] == (60, 50) and outcome.coverage == pytest.approx(expected.mean())
        assert 0.02 < outcome.coverage < 0.5 and outcome.objects == 1


@pytest.mark.parametrize("tile", [False, True])
def test_bad_files_do_not_stop_the_others(tile, tmp_path):
    paths = photos(tmp_path, 6)
    paths[0].write_bytes(b"")
    paths[2].write_text("no image")
    paths[3].write_bytes(paths[3].read_bytes()[:2000])
    paths[5].unlink()
    if tile:
        options = {"tile": 32, "overlap": 8, "shrink": 1, "batch_size": 2}
        found = list(predict_tiled(RedPredictor(), jobs(paths, tmp_path), OutputChoice(), **options))
    else:
        found = squeezed(RedPredictor(), paths, tmp_path, batch_size=2)
    bad = {path: str(outcome) for path, outcome in found if isinstance(outcome, BadPhoto)}
    assert list(bad) == [paths[0], paths[2], paths[3], paths[5]] and [path for path, _ in found] == paths
    assert bad[paths[0]] == "the file is empty" and bad[paths[2]] == "not an image"
    assert bad[paths[5]] == "No such file or directory"
    written = [path for path in (tmp_path / "masks").rglob("*") if path.is_file()]
    assert sorted(path.name for path in written) == ["1.png", "4.png"]


def test_a_batch_of_bad_files_alone_asks_nothing(tmp_path):
    paths = photos(tmp_path, 3)
    for path in paths[:2]:
        path.write_bytes(b"")
    predictor = RedPredictor()
    assert len(squeezed(predictor, paths, tmp_path, batch_size=2)) == 3
    assert [len(batch) for batch in predictor.asked] == [1]


def test_an_output_that_cannot_be_written_ends_it(tmp_path):
    paths = photos(tmp_path, 3)
    (tmp_path / "masks").write_text("a file")
    with pytest.raises(InputError, match="cannot be written"):
        squeezed(RedPredictor(), paths, tmp_path)


def test_reading_and_writing_go_on_while_the_model_works(tmp_path, stub):
    """Each of 12 photos takes 20 ms to read, to predict and to write: 0.72 s in turn."""
    from segbalance.prediction import many_photos as batch_prediction

    read, write = batch_prediction.read_input, batch_prediction.write_outputs

    def slow(function):
        def wrapped(*arguments, **options):
            time.sleep(0.02)
            return function(*arguments, **options)

        return wrapped

    class SlowPredictor(RedPredictor):
        def __call__(self, photos):
            time.sleep(0.02 * len(photos))
            return super().__call__(photos)

    stub(batch_prediction, "read_input", slow(read))
    stub(batch_prediction, "write_outputs", slow(write))
    paths = photos(tmp_path, 12)
    started = time.perf_counter()
    squeezed(SlowPredictor(), paths, tmp_path, batch_size=2, threads=2)
    assert time.perf_counter() - started < 0.55


def test_no_more_is_begun_than_allowed():
    begun, taken = [], 0
    with ThreadPoolExecutor(2) as pool:
        for future in submitted_ahead(pool, begun.append, range(40), 5):
            future.result()
            taken += 1
            time.sleep(0.001)
            assert len(begun) <= taken + 5
    assert sorted(begun) == list(range(40)) and taken == 40


def test_one_is_made_ahead():
    made = []

    def items():
        for number in range(5):
            made.append((number, threading.get_ident()))
            yield number

    for number in one_ahead(items()):
        time.sleep(0.01)
        assert [item for item, _ in made] == list(range(min(number + 2, 5)))
    assert threading.get_ident() not in {thread for _, thread in made}


def test_errors_come_out_of_the_thread():
    def items():
        yield 1
        raise ValueError("two")

    found = one_ahead(items())
    assert next(found) == 1
    with pytest.raises(ValueError, match="^two$"):
        next(found)


class LopsidedPredictor(RedPredictor):
    """Shifts right and down what is red, so that flips matter."""

    def __call__(self, photos):
        red = super().__call__(photos)
        return np.roll(red, (1, 3), (1, 2)) * np.linspace(0.5, 1, photos.shape[2], dtype=np.float32)[:, None]


def test_flips_are_undone_and_averaged():
    predictor, batch = LopsidedPredictor(), np.stack([draw_pair(n, 32, 32)[0] for n in range(3)])
    expected = np.mean(
        [
            predictor(batch),
            predictor(batch[:, :, ::-1].copy())[:, :, ::-1],
            predictor(batch[:, ::-1].copy())[:, ::-1],
            predictor(batch[:, ::-1, ::-1].copy())[:, ::-1, ::-1],
        ],
        axis=0,
    )
    mean = FlippedMean(predictor)
    assert (mean.input_size, mean.working_size) == (32, 0)
    np.testing.assert_allclose(mean(batch), expected, atol=1e-6)
    assert np.abs(expected - predictor(batch)).max() > 0.1
    # The mean treats all mirror images alike.
    np.testing.assert_allclose(mean(batch[:, :, ::-1].copy())[:, :, ::-1], mean(batch), atol=1e-6)


@pytest.mark.parametrize("shrink", [1, 2, 3])
def test_tiles_are_shrunk_and_the_mask_has_the_photos_size(shrink, tmp_path):
    paths = photos(tmp_path, 2, height=101, width=130)
    predictor = RedPredictor()
    options = {"tile": 32, "overlap": 8, "shrink": shrink, "batch_size": 3}
    found = list(predict_tiled(predictor, jobs(paths, tmp_path), OutputChoice(), **options))
    assert {photos.shape[1:] for photos in predictor.asked} == {(32, 32, 3)}
    assert max(len(batch) for batch in predictor.asked) <= 3
    for number, (path, outcome) in enumerate(found):
        true = draw_pair(number, 101, 130)[1] > 0
        mask = mask_of(tmp_path, path) > 0
        assert mask.shape == (101, 130) and outcome[:2] == (130, 101)
        assert (mask == true).all() if shrink == 1 else (mask & true).sum() / (mask | true).sum() > 0.85


def test_leaving_early_leaves_no_half_made_file(tmp_path):
    results = predict_squeezed(
        RedPredictor(),
        jobs(photos(tmp_path, 30), tmp_path),
        OutputChoice(),
        input_size=32,
        batch_size=2,
        threads=2,
    )
    next(results)
    results.close()
    written = [path for path in (tmp_path / "masks").rglob("*") if path.is_file()]
    assert 0 < len(written) < 30 and not any(path.suffix == ".tmp" for path in written)
    assert all(cv2.imread(str(path)) is not None for path in written)
    assert jobs([tmp_path / "0.png"], tmp_path)[0][1] == {MASKS: tmp_path / "masks/0.png"}
