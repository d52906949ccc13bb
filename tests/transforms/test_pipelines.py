"""The pipelines, their repeatability, and which subset gets which."""

import subprocess
import sys

import albumentations as A
import cv2
import numpy as np
import pytest

from segbalance.errors import InputError
from segbalance.transforms.pipelines import (
    CHANGES,
    TRANSFORMS,
    apply_transform,
    build_transform,
    reseed,
    subset_transforms,
    train_transform,
    valid_transform,
)
from tests.support.places import ROOT


def sample(height=50, width=50, value=1, seed=0):
    """A photo uint8 (H, W, 3) whose red channel is 255 just where the mask (H, W) has `value`."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 2, (-(-height // 5), -(-width // 5)), np.uint8)
    mask = np.kron(blocks, np.ones((5, 5), np.uint8))[:height, :width]
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    image[..., 0] = mask * 255
    return image, mask * value


def drawn(transform, seed, image, mask):
    """What the pipeline makes of a pair under this seed."""
    reseed(transform, seed)
    return apply_transform(transform, image, mask)


def parameters(transform):
    """(class name, parameters) of each step of a Compose or OneOf."""
    return [
        (step.pop("__class_fullname__"), step) for step in A.to_dict(transform)["transform"]["transforms"]
    ]


def test_train_is_the_tutorials_pipeline():
    steps = parameters(train_transform(384))
    names = [name for name, _ in steps]
    assert names == "HorizontalFlip Affine GaussNoise GaussianBlur OneOf Resize".split()
    flip, affine, noise, blur, one_of, resize = [step for _, step in steps]
    assert flip["p"] == affine["p"] == 0.5
    # ShiftScaleRotate(shift_limit=0, scale_limit=(-0.2, 0.2), rotate_limit=(-30, 30), border_mode=0, value=0)
    assert affine["scale"] == {"x": (0.8, 1.2), "y": (0.8, 1.2)} and affine["keep_ratio"]
    assert affine["rotate"] == (-30, 30)
    assert affine["translate_percent"] is None and affine["translate_px"] == {"x": (0, 0), "y": (0, 0)}
    assert affine["shear"] == {"x": (0, 0), "y": (0, 0)}
    assert affine["border_mode"] == cv2.BORDER_CONSTANT and affine["fill"] == affine["fill_mask"] == 0
    # GaussNoise(var_limit=(0, 50), mean=0): mean variance 25, and E[sigma^2] of U(0, s) is s^2 / 3.
    low, high = noise["std_range"]
    assert low == 0 and (high * 255) ** 2 / 3 == pytest.approx(25)
    assert noise["mean_range"] == (0, 0) and noise["p"] == 0.4
    assert blur["blur_limit"] == (3, 7) and blur["p"] == 0.4
    assert one_of["p"] == 0.3
    colour, clahe, light = one_of["transforms"]
    assert colour["__class_fullname__"] == "HueSaturationValue" and colour["p"] == 0.5
    assert colour["hue_shift_limit"] == (-10, 10)
    assert colour["sat_shift_limit"] == colour["val_shift_limit"] == (-15, 15)
    assert clahe["__class_fullname__"] == "CLAHE" and clahe["clip_limit"] == (1, 2)
    assert light["__class_fullname__"] == "RandomBrightnessContrast" and light["p"] == 0.5
    assert light["brightness_limit"] == (-0.15, 0.15) and light["contrast_limit"] == (-0.3, 0.3)
    assert (resize["height"], resize["width"]) == (384, 384)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_tutorials_size_is_the_default(name):
    assert parameters(TRANSFORMS[name]()) == parameters(TRANSFORMS[name](384))


def test_train_fast_has_the_steps_of_train():
    assert parameters(TRANSFORMS["train_fast"]()) == parameters(train_transform())


def test_only_strong_turns_photos_upside_down():
    """The others keep up and down apart, for photos in which these matter."""
    flipping = [name for name in TRANSFORMS if "VerticalFlip" in dict(parameters(TRANSFORMS[name](32)))]
    assert flipping == ["strong"]
    assert "upside down" in TRANSFORMS["strong"].__doc__
    assert set(CHANGES) == {"train", "train_fast", "light"}, "whose runs are told"


def test_valid_resizes_and_no_more():
    assert [name for name, _ in parameters(valid_transform(96))] == ["Resize"]
    image, mask = sample(64, 32)
    changed = drawn(valid_transform(32), 0, image, mask)
    np.testing.assert_array_equal(changed[0], cv2.resize(image, (32, 32), interpolation=cv2.INTER_LINEAR))
    np.testing.assert_array_equal(
        changed[1], cv2.resize(mask, (32, 32), interpolation=cv2.INTER_NEAREST_EXACT)
    )


@pytest.mark.parametrize("image_size", [32, 96, 128, 384])
def test_resizing_keeps_photo_and_mask_centred_on_each_other(image_size):
    mask = np.zeros((300, 300), np.uint8)
    mask[100:200, 100:200] = 1
    photo, resized = drawn(valid_transform(image_size), 0, np.repeat(mask[..., None] * 200, 3, 2), mask)
    # Both squares lie centred in the picture; pixel i covers i .. i + 1.
    for square in (photo[..., 0] > 100, resized == 1):
        np.testing.assert_allclose(np.argwhere(square).mean(0) + 0.5, image_size / 2, atol=0.01)


def geometry(name, image_size):
    """The part of a pipeline that moves pixels, photos interpolated as masks are."""
    pipeline = TRANSFORMS[name](image_size)
    moves = [step for step in pipeline.transforms if isinstance(step, A.DualTransform)]
    for step in moves:
        if hasattr(step, "interpolation"):
            step.interpolation = step.mask_interpolation
    return type(pipeline)(moves)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_image_and_mask_move_together(name):
    transform, pair = geometry(name, 32), sample(50, 61)
    still = valid_transform(32)(image=pair[0], mask=pair[1])["mask"]
    moved = []
    for seed in range(100):
        image, mask = drawn(transform, seed, *pair)
        np.testing.assert_array_equal(image[..., 0] > 127, mask == 1)
        assert 0 < mask.mean() < 1
        moved.append((mask != still).any())
    # `light` has one flip of p = 0.5, the others more, and `valid` moves nothing.
    least = {"valid": 0, "light": 0.35}.get(name, 0.5)
    assert np.mean(moved) == 0 if name == "valid" else least < np.mean(moved) <= 1


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_whole_pipeline_keeps_them_together(name):
    """Blur may soften the outline, but the photo must not slip against its mask."""
    mask = np.zeros((96, 96), np.uint8)
    mask[20:60, 30:70] = 1
    image = np.repeat(mask[..., None] * 160 + 40, 3, axis=2).astype(np.uint8)
    transform, slips = TRANSFORMS[name](96), []
    for seed in range(200):
        photo, moved = drawn(transform, seed, image, mask)
        if not (moved[[0, -1]].any() or moved[:, [0, -1]].any()):  # a blur at the frame is lopsided
            bright = cv2.threshold(photo.mean(axis=2).astype(np.uint8), 0, 1, cv2.THRESH_OTSU)[1]
            slips.append(np.argwhere(bright).mean(axis=0) - np.argwhere(moved).mean(axis=0))
    assert len(slips) > 50
    assert np.abs(slips).max() < 0.75, "pixels, where the mask is about 40 wide"


@pytest.mark.parametrize("name", ["train", "train_fast", "light", "strong"])
def test_flips_fire_half_the_time(name):
    pipeline = TRANSFORMS[name](32)
    flips = type(pipeline)(
        [step for step in pipeline.transforms if isinstance(step, A.HorizontalFlip | A.VerticalFlip)]
    )
    image, mask = sample()
    vertical = (0, 1) if name == "strong" else (0,)
    wanted = {(h, v): mask[:: -1 if v else 1, :: -1 if h else 1] for h in (0, 1) for v in vertical}
    draws, fired = 400, []
    for seed in range(draws):
        moved = drawn(flips, seed, image, mask)[1]
        fired += [key for key, expected in wanted.items() if (moved == expected).all()]
    assert len(fired) == draws, "two orientations look alike, or something else moved the pixels"
    sigma = (0.5 * 0.5 / draws) ** 0.5
    expected = [0.5, 0.5 if name == "strong" else 0]
    assert np.abs(np.mean(fired, axis=0) - expected).max() < 4 * sigma


@pytest.mark.parametrize("name", TRANSFORMS)
def test_masks_keep_their_class_ids(name):
    transform = TRANSFORMS[name](32)
    for value in (1, 255):  # between 0 and 1 there is no room for a blend of the two to show
        seen = set()
        for seed in range(40):
            seen |= set(drawn(transform, seed, *sample(50, 50, value))[1].ravel().tolist())
        assert seen == {0, value}


@pytest.mark.parametrize("shape", [(97, 20), (20, 97), (31, 33), (3, 5), (2, 1), (1, 1)])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_any_size_becomes_image_size(name, shape):
    transform = TRANSFORMS[name](32)
    for grey in (False, True):
        image, mask = sample(*shape)
        if grey:
            image = np.repeat(image[..., 1:2], 3, axis=2)
        for seed in range(20):
            photo, moved = drawn(transform, seed, image, mask)
            assert photo.shape == (32, 32, 3) and moved.shape == (32, 32)
            assert photo.dtype == moved.dtype == np.uint8
            assert set(np.unique(moved)) <= {0, 1}


@pytest.mark.parametrize("name", ["train", "train_fast", "light", "strong"])
def test_a_sample_depends_on_its_seed_alone(name):
    pair, transform = sample(), TRANSFORMS[name](32)
    first = [drawn(transform, seed, *pair) for seed in range(30)]
    np.random.seed(7)  # the global generator must not matter either
    other = TRANSFORMS[name](32)
    for seed in reversed(range(30)):
        drawn(other, 1000 + seed, *sample(40, 70, seed=1))
        for own, again in zip(first[seed], drawn(other, seed, *pair), strict=True):
            np.testing.assert_array_equal(own, again)
    assert len({image.tobytes() for image, _ in first}) > 5, "other seeds give the same samples"


def test_seeds_of_64_bits_differ():
    pair, transform = sample(), train_transform(32)
    images = {drawn(transform, seed, *pair)[0].tobytes() for seed in (2**63 + k for k in range(20))}
    assert len(images) > 10


def names(transform):
    """Class names of a pipeline's steps."""
    return [type(step).__name__ for step in transform.transforms]


