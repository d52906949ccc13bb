"""Scores against scikit-learn and plain loops over pixels; intervals against simulated data."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics

from segbalance.evaluation import scores as evaluation
from segbalance.evaluation.scores import (
    COUNTS,
    MEANS,
    POOLED,
    THRESHOLDS,
    boundary_iou,
    evaluate,
    intervals,
    summary,
)

SKLEARN = {
    "iou": sklearn.metrics.jaccard_score,
    "f1": sklearn.metrics.f1_score,
    "precision": sklearn.metrics.precision_score,
    "recall": sklearn.metrics.recall_score,
}


def drawn_images(sizes, seed=0, side=12):
    """Masks bool and probabilities float32 (N, side, side) of blobs that the probabilities show roughly."""
    rng = np.random.default_rng(seed)
    count = sum(sizes.values())
    rows, columns = np.indices((side, side))
    centres = rng.uniform(2, side - 2, (2, count, 1, 1))
    distance = np.hypot(rows - centres[0], columns - centres[1])
    masks = distance < rng.uniform(2, 4, (count, 1, 1))
    noise = rng.normal(0, 1.5, (count, side, side))
    return masks, (1 / (1 + np.exp(distance - 3 + noise))).astype(np.float32)


def evaluated(sizes, masks, probabilities, batch_size=4, **options):
    """Evaluation of images in the order of `sizes` ({subset: images}), handed over in batches."""
    names = [f"{subset}/{number}.png" for subset, count in sizes.items() for number in range(count)]
    starts = np.cumsum([0, *sizes.values()])
    tables = {
        subset: pd.DataFrame({"images": names[start : start + count], "masks": names[start : start + count]})
        for (subset, count), start in zip(sizes.items(), starts, strict=False)
    }
    subsets = np.repeat(np.arange(len(sizes)), list(sizes.values()))
    numbers = np.arange(len(masks))

    def batches():
        for start in range(0, len(masks), batch_size):
            some = slice(start, start + batch_size)
            photos = np.broadcast_to(
                numbers[some, None, None, None].astype(np.uint8), (*masks[some].shape, 3)
            )
            yield photos, masks[some, ..., None].astype(np.uint8), subsets[some]

    def predict(photos):
        return probabilities[photos[:, 0, 0, 0], ..., None]

    return evaluate(predict, batches(), tables, **options)


SIZES = {"a": 9, "b": 5, "c": 7}


@pytest.fixture(scope="module")
def images():
    return drawn_images(SIZES)


@pytest.mark.parametrize("threshold", [0.5, 0.31])
def test_all_scores_equal_scikit_learn(images, threshold):
    masks, probabilities = images
    found = probabilities > np.float32(threshold)
    result = evaluated(SIZES, masks, probabilities, threshold=threshold)
    report, starts = result.report(), {"a": (0, 9), "b": (9, 14), "c": (14, 21)}
    parts = {name: slice(*ends) for name, ends in starts.items()}
    rows = {row["subset"]: row for row in report["subsets"]} | {None: report["all"]}
    assert report["threshold"] == threshold and [row["images"] for row in rows.values()].count(21) == 1
    for name, score in SKLEARN.items():
        for subset, row in rows.items():
            part = parts.get(subset, slice(None))
            assert row[name] == pytest.approx(score(masks[part].ravel(), found[part].ravel()), abs=1e-9)
        own = [score(mask.ravel(), one.ravel()) for mask, one in zip(masks, found, strict=True)]
        np.testing.assert_allclose(result.images[name], own, atol=1e-9)
    assert report["all"]["image_iou"] == pytest.approx(result.images["iou"].mean())
    assert len({round(row["iou"], 6) for row in rows.values()}) == 4, "the subsets cannot be told apart"


def test_the_curve_equals_a_loop_over_pixels_and_scikit_learn(images):
    masks, probabilities = images
    curve = evaluated(SIZES, masks, probabilities).curve()
    assert [row["threshold"] for row in curve] == pytest.approx(np.arange(1, 100) / 100)
    precision, recall, levels = sklearn.metrics.precision_recall_curve(masks.ravel(), probabilities.ravel())
    for row in curve:
        found = probabilities > np.float32(row["threshold"])
        for name, score in SKLEARN.items():
            assert row[name] == pytest.approx(
                score(masks.ravel(), found.ravel(), zero_division=0.0), abs=1e-6
            )
        place = np.searchsorted(levels, np.float32(row["threshold"]), side="right")  # theirs is «at least»
        if place < len(levels):
            assert row["precision"] == pytest.approx(precision[place], abs=1e-6)
            assert row["recall"] == pytest.approx(recall[place], abs=1e-6)
    assert len({row["iou"] for row in curve}) > 50


def test_a_probability_equal_to_the_threshold_is_background():
    probability = np.array([[0.5, np.nextafter(np.float32(0.5), np.float32(1))]], np.float32)
    counts = evaluation.threshold_counts(np.ones((1, 2), bool), probability)
    # At 0.49 both are found, at 0.50 the second alone, at 0.51 none.
    np.testing.assert_array_equal(counts[[48, 49, 50]], [[2, 0, 0], [1, 0, 1], [0, 0, 2]])


def test_the_usual_threshold_is_on_the_curve(images):
    result = evaluated(SIZES, *images)
    np.testing.assert_array_equal(result.counts[49], result.images[COUNTS].sum())
    assert THRESHOLDS[49] == 0.5


def brute_boundary_iou(mask, found):
    """Boundary IoU by the definition: pixels of a mask that lie within the width of a pixel outside of it."""
    height, width = mask.shape
    reach = max(1, round(0.02 * math.hypot(height, width)))

    def band(part):
        padded = np.pad(part, reach)
        near = np.zeros_like(part)
        for row in range(height):
            for column in range(width):
                window = padded[row : row + 2 * reach + 1, column : column + 2 * reach + 1]
                near[row, column] = part[row, column] and not window.all()
        return near

    one, other = band(mask), band(found)
    return (one & other).sum() / (one | other).sum() if (one | other).any() else 1.0


@pytest.mark.parametrize("side", [20, 90, 160])  # bands of 1, 3 and 5 pixels
def test_boundary_iou_equals_its_definition(side):
    for seed in range(4):
        masks, probabilities = drawn_images({"a": 2}, seed, side=12)
        grow = np.ones((math.ceil(side / 12),) * 2, bool)
        mask = np.kron(masks[0], grow)[:side, :side]
        found = np.kron(probabilities[0] > 0.5, grow)[:side, :side]
        own = boundary_iou(mask, found)
        assert own == pytest.approx(brute_boundary_iou(mask, found), abs=1e-12) and own < 1
    touching = np.zeros((side, side), bool)
    touching[:, : side // 2] = True
    smaller = touching.copy()
    smaller[:3] = False
    assert boundary_iou(touching, smaller) == pytest.approx(brute_boundary_iou(touching, smaller), abs=1e-12)


def test_boundary_iou_by_hand():
    # 20x20: a band of one pixel. Squares of 10 and 8 pixels, one inside of the other, have bands of 36 and 28
    # pixels that do not meet; the same square moved by one pixel shares 2 * 9 of 36 with itself.
    large, small, moved = np.zeros((3, 20, 20), bool)
    large[5:15, 5:15] = small[6:14, 6:14] = moved[5:15, 6:16] = True
    assert boundary_iou(large, small) == 0 and boundary_iou(large, large) == 1
    assert boundary_iou(large, moved) == pytest.approx(18 / (36 + 36 - 18))


def test_empty_masks():
    empty, full = np.zeros((4, 8, 8), bool), np.ones((4, 8, 8), np.float32)
    right = evaluated({"a": 4}, empty, 0 * full).report()
    assert {right["all"][name] for name in [*POOLED, *MEANS]} == {1.0}
    assert right["best_threshold"]["threshold"] == 0.5, "where all are as good, the usual one"
    assert (right["all"]["iou_low"], right["all"]["iou_high"]) == (1, 1)
    wrong = evaluated({"a": 4}, empty, 0.9 * full).report()
    assert {wrong["all"][name] for name in [*POOLED, *MEANS]} == {0.0}
    assert wrong["best_threshold"]["threshold"] == 0.9 and wrong["best_threshold"]["iou"] == 1
    missed = evaluated({"a": 4}, ~empty, 0 * full).report()
    assert {missed["all"][name] for name in [*POOLED, *MEANS]} == {0.0}


def test_one_image_has_scores_and_no_interval(images):
    masks, probabilities = images
    report = evaluated({"a": 1}, masks[:1], probabilities[:1]).report()
    assert 0 < report["all"]["iou"] < 1
    assert report["all"]["iou_low"] is None and report["all"]["boundary_iou_high"] is None
    assert [len(report["examples"]["a"][kind]) for kind in ("worst", "median", "best")] == [1, 0, 0]


def test_a_subset_without_images_has_no_scores_and_comes_last(images):
    masks, probabilities = images
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = evaluated({"none": 0, "a": 21}, masks, probabilities).report()
    assert [row["subset"] for row in report["subsets"]] == ["a", "none"]
    last = report["subsets"][-1]
    assert last["images"] == 0 and {
        value for key, value in last.items() if key not in ("subset", "images")
    } == {None}
    assert report["examples"]["none"] == {"worst": [], "median": [], "best": []}
    assert summary(pd.DataFrame(columns=[*COUNTS, *MEANS.values()]))["iou"] is None


def test_the_weakest_subset_and_the_worst_images_come_first(images, monkeypatch):
    monkeypatch.setattr(evaluation, "WORST", 5)
    result = evaluated(SIZES, *images)
    report = result.report()
    scores = [row["iou"] for row in report["subsets"]]
    assert scores == sorted(scores) and len(set(scores)) == 3
    worst = [row["iou"] for row in report["worst"]]
    assert worst == sorted(result.images["iou"])[:5]
    for subset, count in SIZES.items():
        own = np.sort(result.images.loc[result.images["subset"] == subset, "iou"])
        kinds, some = report["examples"][subset], count // 3
        assert [row["iou"] for row in kinds["worst"]] == own[:some].tolist()
        assert [row["iou"] for row in kinds["best"]] == own[::-1][:some].tolist()
        middle = (count - some) // 2
        assert [row["iou"] for row in kinds["median"]] == own[middle : middle + some].tolist()
        names = [row["images"] for rows in kinds.values() for row in rows]
        assert len(names) == len(set(names)) == 3 * some


def test_the_best_threshold_is_that_of_the_highest_iou(images):
    masks, probabilities = images
    best = evaluated(SIZES, masks, probabilities).report()["best_threshold"]
    scores = [
        sklearn.metrics.jaccard_score(masks.ravel(), (probabilities > np.float32(value)).ravel())
        for value in THRESHOLDS
    ]
    assert best["iou"] == pytest.approx(max(scores)) and best["threshold"] != 0.5
    assert scores[THRESHOLDS.tolist().index(best["threshold"])] == pytest.approx(max(scores))


def simulated(rng, count):
    """Counts (count, 3) and figures (count, 2) of images whose expected counts are 60, 10 and 15."""
    size = rng.gamma(4, 0.25, count)
    counts = rng.poisson(np.array([60, 10, 15]) * size[:, None])
    return counts, np.column_stack([rng.beta(8, 4, count), rng.beta(6, 4, count)])


def test_intervals_hold_the_truth_about_as_often_as_they_say(monkeypatch):
    monkeypatch.setattr(evaluation, "RESAMPLES", 300)
    rng, trials = np.random.default_rng(1), 300
    # Of the sums: 60 / 85, 120 / 145, 60 / 70, 60 / 75; of the means: 8 / 12 and 6 / 10.
    truth = np.array([60 / 85, 120 / 145, 60 / 70, 60 / 75, 8 / 12, 6 / 10])
    inside = np.zeros(6)
    for _ in range(trials):
        low, high = intervals(*simulated(rng, 40)).T
        inside += (low <= truth) & (truth <= high)
    # 0.95 less what the percentile method loses at 40 images, and four standard deviations of 300 trials.
    assert (inside / trials > 0.93 - 4 * (0.93 * 0.07 / trials) ** 0.5).all()
    assert (inside / trials < 0.99).all()


def test_intervals_are_repeatable_and_do_not_depend_on_how_many_are_drawn_at_once(monkeypatch):
    counts, figures = simulated(np.random.default_rng(2), 30)
    first = intervals(counts, figures)
    np.testing.assert_array_equal(intervals(counts, figures), first)
    monkeypatch.setattr(evaluation, "RESAMPLED_AT_ONCE", 700)
    np.testing.assert_array_equal(intervals(counts, figures), first)
    assert (first[:, 0] < first[:, 1]).all()


def test_intervals_equal_a_plain_bootstrap(monkeypatch):
    """Images drawn with replacement by a loop, as often; the bounds agree up to the luck of the draw."""
    counts, figures = simulated(np.random.default_rng(3), 50)
    rng, scores = np.random.default_rng(4), []
    for _ in range(2000):
        drawn = rng.integers(0, 50, 50)
        true, false, missed = counts[drawn].sum(axis=0)
        scores.append([true / (true + false + missed), figures[drawn, 1].mean()])
    expected = np.quantile(scores, [0.025, 0.975], axis=0).T
    np.testing.assert_allclose(intervals(counts, figures)[[0, 5]], expected, atol=0.004)


def one_wrong_pixel(images=190):
    """Sizes, masks, probabilities: `bad` has foreground in 4 images, one of `good` has one wrong pixel."""
    masks = np.zeros((4 + images, 12, 12), bool)
    masks[:4, 3:6, 3:6] = True
    probabilities = np.where(masks, 0.9, 0.1).astype(np.float32)
    probabilities[0, 3, 3] = 0.2  # and one is missed
    probabilities[4 + images // 2, 5, 7] = 0.6
    return {"good": images, "bad": 4}, np.roll(masks, -4, axis=0), np.roll(probabilities, -4, axis=0)


def test_a_subset_without_foreground_is_scored_by_its_false_alarms():
    result = evaluated(*one_wrong_pixel())
    report = result.report()
    bad, good = report["subsets"]
    assert bad["subset"] == "bad" and bad["iou"] == pytest.approx(35 / 36) and "clean_images" not in bad
    assert good["images"] == 190
    assert {good[f"{name}{end}"] for name in (*POOLED, *MEANS) for end in ("", "_low", "_high")} == {None}
    assert good["clean_images"] == 189 / 190 and good["false_pixels"] == 1 / (190 * 144)
    # Wilson 1927, with the normal distribution's 0.975 quantile.
    z, n, p = 1.959963984540054, 190, 189 / 190
    middle, half = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    for name, sign in (("clean_images_low", -1), ("clean_images_high", 1)):
        assert good[name] == pytest.approx((middle + sign * half) / (1 + z**2 / n))
    # How often the one image is drawn is nearly Poisson of mean 1, of which 1.9 % are above 3.
    assert good["false_pixels_low"] == 0 and round(good["false_pixels_high"] * 190 * 144, 6) in (3, 4)
    assert report["examples"]["good"]["worst"][0]["false_positives"] == 1


def test_what_false_alarms_cost_all_is_told():
    report = evaluated(*one_wrong_pixel()).report()
    assert report["all"]["iou"] == pytest.approx(35 / 37), "it stays what it was"
    lost = {"iou_without": pytest.approx(35 / 36), "iou_lost": pytest.approx(35 / 36 - 35 / 37)}
    assert report["false_alarms"] == {"subsets": ["good"], "images": 190} | lost


def test_nothing_is_told_of_false_alarms_where_all_subsets_have_foreground(images):
    report = evaluated(SIZES, *images).report()
    assert "false_alarms" not in report and not any("clean_images" in row for row in report["subsets"])


def test_the_order_of_subsets_with_and_without_foreground_and_without_images():
    sizes, masks, probabilities = one_wrong_pixel(4)
    sizes = {"none": 0, "clean": 2, "wrong": 2, "bad": 4}
    probabilities[:, 0, 0] = [0.1, 0.1, 0.6, 0.6, 0.1, 0.1, 0.1, 0.1]
    report = evaluated(sizes, masks, probabilities).report()
    assert [row["subset"] for row in report["subsets"]] == ["bad", "wrong", "clean", "none"]
    assert [row.get("clean_images") for row in report["subsets"]] == [None, 0, 1, None]
    assert report["subsets"][2]["false_pixels_high"] == 0 and report["subsets"][2]["clean_images_low"] < 0.5


def test_one_image_without_foreground_has_no_interval():
    sizes, masks, probabilities = one_wrong_pixel(1)
    probabilities[0, 0, 0] = 0.6
    good = evaluated(sizes, masks, probabilities).report()["subsets"][-1]
    assert good["clean_images"] == 0 and good["clean_images_low"] is None is good["false_pixels_high"]
