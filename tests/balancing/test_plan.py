"""What the options of balancing amount to, for the tutorial's sizes and by hand."""

import numpy as np
import pytest

from segbalance.balancing.plan import balance_plan, finite_recipe, format_plan, subset_weights
from segbalance.errors import InputError
from segbalance.train.config import TrainConfig
from segbalance.train.options import BalanceOptions

TUTORIAL = {"0": 749, "1": 144, "2": 126, "3": 52, "4": 34}
SIZES = np.array([749, 144, 126, 52, 34])


def plan(balance="uniform", sizes=TUTORIAL, batch_size=16, **options):
    return balance_plan(sizes, BalanceOptions(balance, **options), batch_size)


def test_uniform_and_exact_give_every_subset_the_same():
    np.testing.assert_allclose(plan("uniform").shares, [0.2] * 5)
    np.testing.assert_allclose(plan("exact").shares, [0.2] * 5)


def test_none_and_loss_share_by_size():
    # 749 + 144 + 126 + 52 + 34 = 1105
    np.testing.assert_allclose(plan("none").shares, SIZES / 1105)
    np.testing.assert_allclose(plan("loss").shares, SIZES / 1105)


def test_power_lies_between_them():
    np.testing.assert_allclose(plan("power", balance_alpha=0).shares, plan("uniform").shares)
    np.testing.assert_allclose(plan("power", balance_alpha=1).shares, plan("none").shares)
    # The square roots of 900 and 100 are 30 and 10.
    sizes = {"a": 900, "b": 100}
    np.testing.assert_allclose(plan("power", sizes).shares, [0.75, 0.25])
    # 1000 ** (1/3) = 10 and 8 ** (1/3) = 2
    np.testing.assert_allclose(
        plan("power", {"a": 1000, "b": 8}, balance_alpha=1 / 3).shares, [10 / 12, 2 / 12]
    )


def test_shares_are_normalised_and_take_a_default():
    # 0.4 + 4 * 1 = 4.4
    np.testing.assert_allclose(
        plan("shares", shares={"0": 0.4, "default": 1}).shares, [0.4 / 4.4] + [1 / 4.4] * 4
    )
    given = {"0": 3, "1": 1, "default": 0}
    for balance in ("shares", "exact"):
        np.testing.assert_allclose(plan(balance, shares=given).shares, [0.75, 0.25, 0, 0, 0])
    assert "a share of 0 leaves out subset 2, 3, 4" in list(plan("shares", shares=given).notes(100))


OVERSAMPLED = [
    ({}, [749] * 5),
    ({"oversample_only": ["3", "4"]}, [749, 144, 126, 749, 749]),
    ({"oversample_below": 126}, [749, 144, 126, 749, 749]),
    ({"oversample_below": 127}, [749, 144, 749, 749, 749]),
    ({"oversample_only": ["1"], "oversample_below": 40}, [749, 749, 126, 52, 749]),
    ({"copies": {"4": 3}}, [749, 144, 126, 52, 102]),
    ({"copies": {"4": 2.5, "default": 2}}, [1498, 288, 252, 104, 85]),
    ({"copies": {"4": 3}, "oversample_only": ["3"]}, [749, 144, 126, 749, 102]),
    ({"copies": {"default": 2}, "oversample_only": ["3"]}, [1498, 288, 252, 749, 68]),
    ({"copies": {"default": 2}, "oversample_below": 50}, [1498, 288, 252, 104, 749]),
    ({"oversample_limit": 4}, [749, 576, 504, 208, 136]),
    ({"copies": {"4": 9}, "oversample_limit": 4}, [749, 144, 126, 52, 136]),
]


@pytest.mark.parametrize(("options", "lengths"), OVERSAMPLED)
def test_passes_of_oversample(options, lengths):
    own = plan("oversample", **options)
    assert own.pass_lengths.tolist() == lengths
    np.testing.assert_allclose(own.shares, np.array(lengths) / sum(lengths))


