"""The X-ray of the loader: its stages are the loader's own work, and its advice follows from the numbers."""

import json
import time

import albumentations as A
import numpy as np
import pytest
from conftest import TINY

import profile_loader
import train
from command import DONE, WRONG_INPUT
from config import TrainConfig
from manifest import read_manifest
from profile_loader import REST, SampleTimer, choose_advice, step_names, verdict
from transforms import strong_transform, train_transform

QUICK = ["--seconds", 0.2]


def parts(tables, **options):
    """(BatchReader, DrawStream) of a small config."""
    config = TrainConfig(csv_dir=str(tables), batch_size=8, **{"image_size": 64} | options)
    manifest = read_manifest(tables)
    config = train.resolved(config, manifest, tables)
    return train.training_parts(config, manifest, *train.checked_plan(config, manifest))


WAYS = [
    {"transforms": {"a": "strong"}},
    {"transforms": {"b": "strong"}},
    {"transforms": {"c": "valid"}},
    {"transforms": {"default": "train_fast"}, "image_size": 32, "working_size": 40},
]


@pytest.mark.parametrize("options", WAYS, ids=str)
def test_what_is_timed_is_what_training_reads(tables, options):
    reader, stream = parts(tables, augment="copies", **options)
    timer, plains, steps = SampleTimer(reader), [], stream.steps()
    for draws, plain in (next(steps) for _ in range(3)):
        plains += list(plain)
        images, masks, subsets = reader.read(draws, plain)
        for item, draw in enumerate(draws):
            image, mask = timer.sample(*map(int, stream.draws.split(draw)), plain[item])
            np.testing.assert_array_equal(image, images[item])
            np.testing.assert_array_equal(mask, masks[item, ..., 0])
    steps.close()
    assert timer.samples == 24 and 0 < np.mean(plains) < 1


def test_a_slow_step_is_found_where_it_is(tables):
    reader, stream = parts(tables, balance="none")

    def slow(image, **_):
        time.sleep(0.02)
        return image

    def nothing(image, **_):
        return image

    pipeline = reader.subsets[0].transform  # one and the same for all subsets here
    pipeline.transforms[:0] = [A.Lambda(image=slow, p=1), A.Lambda(image=nothing, p=1)]
    timer = SampleTimer(reader)
    profile_loader.time_samples(timer, stream, 0.5)
    stages = timer.milliseconds()
    assert max(stages, key=stages.get) == "Lambda"
    assert 20 <= stages["Lambda"] < 40 and stages["Lambda #2"] < 5
    assert {"read", "decode image", "decode mask", "draw", "batch assembly", "Resize"} <= set(stages)
    assert all(milliseconds > 0 for milliseconds in stages.values())


def test_steps_are_named():
    colour = "OneOf(HueSaturationValue, CLAHE, RandomBrightnessContrast)"
    names = "HorizontalFlip VerticalFlip Affine GaussNoise GaussianBlur".split()
    assert step_names(train_transform(32)) == [*names, colour, "Resize"]
    assert len(set(step_names(strong_transform(32)))) == 8
    twice = A.Compose([A.HorizontalFlip(), A.HorizontalFlip(), A.VerticalFlip(), A.HorizontalFlip()])
    assert step_names(twice) == [
        "HorizontalFlip", "HorizontalFlip #2", "VerticalFlip", "HorizontalFlip #3"
    ]  # fmt: skip


STAGES = {"decode image": 7.0, "GaussNoise": 6.0, "Resize": 1.0, REST: 6.0}


def rates(loader, light=None, model=None, training=None):
    return {"loader": loader, "light": light, "model": model, "training": training}


def test_on_a_gpu_the_slower_of_the_two_decides():
    # With light, the loader goes from 200 to 400, and the model's 300 decide: 190 measured, times 300 / 200.
    advice = choose_advice(STAGES, rates(200, 400, 300, 190), 384, shared=False)
    assert advice.setting == """--transforms '{"default": "light"}'"""
    assert advice.reason == "GaussNoise takes 30% of the loader's time"
    assert advice.images_per_s == pytest.approx(285) and advice.gain == pytest.approx(95)


