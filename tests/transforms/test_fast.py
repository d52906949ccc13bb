"""FastCompose against the library: equal samples, and noise of equal statistics.

Tolerances are four standard errors, or the critical value of Kolmogorov and Smirnov at 0.001, 1.95 / sqrt(n);
the seeds are fixed, so that a test that has passed passes again.
"""

import copy
import random
from concurrent.futures import ThreadPoolExecutor

import albumentations as A
import cv2
import numpy as np
import pytest
from scipy import stats

from segbalance.transforms import fast as fast_transforms
from segbalance.transforms.fast import FastCompose
from segbalance.transforms.pipelines import (
    apply_transform,
    fast_train_transform,
    reseed,
    strong_transform,
    train_transform,
)

SIGMAS = (0.3, 1.0, 3.0, 75**0.5)  # of the noise, in levels; the last is the most that `train` draws
KOLMOGOROV = 1.95


def sample(height=60, width=53, seed=0):
    """A smooth colourful photo uint8 (H, W, 3) with all levels, and a mask (H, W) of three ids."""
    rng = np.random.default_rng(seed)
    rough = rng.integers(-60, 316, (9, 9, 3)).clip(0, 255).astype(np.uint8)
    image = cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC)
    return image, (image[..., 0] // 86).astype(np.uint8)


def drawn(transform, seed, image, mask):
    """What the pipeline makes of a pair under this seed."""
    reseed(transform, seed)
    return apply_transform(transform, image, mask)


def without_noise(steps):
    """Copies of the steps whose noise is drawn, and is zero."""
    quiet = [
        A.GaussNoise(std_range=(0, 0), p=step.p) if isinstance(step, A.GaussNoise) else step for step in steps
    ]
    return copy.deepcopy(quiet)


def noise_step(sigma, p=1.0, **options):
    """GaussNoise of this sigma in levels."""
    return A.GaussNoise(std_range=(sigma / 255, sigma / 255), p=p, **options)


def noise(sigma, seeds, shape=(128, 128, 3), level=128, compose=FastCompose):
    """int (seeds, H, W, C), what the noise adds to a grey image."""
    transform = compose([noise_step(sigma)])
    image, mask = np.full(shape, level, np.uint8), np.zeros(shape[:2], np.uint8)
    return np.stack([drawn(transform, seed, image, mask)[0].astype(int) - level for seed in seeds])


def rounded_normal_cdf(levels, sigma):
    """P(trunc(N(0, sigma^2)) <= level): rounded towards zero."""
    levels = np.asarray(levels)
    return stats.norm.cdf((levels + (levels >= 0)) / sigma)


def rounded_normal_variance(sigma):
    """Variance of trunc(N(0, sigma^2)), squared levels."""
    levels = np.arange(-200, 201)
    return np.sum(levels**2 * np.diff(rounded_normal_cdf(np.append(-201, levels), sigma)))


def distance(values, cdf):
    """Greatest distance of the values' distribution from a distribution on whole numbers."""
    levels = np.arange(values.min() - 1, values.max() + 1)
    return np.abs(np.searchsorted(np.sort(values.ravel()), levels, "right") / values.size - cdf(levels)).max()


PIPELINES = {
    "train": lambda size: train_transform(size).transforms,
    "strong": lambda size: strong_transform(size).transforms,
    "affine": lambda size: [
        A.Affine(
            scale={"x": (0.5, 1.5), "y": (0.8, 0.9)},
            translate_percent=(-0.2, 0.2),
            rotate=(-180, 180),
            shear={"x": (-20, 20), "y": (-5, 10)},
            fill=(9, 200, 30),
            fill_mask=2,
            p=0.7,
        ),
        A.Affine(rotate=(-40, 40), fill=77, fit_output=True, p=0.4),
        A.Resize(size, size + 3, interpolation=cv2.INTER_AREA),
    ],
    "colour": lambda size: [
        A.HueSaturationValue(90, 120, 120, p=0.8),
        A.OneOf([A.GaussianBlur(p=0.2), A.OneOf([A.HorizontalFlip(), A.CLAHE()], p=0.5)], p=0.9),
        A.RandomBrightnessContrast(p=0.3),
    ],
}


@pytest.mark.parametrize("name", PIPELINES)
def test_but_for_the_noise_samples_are_the_librarys(name):
    steps = without_noise(PIPELINES[name](48))
    own, library, unchanged = FastCompose(steps), A.Compose(copy.deepcopy(steps)), 0
    for seed in range(300):
        pair = sample(60, 53, seed % 7)
        ours, theirs = drawn(own, seed, *pair), drawn(library, seed, *pair)
        for mine, wanted in zip(ours, theirs, strict=True):
            assert mine.shape == wanted.shape and mine.dtype == wanted.dtype
            # Two ways to the same matrix may differ in the last bit, and a pixel on the edge with it.
            assert np.mean(mine != wanted) < 1e-3, seed
        unchanged += ours[0].shape == pair[0].shape and (ours[0] == pair[0]).all()
    assert unchanged < 150


def test_at_the_tutorials_size():
    own, library = (
        compose(without_noise(train_transform(384).transforms)) for compose in (FastCompose, A.Compose)
    )
    for seed in range(20):
        pair = sample(300, 300, seed)
        for mine, wanted in zip(drawn(own, seed, *pair), drawn(library, seed, *pair), strict=True):
            assert np.mean(mine != wanted) < 1e-3


@pytest.mark.parametrize(
    "step",
    [*train_transform(32).transforms[:-1], strong_transform(32).transforms[1]],
    ids=lambda s: type(s).__name__,
)
def test_each_step_fires_as_often_as_it_should(step):
    draws = 1500
    transform, pair = FastCompose([step]), sample(24, 24)
    fired = np.mean([(drawn(transform, seed, *pair)[0] != pair[0]).any() for seed in range(draws)])
    # The least of the sigmas and shifts change nothing in 24 x 24 pixels.
    assert abs(fired - step.p) < 4 * (step.p * (1 - step.p) / draws) ** 0.5 + 0.005


def test_angles_and_scales_are_uniform():
    affine = next(step for step in train_transform(32).transforms if isinstance(step, A.Affine))
    affine.p = 1
    transform, mask = FastCompose([affine]), np.zeros((150, 150), np.uint8)
    cv2.ellipse(mask, (75, 75), (52, 20), 0, 0, 360, 1, -1)
    image, found = np.repeat(mask[..., None] * 200, 3, axis=2), {"photo": [], "mask": []}
    for seed in range(400):
        photo, moved = drawn(transform, seed, image, mask)
        for name, shape in (("photo", photo[..., 1].astype(np.float32)), ("mask", moved)):
            moments = cv2.moments(shape)
            spread = [[moments["mu20"], moments["mu11"]], [moments["mu11"], moments["mu02"]]]
            angle = np.degrees(0.5 * np.arctan2(2 * spread[0][1], spread[0][0] - spread[1][1]))
            size = np.linalg.eigvalsh(np.array(spread) / moments["m00"])[1] ** 0.5 * 2
            found[name].append((angle, size / 52))
    for values in found.values():
        angles, scales = np.transpose(values)
        assert stats.kstest(angles, stats.uniform(-30, 60).cdf).statistic < KOLMOGOROV / 400**0.5
        assert stats.kstest(scales, stats.uniform(0.8, 0.4).cdf).statistic < KOLMOGOROV / 400**0.5
        assert abs(np.corrcoef(angles, scales)[0, 1]) < 4 / 400**0.5


@pytest.mark.parametrize("sigma", SIGMAS)
def test_noise_is_a_normal_value_rounded_towards_zero(sigma):
    values = noise(sigma, range(10))
    count = values.size
    variance = rounded_normal_variance(sigma)
    kurtosis = np.mean(values**4.0) / variance**2
    assert abs(values.mean()) < 4 * (variance / count) ** 0.5
    assert abs(values.var() / variance - 1) < 4 * ((kurtosis - 1) / count) ** 0.5
    assert distance(values, lambda levels: rounded_normal_cdf(levels, sigma)) < KOLMOGOROV / count**0.5


@pytest.mark.parametrize("sigma", SIGMAS)
def test_noise_is_distributed_as_the_librarys(sigma):
    own, library = (noise(sigma, range(5), compose=compose).ravel() for compose in (FastCompose, A.Compose))
    assert stats.ks_2samp(own, library).statistic < KOLMOGOROV * (2 / own.size) ** 0.5
    assert own.mean() == pytest.approx(library.mean(), abs=4 * library.std() * (2 / own.size) ** 0.5)
    kurtosis = np.mean(library**4.0) / library.var() ** 2
    assert own.var() == pytest.approx(library.var(), rel=4 * (2 * (kurtosis - 1) / own.size) ** 0.5)


@pytest.mark.parametrize("level", [0, 1, 3, 252, 254, 255])
def test_noise_is_clipped_as_the_librarys(level):
    values = noise(5, range(5), level=level) + level
    assert values.min() >= 0 and values.max() <= 255

    def cdf(levels):
        return np.where(levels < 0, 0, np.where(levels >= 255, 1, rounded_normal_cdf(levels - level, 5)))

    assert distance(values, cdf) < KOLMOGOROV / values.size**0.5


def test_noise_of_pixels_and_channels_is_independent():
    for values in noise(5, range(5)):
        limit = 4 / values.size**0.5 * values.var()
        for down, right in ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (5, 3)):
            product = values[down:, right:] * values[: 128 - down, : 128 - right]
            assert abs(product.mean()) < limit
        for one, other in ((0, 1), (1, 2), (0, 2)):
            assert abs((values[..., one] * values[..., other]).mean()) < 3**0.5 * limit
        assert np.abs(values.mean(axis=(0, 1))).max() < 4 * 5.01 / 128


