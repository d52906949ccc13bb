"""A run's options in groups, and what does not go together."""

import pytest

from segbalance.errors import InputError
from segbalance.model.architectures import DECODER_FILTERS
from segbalance.train.config import FilledIn, TrainConfig
from segbalance.train.options import NetworkOptions, OptimisationOptions


def test_flat_names_find_their_groups():
    config = TrainConfig.of(image_size=64, batch_size=3, shares={4: 1}, balance="shares", fingerprint="f")
    assert (config.network.image_size, config.optimisation.batch_size) == (64, 3)
    assert config.balancing.shares == {"4": 1} and config.filled_in.fingerprint == "f"
    grouped = TrainConfig(
        network=NetworkOptions(image_size=64), optimisation=OptimisationOptions(batch_size=3)
    )
    assert grouped == TrainConfig.of(image_size=64, batch_size=3)
    assert config.replace(image_size=96).network.image_size == 96 and config.network.image_size == 64


def test_all_options_stand_under_their_flat_names():
    options = TrainConfig().options()
    assert len(options) == 45 and options["decoder_filters"] == list(DECODER_FILTERS)
    assert "fingerprint" not in options and "filled_in" not in options


def test_an_unknown_option_is_a_mistake_of_the_caller():
    with pytest.raises(TypeError, match="TrainConfig has no image_sice"):
        TrainConfig.of(image_sice=64)


def test_what_is_wrong_in_several_groups_is_told_at_once():
    with pytest.raises(InputError) as caught:
        TrainConfig.of(image_size=390, loss="dicy", seed=-1, cache_gb=0)
    starts = [line.split()[0] for line in str(caught.value).split("\n")]
    assert starts[0] == "image_size" and {"cache_gb", "seed"} <= set(starts) and "dicy" in str(caught.value)


def test_what_belongs_to_two_groups_is_checked():
    with pytest.raises(InputError, match="working_size must be at least image_size 384.* got 100"):
        TrainConfig.of(working_size=100)
    with pytest.raises(InputError, match="work only for segmentation"):
        TrainConfig.of(task="classification", architecture="fpn")
    with pytest.raises(InputError, match="work only for segmentation"):
        TrainConfig.of(task="classification", decoder_filters=[16, 8, 8, 4, 4])


def test_what_a_run_fills_in_is_checked():
    with pytest.raises(InputError, match="decay_start must not be negative, got -1"):
        FilledIn(decay_start=-1)
    with pytest.raises(InputError, match="1 colours for 2 classes"):
        TrainConfig.of(classes=["a", "b"], class_colours=["#000000"])
