"""The X-ray of the loader: its stages are the loader's own work, and its advice follows from the numbers."""

import gc
import itertools
import json
import multiprocessing
import time
import weakref

import albumentations as A
import numpy as np
import pytest

from segbalance.commands import prepare
from segbalance.commands import profile as profile_loader
from segbalance.data_processing.manifest import read_manifest
from segbalance.dataloader.ram_cache import RamCache
from segbalance.profiling import profile as loader_profile
from segbalance.profiling.advice import (
    NAMES,
    Attempt,
    choose,
    decoded_bytes,
    decoded_photos,
    fits_in_ram,
    settings_to_try,
    weigh,
)
from segbalance.profiling.profile import REST, SampleTimer, step_names
from segbalance.runtime.command_line import DONE, WRONG_INPUT
from segbalance.train import inputs as run_data
from segbalance.train.config import TrainConfig
from segbalance.transforms import pipelines as transforms
from segbalance.transforms.pipelines import strong_transform, train_transform
from tests.support.data import TINY, write_data

QUICK = ["--seconds", 0.2]


@pytest.fixture
def one_turn(monkeypatch):
    """One turn of each measurement in place of several."""
    monkeypatch.setattr("segbalance.profiling.profile.TURNS", 1)


def parts(tables, **options):
    """(BatchReader, DrawStream) of a small config."""
    config = TrainConfig.of(csv_dir=str(tables), batch_size=8, **{"image_size": 64} | options)
    manifest = read_manifest(tables)
    config = run_data.resolved(config, manifest, tables)
    return run_data.training_parts(config, manifest, *run_data.checked_plan(config, manifest))


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
    loader_profile.time_samples(timer, stream, 0.5)
    stages = timer.milliseconds()
    assert max(stages, key=stages.get) == "Lambda"
    assert 20 <= stages["Lambda"] < 40 and stages["Lambda #2"] < 5
    assert {"read", "decode image", "decode mask", "draw", "batch assembly", "Resize"} <= set(stages)
    assert all(milliseconds > 0 for milliseconds in stages.values())


def test_steps_are_named():
    colour = "OneOf(HueSaturationValue, CLAHE, RandomBrightnessContrast)"
    names = "HorizontalFlip Affine GaussNoise GaussianBlur".split()
    assert step_names(train_transform(32)) == [*names, colour, "Resize"]
    assert len(set(step_names(strong_transform(32)))) == 8
    twice = A.Compose([A.HorizontalFlip(), A.HorizontalFlip(), A.VerticalFlip(), A.HorizontalFlip()])
    assert step_names(twice) == [
        "HorizontalFlip", "HorizontalFlip #2", "VerticalFlip", "HorizontalFlip #3"
    ]  # fmt: skip


STAGES = {"read": 1.0, "decode image": 6.0, "GaussNoise": 6.0, "Resize": 1.0, REST: 6.0}
OPTIONS = {
    "light": """--transforms '{"default": "light"}'""",
    "train_fast": """--transforms '{"default": "train_fast"}'""",
    "cache": "--cache ram",
    "working_size": "--working_size 768",
    "num_workers": "--num_workers 2",
}


def advised(loader, model=None, training=None, image_size=384, shared=False, **tried):
    """(what is advised, every Advice) after these images per second."""
    rates = dict.fromkeys(NAMES) | {"loader": loader, "model": model, "training": training} | tried
    attempts = {name: Attempt(OPTIONS[name], None, "a remark") for name in tried}
    weighed = weigh(STAGES, rates, attempts, image_size, shared)
    return choose(weighed, rates, shared), weighed


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shared", [False, True])
def test_the_fastest_setting_is_advised(name, shared):
    tried = dict.fromkeys(NAMES, 230.0) | {name: 260.0}
    for model, training in ((None, None), (1000, 190)):
        advice, weighed = advised(200, model, training, shared=shared, **tried)
        assert advice == weighed[0] and advice.setting == OPTIONS[name]
        assert advice.loader_images_per_s == 260 and len(weighed) == len(NAMES)