def test_noise_of_samples_is_independent():
    values = noise(5, range(60), (64, 64, 3)).reshape(60, -1)
    correlation = np.corrcoef(values)[np.triu_indices(60, 1)]
    # Five standard errors, for there are 1770 pairs.
    assert np.abs(correlation).max() < 5 / values.shape[1] ** 0.5
    assert correlation.std() == pytest.approx(values.shape[1] ** -0.5, rel=4 / (2 * 1770) ** 0.5)


def test_noise_of_one_pixel_over_many_samples():
    values = noise(5, range(3000), (4, 4, 3)).reshape(3000, -1)
    for pixel in values.T:
        assert distance(pixel, lambda levels: rounded_normal_cdf(levels, 5)) < KOLMOGOROV / 3000**0.5
    assert len({sample_values.tobytes() for sample_values in values}) > 2990


def test_sigma_is_the_librarys_from_the_same_seed():
    step = next(step for step in train_transform(32).transforms if isinstance(step, A.GaussNoise))
    step.p, found = 1, []
    pair = np.full((48, 48, 3), 128, np.uint8), np.zeros((48, 48), np.uint8)
    for seed in range(400):
        own, library = (
            drawn(compose([step]), seed, *pair)[0].astype(float).std() for compose in (FastCompose, A.Compose)
        )
        assert own == pytest.approx(library, rel=5 / 48 / 3**0.5, abs=0.03)
        found.append(own)
    assert stats.kstest(found, stats.uniform(0, 75**0.5).cdf).statistic < KOLMOGOROV / 400**0.5