def test_the_length_of_a_pass_is_said():
    # 5 * 749 = 3745 draws; 3745 / 1120 = 3.34
    assert "one pass of oversample is 3745 draws, 3.34 epochs" in list(plan("oversample").notes(1120))


def test_subset_weights_by_hand():
    # compute_class_weight: images / (subsets * images of the subset): 120 / (2 * 100) = 0.6 and
    # 120 / (2 * 20) = 3. By size drawn, the mean is 100/120 * 0.6 + 20/120 * 3 = 1 already.
    np.testing.assert_allclose(subset_weights(np.array([100, 20]), np.array([100, 20]) / 120), [0.6, 3])
    # Drawn evenly the mean is (0.6 + 3) / 2 = 1.8.
    np.testing.assert_allclose(subset_weights(np.array([100, 20]), np.array([0.5, 0.5])), [1 / 3, 5 / 3])
    # A subset left out takes no part: 100 / (1 * 100) = 1.
    np.testing.assert_allclose(subset_weights(np.array([100, 20]), np.array([1.0, 0])), [1, 0])


@pytest.mark.parametrize("balance", ["uniform", "none", "power", "oversample", "exact", "loss"])
def test_loss_weights_have_mean_one_over_the_images_as_drawn(balance):
    own = plan(balance, loss_weights="subset")
    assert own.shares @ own.loss_weights == pytest.approx(1)
    np.testing.assert_allclose(own.loss_weights * SIZES, own.loss_weights[0] * 749)
    assert (plan("uniform").loss_weights == 1).all()


@pytest.mark.parametrize(("balance", "weights"), [("loss", "subset"), ("pixel", "pixel")])
def test_what_is_short_for_none_with_weights(balance, weights):
    short, long = plan(balance), plan("none", loss_weights=weights)
    np.testing.assert_array_equal(short.shares, long.shares)
    np.testing.assert_array_equal(short.loss_weights, long.loss_weights)
    assert (short.weighting, long.weighting) == (weights, weights)


def test_the_table_by_hand():
    table = plan("uniform").table(1120).set_index("subset")
    # 1120 / 5 = 224 draws; 224 / 34 = 6.588 repeats; a plain shuffle repeats each image 1120 / 1105 times.
    assert table.loc["4", "draws_per_epoch"] == pytest.approx(224)
    assert table.loc["4", "repeats_per_image"] == pytest.approx(224 / 34)
    assert table.loc["4", "effective_weight"] == pytest.approx(1105 / (5 * 34))
    np.testing.assert_allclose(plan("none").table(1120)["effective_weight"], 1)
    # By size with inverse weights, an image counts as much as under uniform draws.
    np.testing.assert_allclose(plan("loss").table(1120)["effective_weight"], table["effective_weight"])
    text = format_plan(plan("uniform").table(1120))
    assert "draws per epoch" in text and "20.0%" in text and "6.59" in text


def test_sampler_and_weights_that_pull_the_same_way_are_warned_about():
    # Images of 4 are drawn 749/34 = 22.03 times as often as those of 0, and count 22.03 times: 485.3.
    (warning,) = plan("uniform", loss_weights="subset").notes(1120)
    assert warning.startswith(
        "warning: balance uniform draws an image of subset 4 22.0 times as often as one"
    )
    assert (
        "of subset 0, and loss_weights subset counts it 22.0 times as much: 485.3 times together" in warning
    )
    assert "leave --loss_weights out, or take --balance loss" in warning
    assert len(list(plan("exact", loss_weights="subset").notes(1120))) == 1


def test_a_slight_pull_is_warned_about_too():
    # Images of b are drawn 100/90 = 1.11 times as often as those of a, and count 1.11 times: 1.23.
    (warning,) = plan("uniform", {"a": 100, "b": 90}, loss_weights="subset").notes(100)
    assert "1.1 times as often" in warning and "1.2 times together" in warning
    # 100/98 = 1.02 is not worth a word.
    assert list(plan("uniform", {"a": 100, "b": 98}, loss_weights="subset").notes(100)) == []