def test_each_subset_gets_its_own():
    pipelines = subset_transforms({"4": "strong", "default": "light"}, ["0", "1", "4"], 64)
    assert list(pipelines) == ["0", "1", "4"]
    assert names(pipelines["4"]) == names(TRANSFORMS["strong"](64))
    assert names(pipelines["0"]) == names(pipelines["1"]) == names(TRANSFORMS["light"](64))


def test_without_a_default_the_rest_gets_train():
    pipelines = subset_transforms({"a": "valid"}, ["a", "b"], 64)
    assert names(pipelines["a"]) == ["Resize"]
    assert names(pipelines["b"]) == names(train_transform(64))


def test_an_unknown_subset():
    with pytest.raises(InputError, match="transforms name unknown subsets 5, hands; known: 0, 4, default"):
        subset_transforms({"5": "strong", "4": "light", "hands": "train"}, ["0", "4"], 64)


def test_an_unknown_name():
    expected = (
        "transform 'srtong' is unknown; known: train, train_fast, valid, light, strong, "
        "or package.module:function"
    )
    with pytest.raises(InputError, match=expected):
        subset_transforms({"4": "srtong"}, ["4"], 64)


OWN_MODULE = """
import albumentations as A

def crop(image_size):
    return A.Compose([A.Resize(2 * image_size, 2 * image_size), A.RandomCrop(image_size, image_size)])

def too_small(image_size):
    return A.Compose([A.Resize(image_size // 2, image_size)])

def as_floats(image_size):
    return A.Compose([A.Resize(image_size, image_size), A.ToFloat(255)])

def raises(image_size):
    raise RuntimeError("no such luck")

def crops_too_much(image_size):
    return A.Compose([A.CenterCrop(10 * image_size, image_size)])

def nothing(image_size):
    pass

a_number = 3
"""