@pytest.mark.parametrize("grey", [0, 1])
def test_mean_and_other_options_of_noise(grey):
    options = {"per_channel": not grey, "mean_range": (0.1, 0.1)}
    image, mask = np.full((64, 64, 3), 100, np.uint8), np.zeros((64, 64), np.uint8)
    noisy = drawn(FastCompose([noise_step(4, **options)]), 0, image, mask)[0]
    assert (noisy == noisy[..., :1]).all() == grey
    assert abs(noisy.mean() - 125) < 4 * 4 / 64  # 100 + 25.5, rounded towards zero


def test_large_photos_have_noise_everywhere():
    height, width = 600, 500
    assert fast_transforms.BLOCK < height * width * 3 < 2 * fast_transforms.BLOCK
    values = noise(5, [3], (height, width, 3)).ravel()
    one, other = values[: fast_transforms.BLOCK], values[fast_transforms.BLOCK :]
    for part in (one, other):
        assert abs(part.mean()) < 4 * 5.01 / part.size**0.5
        assert abs(part.var() / rounded_normal_variance(5) - 1) < 4 * (2 / part.size) ** 0.5
    assert abs((one[: other.size] * other).mean()) < 4 * 25.1 / other.size**0.5


def test_noise_after_the_other_steps():
    """Blur, colour and resizing leave as much of the noise as they do in the library."""
    clean = FastCompose(without_noise(train_transform(80).transforms))
    own, library, left = fast_train_transform(80), train_transform(80), []
    for seed in range(500):
        pair = sample(64, 64, seed % 5)
        target = drawn(clean, seed, *pair)
        ours, theirs = drawn(own, seed, *pair), drawn(library, seed, *pair)
        np.testing.assert_array_equal(ours[1], theirs[1])
        off = [image.astype(float) - target[0] for image in (ours[0], theirs[0])]
        assert off[0].any() == off[1].any()
        if off[0].any():
            left.append([(difference.mean(), difference.var()) for difference in off])
    means, variances = np.moveaxis(left, 2, 0)
    # Of the 12288 values that are drawn for a photo, at least a tenth is independent after a blur of 7 x 7.
    error = (10 / 12288) ** 0.5 * variances.mean(axis=1) ** 0.5
    assert np.abs(means[:, 0] - means[:, 1]).max() < 5 * 2**0.5 * error.max()
    assert np.abs((means[:, 0] - means[:, 1]).mean()) < 4 * error.mean() * (2 / len(left)) ** 0.5
    assert variances[:, 0].sum() == pytest.approx(variances[:, 1].sum(), rel=0.02)
    assert 0.35 < len(left) / 500 < 0.45