@pytest.mark.parametrize(
    "options",
    [
        {"balance": "uniform"},
        {"balance": "none", "loss_weights": "subset"},
        {"balance": "loss"},
        # Large subsets drawn oftener still: the weights pull against it.
        {"balance": "shares", "shares": dict(zip("01234", (9.3, 0.4, 0.3, 0.05, 0.02), strict=True)),
         "loss_weights": "subset"},
        {"balance": "uniform", "sizes": {"a": 5, "b": 5}, "loss_weights": "subset"},
    ],
)  # fmt: skip
def test_no_warning_where_nothing_multiplies(options):
    assert list(plan(**options).notes(1120)) == []


def test_pixel_weights_are_announced():
    assert "cover" in "".join(plan(loss_weights="pixel").notes(1120))


def test_subsets_that_copies_seldom_augment_are_named():
    # 1120 draws: 224/749 = 0.3 draws of an image of 0, 224/144 = 1.6 of 1.
    (note,) = plan(augment="copies").notes(1120)
    assert note.startswith("augment copies: images of subset 0 are seldom drawn twice in an epoch")
    shares = {"0": 0, "default": 1}
    notes = " ".join(plan("shares", shares=shares, augment="copies").notes(1120))
    assert "augment copies" not in notes, "a subset left out is not drawn at all"


@pytest.mark.parametrize("balance", ["uniform", "none", "power", "oversample", "exact", "loss"])
def test_a_single_subset_is_allowed_and_has_nothing_to_balance(balance):
    own = plan(balance, {"a": 7})
    assert own.shares.tolist() == [1] and own.loss_weights.tolist() == [1]
    assert "only subset a is drawn: balancing has nothing to do" in list(own.notes(10))


WRONG = [
    ({"balance": "shares", "shares": {"0": 0, "default": 0}}, "shares must have a sum greater than 0"),
    ({"balance": "shares", "shares": {}}, "shares must have a sum greater than 0"),
    ({"balance": "shares", "shares": {"0": -1, "default": 1}}, "of 0 must be a number from 0 up, got -1"),
    ({"balance": "shares", "shares": {"0": float("nan"), "default": 1}}, "from 0 up, got nan"),
    ({"balance": "shares", "shares": {"0": float("inf"), "default": 1}}, "from 0 up, got inf"),
    ({"balance": "shares"}, "balance shares needs the shares, as in --shares"),
    ({"shares": {"0": 1}}, "shares works only with balance shares or exact, got balance uniform"),
    ({"copies": {"0": 2}}, "copies works only with balance oversample, got balance uniform"),
    ({"balance": "none", "balance_alpha": 0.5}, "balance_alpha works only with balance power"),
    ({"oversample_only": ["4"]}, "oversample_only works only with balance oversample"),
    ({"oversample_below": 5}, "oversample_below works only with balance oversample"),
    ({"oversample_limit": 5}, "oversample_limit works only with balance oversample"),
    ({"balance": "power", "balance_alpha": 1.5}, "balance_alpha must be from 0 (uniform) to 1 (none), got"),
    ({"balance": "power", "balance_alpha": float("nan")}, "balance_alpha must be from 0"),
    ({"balance": "oversample", "copies": {"4": 0.5}}, "the factor of 4 must be at least 1"),
    ({"balance": "oversample", "copies": {"4": float("inf")}}, "the factor of 4 must be at least 1"),
    ({"balance": "oversample", "copies": {"3": float("nan")}}, "the factor of 3 must be at least 1"),
    ({"balance": "oversample", "oversample_limit": 0}, "oversample_limit must be at least 1, got 0"),
    ({"balance": "oversample", "oversample_below": 0}, "oversample_below must be at least 1, got 0"),
    ({"balance": "loss", "loss_weights": "pixel"}, "loss is short for balance none with loss_weights subset"),
    (
        {"balance": "pixel", "loss_weights": "subset"},
        "pixel is short for balance none with loss_weights pixel, got",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), WRONG, ids=[message for _, message in WRONG])