def test_on_a_gpu_the_slower_of_the_two_decides():
    # With light, the loader goes from 200 to 400, and the model's 300 decide: 190 measured, times 300 / 200.
    advice, _ = advised(200, 300, 190, light=400)
    assert advice.images_per_s == pytest.approx(285) and advice.gain == pytest.approx(95)
    # A loader that is faster than the model already gains nothing by being faster still.
    advice, (smaller, light) = advised(400, 300, 290, light=800)
    assert smaller.setting == "--image_size 256" and light.gain == 0


def test_on_a_cpu_the_times_add_up():
    # 1 / (1/200 + 1/300) = 120 before, 1 / (1/400 + 1/300) = 171.4 after
    advice, _ = advised(200, 300, 120, shared=True, cache=400)
    assert advice.images_per_s == pytest.approx(1200 / 7) and advice.gain == pytest.approx(1200 / 7 - 120)
    # 1 / (1/400 + 1/100) = 80 before; 1 / (1/800 + 1/100) = 88.9 with a faster loader, and
    # 1 / (1/400 + 1/225) = 144 with a faster model: it is the model that counts.
    advice, weighed = advised(400, 100, 80, shared=True, cache=800)
    assert [round(each.images_per_s, 1) for each in weighed] == [144, 88.9]
    assert advice.setting == "--image_size 256"


def test_without_a_model_the_gain_is_the_loaders():
    advice, weighed = advised(200, train_fast=250, num_workers=150)
    assert (advice.images_per_s, advice.gain) == (pytest.approx(250), pytest.approx(50))
    assert [each.gain for each in weighed] == pytest.approx([50, -50])


def test_a_slow_model_wants_a_smaller_image():
    # 384 * 2 / 3 = 256; (384 / 256)^2 = 2.25
    advice, _ = advised(400, 100, 100, light=500)
    assert advice.setting == "--image_size 256" and advice.images_per_s == pytest.approx(225)
    assert "not measured" in advice.reason


NOT_WORTH_IT = [
    dict(loader=200, model=300, training=200),
    dict(loader=200, model=300, training=200, light=205, num_workers=90),
    dict(loader=300, model=200, training=90, light=400, image_size=32),
    dict(loader=40, model=1.0, training=1.0, cache=400, image_size=32, shared=True),
]


@pytest.mark.parametrize("measured", NOT_WORTH_IT, ids=str)
def test_a_setting_that_gains_nothing_is_not_named(measured):
    advice, weighed = advised(**measured)
    assert advice.setting is None and advice.gain == 0 and advice.images_per_s == measured["training"]
    (line,) = profile_loader.advice_lines(advice)
    assert line.startswith("no setting gains a twentieth: ")
    assert (weighed[0].setting in line) if weighed else line.endswith("nothing is left to try")


REASONS = {
    "light": "the transforms take 35% of the loader's time, GaussNoise alone 30%; a remark",
    "cache": "reading and decoding take 35% of the loader's time; a remark",
    "num_workers": "hand-over, threads take 30% of the loader's time; a remark",
}


@pytest.mark.parametrize("name", REASONS)
def test_the_reason_names_a_share_of_the_loaders_time(name):
    assert advised(200, **{name: 400})[0].reason == REASONS[name]


@pytest.mark.parametrize(("model", "slower"), [(100, "model"), (300, "loader")])
def test_the_bottleneck_is_the_slower_of_the_two(model, slower):
    rates = {"loader": 200, "model": model, "training": 90}
    assert f"bottleneck: the {slower}" in list(profile_loader.rate_lines(rates, shared=False))


def tried(tables, cores=4, **options):
    """What `settings_to_try` says of a config for the tables, at image_size 32."""
    config = TrainConfig.of(csv_dir=str(tables), **{"image_size": 32, "num_workers": 0} | options)
    manifest = read_manifest(tables)
    return settings_to_try(run_data.resolved(config, manifest, tables), manifest, cores)


def test_what_could_be_set_otherwise_is_tried(tables):
    attempts, left_out = tried(tables, transforms={"a": "strong"})
    assert {name: attempt.setting for name, attempt in attempts.items()} == {
        "light": """--transforms '{"default": "light"}'""",
        "train_fast": """--transforms '{"default": "train_fast", "a": "strong"}'""",
        "cache": "--cache ram",
        "num_workers": "--num_workers 4",
    }
    assert attempts["num_workers"].config == attempts["cache"].config.replace(cache="off", num_workers=4)
    assert list(left_out) == ["working_size"]