def test_on_a_cpu_the_times_add_up():
    # 1 / (1/200 + 1/300) = 120 before, 1 / (1/400 + 1/300) = 171.4 after
    advice = choose_advice(STAGES, rates(200, 400, 300, 120), 384, shared=True)
    assert advice.images_per_s == pytest.approx(1200 / 7) and advice.gain == pytest.approx(1200 / 7 - 120)


def test_without_a_model_the_gain_is_the_loaders():
    advice = choose_advice(STAGES, rates(200, 400), 384, shared=True)
    assert (advice.images_per_s, advice.gain) == (pytest.approx(400), pytest.approx(200))


def test_a_slow_model_wants_a_smaller_image():
    # 384 * 2 / 3 = 256; (384 / 256)^2 = 2.25
    advice = choose_advice(STAGES, rates(400, 500, 100, 100), 384, shared=False)
    assert advice.setting == "--image_size 256" and advice.images_per_s == pytest.approx(225)
    assert "not measured" in advice.reason


@pytest.mark.parametrize(
    ("now", "size"),
    [(rates(200, None, 300, 200), 384), (rates(200, 205, 300, 200), 384), (rates(300, 400, 200, 90), 32)],
)
def test_a_setting_that_gains_nothing_is_not_named(now, size):
    advice = choose_advice(STAGES, now, size, shared=False)
    assert advice.setting is None and advice.gain == 0 and advice.images_per_s == now["training"]
    assert any("no setting gains a twentieth" in line for line in verdict(now, advice, shared=False))


@pytest.mark.parametrize(("model", "slower"), [(100, "model"), (300, "loader")])
def test_the_bottleneck_is_the_slower_of_the_two(model, slower):
    now = rates(200, 250, model, 90)
    lines = list(verdict(now, choose_advice(STAGES, now, 384, shared=False), shared=False))
    assert f"bottleneck: the {slower}" in lines


def test_the_profile_prints_and_writes_everything(one_convolution, tables, tmp_path, capsys):
    options = [*TINY, *QUICK, "--csv_dir", tables, "--json", tmp_path / "profile.json"]
    assert profile_loader.main(options) == DONE
    printed = capsys.readouterr().out
    content = json.loads((tmp_path / "profile.json").read_text())
    stages = {row["stage"]: row["ms_per_image"] for row in content["stages"]}
    assert {"GaussNoise", "decode mask", REST} <= set(stages) and all(name in printed for name in stages)
    assert sum(row["share"] for row in content["stages"]) == pytest.approx(1)
    # All stages together are what an image costs the cores while the loader runs.
    assert sum(stages.values()) == pytest.approx(
        1000 * profile_loader.os.cpu_count() / content["loader_images_per_s"]
    )
    assert content["model_images_per_s"] > 0 and content["training_images_per_s"] > 0
    assert content["advice"]["images_per_s"] > 0
    assert "bottleneck: the " in printed and "add up" in printed
    assert list(tmp_path.iterdir()) == [tmp_path / "profile.json"], "no run folder is made"


def test_the_profile_without_model(tables, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("model.build_network", lambda *_, **__: pytest.fail("the model is not wanted"))
    options = [*TINY, *QUICK, "--csv_dir", tables, "--no_model", "--json", tmp_path / "profile.json"]
    assert profile_loader.main([*options, "--transforms", '{"default": "light"}']) == DONE
    printed = capsys.readouterr().out
    assert "bottleneck" not in printed and "no setting gains a twentieth" in printed
    assert json.loads((tmp_path / "profile.json").read_text())["model_images_per_s"] is None


def test_wrong_input_is_answered(tables, capsys):
    assert profile_loader.main(["--csv_dir", tables, "--seconds", 0, "--batch_size", 0]) == WRONG_INPUT
    message = capsys.readouterr().err
    assert "seconds must be greater than 0, got 0.0" in message and "batch_size must be" in message
    assert profile_loader.main(["--csv_dir", "nowhere"]) == WRONG_INPUT
    assert "Make the manifests first" in capsys.readouterr().err