def test_a_sample_is_a_function_of_its_seed():
    pair, transform = sample(), fast_train_transform(48)
    first = [drawn(transform, seed, *pair) for seed in range(60)]
    assert len({image.tobytes() for image, _ in first}) > 40
    random.seed(5), np.random.seed(5), cv2.setRNGSeed(5)  # the global generators must not matter
    copies = [copy.deepcopy(transform), A.from_dict(A.to_dict(transform)), fast_train_transform(48)]
    for other in copies:
        assert type(other) is FastCompose
        for seed in reversed(range(60)):
            for mine, again in zip(first[seed], drawn(other, seed, *pair), strict=True):
                np.testing.assert_array_equal(mine, again)


def test_threads_do_not_matter():
    pair, copies = sample(), [fast_train_transform(48) for _ in range(4)]
    wanted = [drawn(copies[0], seed, *pair) for seed in range(120)]
    with ThreadPoolExecutor(4) as pool:
        parts = pool.map(lambda k: [drawn(copies[k], seed, *pair) for seed in range(k, 120, 4)], range(4))
        for k, part in enumerate(parts):
            for mine, again in zip(part, wanted[k::4], strict=True):
                np.testing.assert_array_equal(mine[0], again[0])
                np.testing.assert_array_equal(mine[1], again[1])


def test_the_input_is_left_alone():
    image, mask = sample()
    before, transform = (image.copy(), mask.copy()), fast_train_transform(48)
    image.setflags(write=False), mask.setflags(write=False)
    for seed in range(60):
        drawn(transform, seed, image, mask)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(mask, before[1])


def test_images_that_are_no_block_of_memory():
    image, transform = sample()[0], fast_train_transform(32)
    for view in (image[::2, ::-1], image.transpose(1, 0, 2)):
        mask = np.zeros(view.shape[:2], np.uint8)
        for seed in range(40):
            own, again = (drawn(transform, seed, photo, mask)[0] for photo in (view, view.copy(order="C")))
            np.testing.assert_array_equal(own, again)


@pytest.mark.parametrize(
    "change",
    [
        lambda image, mask: {"image": image.astype(np.float32) / 255},
        lambda image, mask: {"image": image, "mask": None},
        lambda image, mask: {"image": image.astype(np.float32) / 255, "mask": mask},
        lambda image, mask: {"image": image[..., 0].copy(), "mask": mask},
        lambda image, mask: {"image": image, "masks": [mask, 1 - mask]},
        lambda image, mask: {"image": image, "mask": mask[..., None].astype(np.int32)},
    ],
)
def test_anything_else_is_left_to_the_library(change):
    steps = train_transform(32).transforms[:4]
    data = change(*sample())
    for seed in range(10):
        results = []
        for compose in (FastCompose, A.Compose):
            transform = compose(copy.deepcopy(steps))
            reseed(transform, seed)
            results.append(transform(**data))
        own, library = results
        assert own.keys() == library.keys()
        for key, wanted in library.items():
            np.testing.assert_array_equal(own[key], wanted)


def test_an_image_alone_becomes_what_it_becomes_with_a_mask():
    image, mask = sample()
    flips = A.OneOf([A.HorizontalFlip(), A.ElasticTransform()], p=0.5)
    for steps in (train_transform(32).transforms, [*strong_transform(32).transforms, flips]):
        transform = FastCompose(steps)
        for seed in range(60):
            expected, _ = drawn(transform, seed, image, mask)
            alone, nothing = drawn(transform, seed, image, None)
            np.testing.assert_array_equal(alone, expected)
            assert nothing is None


def test_an_image_and_mask_of_two_sizes():
    image, mask = sample()
    with pytest.raises(ValueError, match="Height and Width of image, mask or masks should be equal"):
        fast_train_transform(32)(image=image, mask=mask[1:])


def test_a_compose_that_fires_at_times():
    pair, steps = sample(), [A.HorizontalFlip(p=0.5), A.GaussianBlur(p=0.5)]
    own, library = (compose(copy.deepcopy(steps), p=0.3) for compose in (FastCompose, A.Compose))
    for seed in range(100):
        np.testing.assert_array_equal(drawn(own, seed, *pair)[0], drawn(library, seed, *pair)[0])