LEFT_OUT = [
    ("light", {"transforms": {"default": "light", "b": "valid"}}, "light already"),
    (
        "train_fast",
        {"transforms": {"default": "train", "a": "light", "b": "light", "c": "strong"}},
        "no subset",
    ),
    ("cache", {"cache": "ram"}, "in memory already"),
    ("cache", {"cache_gb": 1e-4}, "the decoded pairs take 0.00 GB, --cache_gb is 0.0001"),
    ("working_size", {"working_size": 0}, "the photos are not much larger than 64"),
    ("working_size", {"working_size": 64}, "64 is at most twice --image_size"),
    ("num_workers", {"cores": 1}, "there is one core"),
]


@pytest.mark.parametrize(("name", "options", "why"), LEFT_OUT, ids=str)
def test_what_makes_no_sense_is_left_out_with_its_reason(name, options, why, tables):
    attempts, left_out = tried(tables, **options)
    assert name not in attempts and why in left_out[name]


@pytest.mark.parametrize("working_size", [0, 400])
def test_large_photos_want_a_working_size(working_size, tmp_path):
    root = write_data(tmp_path / "data", {"a": 2}, height=300, width=400)
    write_data(root, {"a": 1}, "valid", first_seed=1, height=300, width=400)
    tables = tmp_path / "csv_file"
    assert prepare.main(["--data_root", root, "--csv_dir", tables]) == DONE
    attempt = tried(tables, working_size=working_size)[0]["working_size"]
    assert attempt.setting == "--working_size 64" and attempt.config.loading.working_size == 64
    assert attempt.remark == "leaves 3% of the decoded pixels"  # 64 * 48 of 400 * 300


def test_processes_give_way_to_threads(tables):
    assert tried(tables, num_workers=3)[0]["num_workers"].setting == "--num_workers 0"


def test_pairs_that_fit_are_all_kept():
    # Three photos of 60 x 50 and one of 80 x 40 with their masks: 4 * (3 * 3000 + 3200) = 48800 bytes.
    photos = {(60, 50): 3, (80, 40): 1}
    assert decoded_bytes(photos, 0) == 48_800
    assert decoded_bytes(photos, 40) == 4 * (3 * 40 * 33 + 40 * 20)
    smallest = next(limit for limit in range(100_000) if fits_in_ram(photos, 0, limit))
    for limit, kept in ((smallest, 4), (smallest - 1, 3)):
        cache, number = RamCache(limit), 0
        for (width, height), count in photos.items():
            for _ in range(count):
                cache.put(number, np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint8))
                number += 1
        assert len(cache) == kept
    # Tiny pairs run out of places first: 1000 of them need 4/3 as many.
    assert not fits_in_ram({(1, 1): 1000}, 0, 1333 * 4096) and fits_in_ram({(1, 1): 1000}, 0, 1334 * 4096)


def test_a_pair_of_two_tables_is_counted_once(tables):
    manifest = read_manifest(tables)
    train_tables = list(manifest.train.values())
    assert decoded_photos([*train_tables, manifest.valid]) == {(60, 50): 15}
    assert decoded_photos([*train_tables, *train_tables]) == {(60, 50): 10}


@pytest.mark.parametrize("options", [{"cache": "ram"}, {"num_workers": 1}], ids=str)
def test_the_other_reader_is_measured_with_its_cache_full_and_its_processes_ready(options, tables, stub):
    base, stream = parts(tables)
    steps = loader_profile.first_steps(base, stream, 0.1)
    reader, _ = parts(tables, **options)
    seen, answers = [], [False, False, True]
    if "num_workers" in options:
        stub(reader._processes, "ready", lambda: answers.pop(0))

    def rate(measured, measured_steps, seconds):
        assert measured_steps is steps and seconds == pytest.approx(0.5)
        if measured is base:
            return 10.0
        seen.append(measured)
        if "cache" in options:
            samples = [
                measured.sample(*map(int, steps.draws.split(draw))) for draws, _ in steps for draw in draws
            ]
            assert len(measured.samples.pairs.cache) == len({sample.image for sample in samples})
        else:
            assert answers == []
        return [40.0, 30.0, 5.0][len(seen) - 1]

    stub("segbalance.profiling.profile.measure_loader", rate)
    assert loader_profile.measure_ratio(reader, base, steps, 3.0) == 3  # the median of 4, 3 and 0.5
    assert seen == [reader] * 3