@pytest.fixture
def own_module(monkeypatch, tmp_path):
    """A working folder with a module of one's own; returns its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder])
    before = set(sys.modules)
    (tmp_path / "own_pipelines").mkdir()
    (tmp_path / "own_pipelines" / "nails.py").write_text(OWN_MODULE)
    (tmp_path / "own_pipelines" / "broken.py").write_text("def crop(image_size:\n")
    yield "own_pipelines.nails"
    for name in sys.modules.keys() - before:
        if name.startswith("own_pipelines"):
            del sys.modules[name]


def test_a_function_of_ones_own(own_module):
    pipelines = subset_transforms({"4": f"{own_module}:crop"}, ["0", "4"], 32)
    assert names(pipelines["4"]) == ["Resize", "RandomCrop"]
    assert drawn(pipelines["4"], 0, *sample())[0].shape == (32, 32, 3)


@pytest.mark.parametrize(
    "name, message",
    [
        (
            "own_pipelines.toes:crop",
            "cannot be imported: ModuleNotFoundError: No module named 'own_pipelines.t",
        ),
        ("no_such_module:crop", "cannot be imported: ModuleNotFoundError: No module named 'no_such_module'"),
        ("own_pipelines.nails:crpo", "cannot be imported: AttributeError: .* no attribute 'crpo'"),
        ("own_pipelines.broken:crop", "cannot be imported: SyntaxError: .*Expected package.module:function"),
        (":crop", "cannot be imported: ValueError"),
        ("own_pipelines.nails:raises", "failed on a trial image: RuntimeError: no such luck"),
        ("own_pipelines.nails:nothing", "failed on a trial image: AttributeError"),
        ("own_pipelines.nails:a_number", "failed on a trial image: TypeError: 'int' object is not callable"),
        ("own_pipelines.nails:crops_too_much", "failed on a trial image: "),
        (
            "own_pipelines.nails:too_small",
            r"does not deliver image_size 32: got image \(16, 32, 3\) and mask \(16, 32\), "
            r"expected \(32, 32, 3\) and \(32, 32\)\. Let it end with A\.Resize\.",
        ),
        (
            "own_pipelines.nails:as_floats",
            r"delivers image float32 and mask uint8, expected uint8: .*Leave A\.Normalize and A\.ToFloat out",
        ),
    ],
)
def test_a_function_that_will_not_do(own_module, name, message):
    with pytest.raises(InputError, match=f"^transform '{name}' {message}"):
        subset_transforms({"default": name}, ["0"], 32)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_named_ones_pass_their_own_trial(name):
    assert isinstance(build_transform(name, 32), A.Compose)


def test_pytorch_is_not_imported():
    """It takes seconds and 200 MB, in every worker process too."""
    pytest.importorskip("torch", reason="needs torch: make bench")
    root = ROOT
    program = "import sys, transforms; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=root, timeout=60).returncode == 0
