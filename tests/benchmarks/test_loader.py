"""The comparison of loaders: every contestant runs, ratios are paired, the table, picture and messages."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from scripts.benchmarks import loader as benchmark_loader
from scripts.benchmarks import loader_contestants
from scripts.benchmarks.loader_contestants import Examples, Race
from segbalance.data_processing.manifest import read_manifest
from segbalance.dataloader.pair_cache import NoCache
from segbalance.runtime.command_line import DONE, WRONG_INPUT
from segbalance.train.inputs import loader_subsets
from segbalance.transforms.pipelines import train_transform, valid_transform

SIZE = 32
SCRIPT = Path(benchmark_loader.__file__)


@pytest.fixture
def race(tables):
    """A function that makes a Race of the tests' tables."""

    def make(transform=None, **options):
        manifest = read_manifest(tables)
        transforms = dict.fromkeys(manifest.train, transform or train_transform(SIZE))
        return Race(loader_subsets(manifest, manifest.train, transforms), SIZE, 4, **options)

    return make


def run_alone(tables, race, contestant):
    """The figures of one contestant, in a process of its own as in the benchmark."""
    words = ["--csv_dir", tables, "--image_size", SIZE, "--batch_size", 4, "--images", 16]
    program = [sys.executable, SCRIPT, *words, "--run", race, contestant]
    done = subprocess.run([str(word) for word in program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("contestant", ["ours", "limit"])
def test_a_contestant_runs_in_a_process_of_its_own(tables, contestant):
    figures = run_alone(tables, "cached", contestant)
    assert figures["images_per_s"] > 0
    assert (figures["first_batch_s"] is None) == (contestant == "limit")


@pytest.mark.slow
@pytest.mark.parametrize("contestant", list(benchmark_loader.PEERS))
def test_a_peer_runs_in_a_process_of_its_own(tables, contestant):
    package = benchmark_loader.PEERS[contestant]
    pytest.importorskip(package, reason=f"needs {package}: make bench")
    assert run_alone(tables, "uncached", contestant)["first_batch_s"] > 0


def test_the_tutorials_recipe_runs(race):
    figures = benchmark_loader.measure_loader(race(), "tutorial", 16)
    assert figures["images_per_s"] > 0 and figures["first_batch_s"] > 0


def test_examples_are_the_pairs_whether_held_or_not(race):
    """PyTorch and Grain read the same pixels as we do."""
    plain, held = race(valid_transform(SIZE)), race(valid_transform(SIZE), cached=True)
    examples, others = Examples(plain, plain.subsets), Examples(held, held.subsets)
    assert len(examples) == len(others) == 10
    for number, (subset, row) in enumerate(examples.places):
        image, mask = plain.pairs.read(subset.images[row], subset.masks[row], subset.encoding)
        wanted = plain.transform(image=image, mask=mask)
        for own in (examples, others):
            np.testing.assert_array_equal(own[number][0], wanted["image"])
            np.testing.assert_array_equal(own[number][1][..., 0], wanted["mask"])


def test_only_a_cached_race_holds_pixels(race, stub):
    assert isinstance(race().pairs.cache, NoCache) and race().held is None
    held = race(cached=True)
    assert len(held.pairs.cache) == 10 and [len(pairs) for pairs in held.held.values()] == [6, 3, 1]
    stub.never(loader_contestants, "read_pair")
    assert held.pair(held.subsets[2], 0)[1].shape == (50, 60)


def options(**given):
    return benchmark_loader.BenchmarkOptions(csv_dir="none", **given)


@pytest.mark.parametrize(
    "name, contestant, working_size, cached, fast",
    [
        ("uncached", "ours", 0, False, False),
        ("uncached", "ours fast", 0, False, True),
        ("cached", "pytorch", 0, True, False),
        ("large", "ours", 64, False, False),
        ("large", "ours cached", 64, True, False),
        ("large", "ours full size", 0, False, False),
        ("large", "grain threads", 0, False, False),
    ],
)
def test_what_a_contestant_is_given(tables, name, contestant, working_size, cached, fast):
    given = benchmark_loader.BenchmarkOptions(csv_dir=str(tables), image_size=SIZE)
    found = benchmark_loader.race_of(given, name, contestant)
    assert (found.working_size, found.cached) == (working_size, cached)
    assert (type(found.transform).__name__ == "FastCompose") == fast


def test_how_many_images_are_timed():
    assert options(images=3200).images_of("uncached")["pytorch"] == 3200
    assert options(images=3200).images_of("large")["pytorch"] == 64
    assert options(images=160).images_of("large")["pytorch"] == 16, "two batches at least"
    assert list(options(contestants=["ours", "limit"]).images_of("large")) == ["ours", "limit"]
    assert "cores" in options().images_of("cached") and "cores" not in options(quick=True).images_of("cached")


def rounds(**rates):
    """Rows as `run_all` gives them, for the rates of each contestant in each round."""
    return [
        {"race": "uncached", "name": name, "round": number, "images_per_s": rate, "first_batch_s": 0.5}
        | {"peak_mb": 900.0}
        for name, all_rates in rates.items()
        for number, rate in enumerate(all_rates)
    ]


def test_ratios_are_taken_within_a_round():
    rows = rounds(ours=[100, 60, 90], pytorch=[50, 20, 36], limit=[125, 60, 100])
    table = benchmark_loader.summarise(rows).set_index("name")
    columns = ["ours_over_it", "ours_over_it_lowest", "ours_over_it_highest"]
    # 100 / 50 = 2, 60 / 20 = 3, 90 / 36 = 2.5
    assert table.loc["pytorch", columns].tolist() == [2.5, 2.0, 3.0]
    assert table.loc["limit", "ours_over_it"] == pytest.approx(0.9)
    assert table.loc["ours", "images_per_s"] == 90
    assert "2.50 (2.00 to 3.00)" in benchmark_loader.printed(table.reset_index())


def test_the_whole_comparison(tables, tmp_path, capsys, stub):
    def run(own, race, name, images):
        return {"images_per_s": float(images), "first_batch_s": 0.5, "peak_mb": 900.0}

    stub(benchmark_loader, "run", run)
    words = ["--csv_dir", tables, "--races", "uncached", "--contestants", "ours", "limit", "--rounds", 2]
    words += ["--images", 1000]
    outputs = ["--json", tmp_path / "a.json", "--output", tmp_path / "a.png"]
    assert benchmark_loader.main([*words, *outputs]) == DONE
    printed = capsys.readouterr().out
    assert "ours / it" in printed and "1.00 (1.00 to 1.00)" in printed
    first, second = json.loads((tmp_path / "a.json").read_text())
    assert first["name"] == "ours" and first["images_per_s"] == 1000 and first["peak_mb"] == 900
    assert first["ours_over_it"] is None and second["ours_over_it"] == 1
    assert cv2.imread(str(tmp_path / "a.png")) is not None


def test_large_photos_have_12_megapixels(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark_loader, "LARGE_PAIRS", {"0": 1})
    benchmark_loader.render_large(tmp_path)
    photo, mask = cv2.imread(str(tmp_path / "Images/0/hand_0000.jpg")), tmp_path / "Masks/0/hand_0000.png"
    assert photo.shape == (3000, 4000, 3)
    assert np.unique(cv2.imread(str(mask), cv2.IMREAD_UNCHANGED)).tolist() == [0, 255]


@pytest.mark.parametrize(
    "words, message",
    [
        (["--contestants", "magic"], "contestants magic unknown; known: cores, grain processes"),
        (["--races", "magic"], "races magic unknown; known: cached, large, uncached"),
        (["--rounds", "0"], "rounds must be greater than 0, got 0"),
    ],
)
def test_wrong_options(words, message, capsys):
    assert benchmark_loader.main(words) == WRONG_INPUT
    assert message in capsys.readouterr().err


def test_a_missing_library_is_named(stub, capsys):
    stub("importlib.util.find_spec", lambda name: None if name == "torch" else 1)
    assert benchmark_loader.main([]) == WRONG_INPUT
    assert 'not installed: torch. Run `pip install -e ".[bench]"`' in capsys.readouterr().err