def test_the_first_steps_go_round(tables):
    reader, stream = parts(tables)
    expected = [draws for draws, _ in itertools.islice(stream.steps(), 2)]
    once = loader_profile.first_steps(reader, stream, 1e-9)
    (first,) = once
    np.testing.assert_array_equal(first[0], expected[0])
    two = loader_profile.FirstSteps(list(itertools.islice(stream.steps(), 2)), stream.draws, 8)
    for number, (draws, _) in zip(range(1, 6), two.steps(1), strict=False):
        np.testing.assert_array_equal(draws, expected[number % 2])


def test_with_a_cache_the_stage_is_reading_from_it(tables):
    reader, stream = parts(tables, cache="ram")
    steps = loader_profile.first_steps(reader, stream, 0.1)
    timer = SampleTimer(reader)
    loader_profile.time_samples(timer, steps, 0.1)
    stages = timer.milliseconds()
    assert loader_profile.CACHED_READ in stages and not {"read", "decode image", "decode mask"} & set(stages)


def test_the_profile_prints_and_writes_everything(one_convolution, one_turn, tables, tmp_path, capsys):
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
    cores = profile_loader.os.cpu_count()
    settings = {advice["setting"]: advice for advice in content["settings"]}
    expected = {"--cache ram", *(OPTIONS[name] for name in ("light", "train_fast"))}
    expected |= {f"--num_workers {cores}"} if cores > 1 else set()
    assert set(settings) == expected and all(name in printed for name in settings)
    assert content["cache_images_per_s"] == settings["--cache ram"]["loader_images_per_s"] > 0
    assert "not tried: working_size (" in printed and list(content["not_tried"])[0] == "working_size"
    assert list(tmp_path.iterdir()) == [tmp_path / "profile.json"], "no run folder is made"


def test_a_measured_reader_goes_with_its_processes(tables):
    before = set(multiprocessing.active_children())
    reader, stream = parts(tables, num_workers=1)
    steps = loader_profile.first_steps(reader, stream, 0.1)
    (worker,) = set(multiprocessing.active_children()) - before
    assert loader_profile.measure_loader(reader, steps, 0.1) > 0
    reader = weakref.ref(reader)
    gc.collect()
    assert reader() is None
    worker.join(10)
    assert not worker.is_alive()


def test_the_profile_without_model(one_turn, tables, tmp_path, capsys, stub):
    stub.never("segbalance.model.networks.build_network")
    stub("os.cpu_count", lambda: 1)
    options = [*TINY, *QUICK, "--csv_dir", tables, "--no_model", "--json", tmp_path / "profile.json"]
    options += ["--cache", "ram", "--transforms", '{"default": "light"}']
    assert profile_loader.main(options) == DONE
    printed = capsys.readouterr().out
    assert "bottleneck" not in printed and "no setting gains a twentieth: nothing is left to try" in printed
    content = json.loads((tmp_path / "profile.json").read_text())
    assert content["model_images_per_s"] is None and content["settings"] == []
    assert list(content["not_tried"]) == list(NAMES)


@pytest.mark.slow
def test_transforms_that_cannot_be_sent_are_read_on_threads(one_turn, tables, capsys, monkeypatch, stub):
    def same(image, **_):
        return image

    monkeypatch.setitem(
        transforms.TRANSFORMS,
        "mine",
        lambda size: A.Compose([A.Lambda(image=same), transforms.resize(size)]),
    )
    stub("os.cpu_count", lambda: 2)
    options = [*TINY, *QUICK, "--csv_dir", tables, "--no_model", "--transforms", '{"default": "mine"}']
    assert profile_loader.main(options) == DONE
    assert "not tried: num_workers (a transform cannot be sent to worker processes" in capsys.readouterr().out


def test_wrong_input_is_answered(tables, capsys):
    assert profile_loader.main(["--csv_dir", tables, "--seconds", 0, "--batch_size", 0]) == WRONG_INPUT
    message = capsys.readouterr().err
    assert "seconds must be greater than 0, got 0.0" in message and "batch_size must be" in message
    assert profile_loader.main(["--csv_dir", "nowhere"]) == WRONG_INPUT
    assert "Make the manifests first" in capsys.readouterr().err
