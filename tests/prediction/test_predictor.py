"""A run's network as a predictor."""

import cv2
import numpy as np
import pytest

from segbalance.dataloader.working_size import shrink_photo
from segbalance.errors import InputError
from segbalance.prediction.many_photos import FlippedMean
from segbalance.prediction.predictor import RunPredictor, load_network, predict_mask
from segbalance.prediction.row_bands import stretched_bands
from tests.support.data import draw_pair


@pytest.fixture(scope="module")
def predictor(finished):
    return RunPredictor(finished)


def test_it_answers_as_the_network_does_whatever_the_batch(predictor, finished):
    batch = np.stack([draw_pair(number, 32, 32)[0] for number in range(5)])
    expected = load_network(finished).predict(batch, verbose=0)
    assert (predictor.input_size, predictor.working_size) == (32, 64)
    for some in (batch, batch[:1], batch[2:4]):
        found = predictor(some)
        assert found.dtype == np.float32 and found.shape == (len(some), 32, 32, 1)
    np.testing.assert_allclose(predictor(batch), expected, atol=1e-5)
    assert predictor._predict.experimental_get_tracing_count() == 1


def test_a_photo_in_bands_gets_the_mask_of_the_photo_as_a_whole(predictor, finished):
    network = load_network(finished)
    photo = draw_pair(1, 90, 120)[0]
    expected = predict_mask(network, photo, predictor.working_size)
    small = cv2.resize(shrink_photo(photo, (64, 48)), (32, 32), interpolation=cv2.INTER_LINEAR)
    probability = predictor(small[None])[0, ..., 0]
    found = np.concatenate(list(stretched_bands([probability], (120, 90), 32 / 90, 120)))
    # Where the network is undecided by less than its own rounding, either may be.
    sure = np.abs(found - 0.5) > 1e-4
    np.testing.assert_array_equal((found > 0.5)[sure], expected[sure])
    assert sure.mean() > 0.9


def test_flips_change_a_real_answer(predictor):
    batch = np.stack([draw_pair(number, 32, 32)[0] for number in range(2)])
    mean = FlippedMean(predictor)(batch)
    assert mean.dtype == np.float32 and 1e-6 < np.abs(mean - predictor(batch)).max()
    np.testing.assert_allclose(FlippedMean(predictor)(batch[:, ::-1])[:, ::-1], mean, atol=1e-5)


def test_a_folder_without_a_run_is_wrong_input(tmp_path):
    with pytest.raises(InputError, match="has no config.yaml; expected the folder of a run"):
        RunPredictor(tmp_path)
