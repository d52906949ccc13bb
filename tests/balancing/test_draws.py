"""Rows, seeds and orders of the draws: every promise to the last step, all of it without a pixel."""

import itertools

import numpy as np
import pytest

from segbalance.balancing.draws import (
    PLACES_IN_A_BATCH,
    PLACES_IN_A_PASS,
    ROWS,
    SAMPLE_SEEDS,
    Draws,
    DrawStream,
    ExactBatches,
    OversampledPasses,
    random_stream,
)

TUTORIAL = [749, 144, 126, 52, 34]
BATCH, STEPS = 16, 70  # an epoch of the tutorial's data


def stream(order, sizes, *, batch_size=BATCH, steps_per_epoch=STEPS, augment="all", images=None, **draws):
    images = images or [range(size) for size in sizes]
    options = {"batch_size": batch_size, "steps_per_epoch": steps_per_epoch, "augment": augment}
    return DrawStream(order, Draws(sizes, seed=0, **draws), images, **options)


def batches(draw_stream, steps, first_step=0):
    """int64 (steps, B) draws."""
    return np.stack([draws for draws, _ in itertools.islice(draw_stream.steps(first_step), steps)])


def rows(draws, batch):
    """(subset, row) of each draw."""
    return [(s, draws.row(int(s), int(p))) for s, p in zip(*draws.split(batch), strict=True)]


def test_each_pass_is_a_fresh_permutation():
    draws = Draws([7, 3], seed=0)
    passes = np.array([draws.row(0, position) for position in range(7 * 20)]).reshape(20, 7)
    np.testing.assert_array_equal(np.sort(passes), np.tile(np.arange(7), (20, 1)))
    assert len({tuple(order) for order in passes}) > 15


def test_the_first_places_of_the_passes_are_spread_evenly():
    draws = Draws([10], seed=3)
    firsts = np.bincount([draws.row(0, 10 * number) for number in range(2000)], minlength=10)
    sigma = (2000 * 0.1 * 0.9) ** 0.5
    assert np.abs(firsts - 200).max() < 4 * sigma


def test_rows_and_seeds_depend_on_seed_subset_and_position_alone():
    def sequence(seed, subset):
        draws = Draws([50, 50], seed)
        return [(draws.row(subset, p), draws.sample_seed(subset, p)) for p in range(120)]

    backwards = Draws([50, 50], 1)
    late_first = [(backwards.row(0, p), backwards.sample_seed(0, p)) for p in reversed(range(120))]
    assert sequence(1, 0) == late_first[::-1]
    for part in (0, 1):  # the rows and the seeds, each apart
        first, other_seed, other_subset = (
            [draw[part] for draw in sequence(*of)] for of in ((1, 0), (2, 0), (1, 1))
        )
        assert first != other_seed and first != other_subset


def test_no_two_purposes_share_a_stream():
    purposes = (SAMPLE_SEEDS, ROWS, PLACES_IN_A_BATCH, PLACES_IN_A_PASS)
    assert len({int(random_stream(0, 0, 5, purpose).integers(2**62)) for purpose in purposes}) == 4


def test_sample_seeds_do_not_repeat():
    draws = Draws([5, 5], seed=0)
    seeds = [draws.sample_seed(subset, position) for subset in (0, 1) for position in range(5000)]
    assert len(set(seeds)) == len(seeds)
    assert min(seeds) >= 0


def test_split_undoes_the_encoding_of_a_draw():
    draws = Draws([4, 4, 4], seed=0)
    subsets, positions = draws.split(np.array([0, 1, 2, 3, 302]))
    assert subsets.tolist() == [0, 1, 2, 0, 2]
    assert positions.tolist() == [0, 0, 0, 1, 100]
    assert [draws.draw(*place) for place in ((0, 0), (2, 0), (0, 1), (2, 100))] == [0, 2, 3, 302]


@pytest.mark.parametrize("length", [7, 10, 14, 20])
def test_a_long_pass_takes_no_row_more_than_once_oftener_than_another(length):
    draws = Draws([7], seed=0, pass_lengths=[length])
    extras = set()
    for number in range(30):
        counts = np.bincount([draws.row(0, number * length + place) for place in range(length)], minlength=7)
        assert counts.sum() == length
        assert counts.min() == length // 7 and counts.max() == -(-length // 7)
        extras.add(tuple(counts))
    assert len(extras) > 1 or length % 7 == 0, "other rows get the place left over in other passes"


def test_a_long_pass_does_not_end_with_the_start_of_the_next():
    draws = Draws([50], seed=0, pass_lengths=[70])
    for start in range(70, 700, 70):
        end_of_one, start_of_next = range(start - 20, start), range(start, start + 20)
        assert [draws.row(0, p) for p in end_of_one] != [draws.row(0, p) for p in start_of_next]