def test_wrong_options_are_refused_whatever_the_data(options, message):
    with pytest.raises(InputError) as error:
        TrainConfig.of(**options)
    assert message in str(error.value)


UNFIT = [
    ({"balance": "shares", "shares": {"z": 1, "default": 1}}, "shares names unknown subsets z; known: 0, 1"),
    ({"balance": "shares", "shares": {"0": 1, "1": 2}}, "nothing about subset 2, 3, 4; name every subset"),
    ({"balance": "oversample", "copies": {"z": 2}}, "copies names unknown subsets z; known: 0, 1, 2"),
    ({"balance": "oversample", "oversample_only": ["z"]}, "only names unknown subsets z; known: 0, 1"),
    ({"balance": "exact", "batch_size": 4}, "one image of each of the 5 subsets, got batch_size 4"),
    ({"sizes": {"a": 3, "b": 0}}, "subset b has no images; expected at least one, or delete its trainb.csv"),
    ({"sizes": {}}, "there is no subset; expected at least one with images"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), UNFIT, ids=[message for _, message in UNFIT])
def test_options_that_do_not_fit_the_subsets_are_refused(options, message):
    with pytest.raises(InputError) as error:
        plan(**options)
    assert message in str(error.value)


def test_everything_wrong_is_said_at_once():
    with pytest.raises(InputError) as error:
        plan("oversample", {"a": 0, "b": 2}, copies={"y": 2}, oversample_only=["z"])
    assert all(
        text in str(error.value) for text in ("subset a has no", "unknown subsets y", "unknown subsets z")
    )


def test_exact_counts_only_the_subsets_that_are_drawn():
    shares = {"0": 1, "1": 1, "default": 0}
    assert plan("exact", batch_size=2, shares=shares).shares.tolist() == [0.5, 0.5, 0, 0, 0]


def test_the_finite_recipe_runs_dry_by_hand():
    rows = finite_recipe({"a": 70, "b": 20, "c": 10}, epochs=10)
    # 1000 draws. c has 100, a third of the draws: dry after 300. b then has 100 left, half the draws: dry
    # after 200 more. a takes the last 500.
    assert [row["epoch"] for row in rows] == pytest.approx([0, 3, 5])
    assert [row["dry"] for row in rows] == [[], ["c"], ["b"]]
    assert rows[1]["shares"] == {"a": 0.5, "b": 0.5, "c": 0}
    assert rows[2]["shares"] == {"a": 1, "b": 0, "c": 0}


def test_loaders_of_the_same_size_run_dry_together():
    rows = finite_recipe({"a": 5, "b": 2, "c": 2}, epochs=4)
    assert [row["dry"] for row in rows] == [[], ["b", "c"]]
    assert len(finite_recipe({"a": 5, "b": 5}, epochs=4)) == 1


def test_the_finite_recipe_is_what_tensorflow_does():
    from segbalance.legacy_keras import tf

    epochs, sizes = 20, [70, 20, 10]
    loaders = [tf.data.Dataset.from_tensors(k).repeat(size * epochs) for k, size in enumerate(sizes)]
    mixed = tf.data.Dataset.sample_from_datasets(loaders, [1 / 3] * 3, seed=1)
    drawn = np.array(list(mixed.as_numpy_iterator()))
    last = [(np.nonzero(drawn == k)[0].max() + 1) / sum(sizes) for k in range(3)]
    expected = [row["epoch"] for row in finite_recipe(dict(zip("abc", sizes, strict=True)), epochs)]
    # c ends when 200 of draws with p = 1/3 are through: sigma is sqrt(200 * 2/3) / (1/3) = 35 draws of 100.
    assert last[2] == pytest.approx(expected[1], abs=4 * 0.35)
    assert last[1] == pytest.approx(expected[2], abs=4 * 0.35)
    assert expected[1] < 0.4 * epochs, "long before the run is over"