@pytest.mark.parametrize("lengths", [None, [20, 3]])
def test_repeats_are_those_of_the_rows(lengths):
    draws = Draws([7, 3], seed=0, pass_lengths=lengths)
    for start, stop in [(0, 0), (0, 7), (2, 5), (5, 31), (13, 140), (20, 60)]:
        counted = np.bincount([draws.row(0, position) for position in range(start, stop)], minlength=7)
        np.testing.assert_array_equal(draws.repeats(0, start, stop), counted)


@pytest.mark.parametrize("lengths", [None, [20, 3]])
def test_later_positions_are_the_first_ones_of_the_other_rows(lengths):
    draws = Draws([7, 3], seed=0, pass_lengths=lengths)
    for subset, size in enumerate((7, 3)):
        for position in range(40):
            found = list(draws.later_positions(subset, position))
            rows_after = [draws.row(subset, p) for p in range(position, position + 60)]
            firsts = sorted(rows_after.index(row) for row in set(rows_after))
            assert found == [position + place for place in firsts[1:]] and len(found) == size - 1
    assert list(Draws([1], seed=0).later_positions(0, 5)) == []


def test_exact_batches_have_the_same_number_from_each_subset():
    """All batches of 10 epochs, not one off; 16 places for 5 subsets: 3 each, and one goes round."""
    drawn = batches(stream(ExactBatches([0.2] * 5, seed=0), TUTORIAL), 10 * STEPS)
    counts = np.stack([np.bincount(batch % 5, minlength=5) for batch in drawn])
    assert (counts.sum(1) == 16).all() and counts.min() == 3 and counts.max() == 4
    # The place left over goes round: every 5 batches hold 16 images of each subset.
    np.testing.assert_array_equal(counts.reshape(-1, 5, 5).sum(1), np.full((140, 5), 16))


def test_exact_batches_keep_given_shares():
    shares = np.array([0.4, 0.25, 0.2, 0.15, 0])
    drawn = batches(stream(ExactBatches(shares, seed=0), TUTORIAL), 10 * STEPS)
    counts = np.stack([np.bincount(batch % 5, minlength=5) for batch in drawn])
    # 16 * shares = 6.4, 4, 3.2, 2.4, 0
    assert set(counts[:, 0]) == {6, 7} and set(counts[:, 1]) == {4} and set(counts[:, 2]) == {3, 4}
    assert set(counts[:, 3]) == {2, 3} and set(counts[:, 4]) == {0}
    due = np.arange(1, len(counts) + 1)[:, None] * 16 * shares
    assert np.abs(counts.cumsum(0) - due).max() < 1, "at no step is a subset a whole image off"


@pytest.mark.parametrize("seed", range(20))
def test_exact_batches_of_any_shares_stay_close_to_them(seed):
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.ones(rng.integers(2, 9)))
    batch_size = int(rng.integers(len(shares), 40))
    drawn = batches(stream(ExactBatches(shares, 0), [10] * len(shares), batch_size=batch_size), 500)
    counts = np.stack([np.bincount(batch % len(shares), minlength=len(shares)) for batch in drawn])
    due = batch_size * shares
    assert (counts >= np.floor(due)).all() and (counts <= np.ceil(due)).all()
    assert np.abs(counts.cumsum(0) - np.arange(1, 501)[:, None] * due).max() < 1.5


def test_the_order_inside_exact_batches_is_random():
    drawn = batches(stream(ExactBatches([0.2] * 5, seed=0), TUTORIAL, batch_size=10), 2000) % 5
    # At each place each subset comes with probability 1/5.
    counts = np.stack([np.bincount(place, minlength=5) for place in drawn.T])
    sigma = (2000 * 0.2 * 0.8) ** 0.5
    assert np.abs(counts - 400).max() < 4.5 * sigma and counts.std() > sigma / 2


def test_oversampled_passes_are_exact_to_the_image():
    """100 epochs of 1120 draws are 29.9 passes of 3745: nearly all straddle an epoch's end."""
    lengths = [749] * 5
    draw_stream = stream(OversampledPasses(lengths, seed=0), TUTORIAL, pass_lengths=lengths)
    drawn = batches(draw_stream, 100 * STEPS).ravel()
    whole = drawn[: len(drawn) // 3745 * 3745].reshape(-1, 3745)
    assert len(whole) == 29
    for one_pass in (whole[0], whole[1], whole[14], whole[15], whole[28]):
        assert np.bincount(one_pass % 5).tolist() == lengths
        times = {}
        for place in rows(draw_stream.draws, one_pass):
            times[place] = times.get(place, 0) + 1
        for subset, size in enumerate(TUTORIAL):
            own = [times.get((subset, row), 0) for row in range(size)]
            # 749 = 5 * 144 + 29 = 5 * 126 + 119 = 14 * 52 + 21 = 22 * 34 + 1
            assert min(own) == 749 // size and max(own) == -(-749 // size) and sum(own) == 749
    for one_pass in whole:
        assert np.bincount(one_pass % 5).tolist() == lengths


def test_oversampled_passes_are_shuffled_anew():
    passes = batches(stream(OversampledPasses([30, 10], 0), [30, 10], batch_size=40), 50) % 2
    assert len({tuple(order) for order in passes}) == 50
    sigma = (50 * 0.25 * 0.75) ** 0.5
    assert np.abs(passes.sum(0) - 12.5).max() < 4.5 * sigma, "no place is the smaller subset's own"


@pytest.mark.parametrize("order", [ExactBatches([0.5, 0.3, 0.2], 0), OversampledPasses([9, 9, 20], 0)])
def test_no_draw_is_lost_or_repeated_across_epochs_and_passes(order):
    drawn = batches(stream(order, [9, 3, 20], batch_size=7, steps_per_epoch=5), 60).ravel()
    for subset in range(3):
        positions = drawn[drawn % 3 == subset] // 3
        assert len(positions) > 20
        np.testing.assert_array_equal(positions, np.arange(len(positions)))


@pytest.mark.parametrize("order", [ExactBatches([0.5, 0.3, 0.2], 7), OversampledPasses([9, 9, 20], 7)])
@pytest.mark.parametrize("augment", ["all", "copies"])
def test_a_late_step_is_found_without_its_forerunners(order, augment):
    def steps(first, count):
        own = stream(order, [9, 3, 20], batch_size=7, steps_per_epoch=5, augment=augment)
        return list(itertools.islice(own.steps(first), count))

    whole, late = steps(0, 22)[13:], steps(13, 9)
    for (draws, plain), (late_draws, late_plain) in zip(whole, late, strict=True):
        np.testing.assert_array_equal(draws, late_draws)
        np.testing.assert_array_equal(plain, late_plain)


@pytest.mark.parametrize("kind", [ExactBatches, OversampledPasses])
def test_orders_depend_on_the_seed(kind):
    def drawn(seed):
        return batches(stream(kind([5, 5] if kind is OversampledPasses else [0.5, 0.5], seed), [5, 5]), 3)

    np.testing.assert_array_equal(drawn(1), drawn(1))
    assert (drawn(1) != drawn(2)).any()


def test_known_positions_spare_the_earlier_epochs(stub):
    order = ExactBatches([0.5, 0.5], 0)
    first = stream(order, [4, 4], batch_size=4, steps_per_epoch=5)
    expected = batches(first, 30)[22:]
    visited, epoch_batches = [], order.epoch_batches

    def watched(epoch, positions, **options):
        visited.append(epoch)
        return epoch_batches(epoch, positions, **options)

    stub(order, "epoch_batches", watched)
    np.testing.assert_array_equal(batches(first, 8, first_step=22), expected)
    assert visited == [4, 5]


def test_only_the_first_draw_of_an_image_in_an_epoch_is_plain():
    lengths = [12, 12]
    order = OversampledPasses(lengths, 0)
    own = stream(order, [12, 5], batch_size=6, steps_per_epoch=6, augment="copies", pass_lengths=lengths)
    kinds = set()
    steps = list(itertools.islice(own.steps(), 6 * 10))
    for epoch in range(10):
        seen = set()
        for draws, plain in steps[6 * epoch : 6 * epoch + 6]:
            for place, is_plain in zip(rows(own.draws, draws), plain, strict=True):
                assert is_plain == (place not in seen)
                seen.add(place)
                kinds.add(bool(is_plain))
    assert kinds == {True, False}


def test_rows_that_repeat_an_image_count_as_that_image():
    own = stream(
        ExactBatches([1.0], 0), [4], batch_size=4, steps_per_epoch=1, augment="copies", images=[list("aaab")]
    )
    (_, plain), *_ = itertools.islice(own.steps(), 2)
    assert plain.sum() == 2, "of three rows with the same image one is its first draw"
    assert own.repeats(0)[0].tolist() == [3, 1]


def test_without_copies_every_draw_is_augmented():
    assert not any(
        plain.any() for _, plain in itertools.islice(stream(ExactBatches([1.0], 0), [4]).steps(), 99)
    )


def test_images_are_looked_at_only_where_they_matter():
    class Unread(list):
        def __iter__(self):
            raise AssertionError("read")

    def own(augment):
        images = [Unread("abcd")]
        return stream(
            ExactBatches([1.0], 0), [4], batch_size=4, steps_per_epoch=2, augment=augment, images=images
        )

    assert len(list(itertools.islice(own("all").steps(), 9))) == 9
    with pytest.raises(AssertionError, match="read"):
        next(own("copies").steps())
