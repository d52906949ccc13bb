"""The package as pip installs it: the wheel in an environment of its own, far from the clone."""

import importlib.metadata
import os
import shutil
import subprocess
import tomllib
import venv
from pathlib import Path

import pytest

from tests.support.places import ROOT

NOT_SOURCE = shutil.ignore_patterns(
    ".*", "__pycache__", "demo", "runs", "build", "dist", "*.egg-info", "docs"
)
TRAIN = (
    "train --csv_dir tables --work_dir run --image_size 64 --batch_size 2 --epochs 1 --steps_per_epoch 2 "
    "--backbone resnet18 --encoder_weights none --decoder_filters 8 8 8 8 8"
)
FOREIGN = """
import importlib.util
import segbalance
print(segbalance.__file__)
names = ["data_processing", "dataloader", "model", "train", "transforms", "scripts", "tests"]
assert not [name for name in names if importlib.util.find_spec(name)]
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Folder of the programs of a fresh environment with the wheel in it."""
    folder = tmp_path_factory.mktemp("environment")
    source = shutil.copytree(ROOT, folder / "source", ignore=NOT_SOURCE)  # building leaves files behind
    venv.create(folder / "venv", with_pip=True)
    programs = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    pip = [programs / "python", "-m", "pip", "--quiet"]
    run(*pip, "wheel", "--no-deps", "--wheel-dir", folder, source, cwd=folder)
    (wheel,) = folder.glob("segbalance-*.whl")
    run(*pip, "install", wheel, cwd=folder)
    return programs


def run(*words, cwd, status=0):
    """Standard output and error of a process, together; without what the tests' own process has set."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TF_"))}
    done = subprocess.run(
        words, cwd=cwd, env=clean, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1200
    )
    assert done.returncode == status, done.stdout
    return done.stdout


@pytest.mark.slow
def test_the_wheel_works_far_from_the_clone(environment, tmp_path):
    def segbalance(line, status=0):
        return run(environment / "segbalance", *line.split(), cwd=tmp_path, status=status)

    assert "sample-data" in segbalance("--help")
    assert segbalance("--version") == f"segbalance {project()['version']}\n"
    segbalance("sample-data --output data --scale 0.2")
    missing = segbalance("train --csv_dir tables", status=2)
    assert "Make the manifests first: segbalance prepare --data_root <folder>" in missing
    segbalance("prepare --data_root data --csv_dir tables")
    trained = segbalance(TRAIN)
    assert "cudart" not in trained and "I0000" not in trained
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "segbalance train --config" in page
    segbalance("predict --work_dir run --images data/valid/images --output masks")
    assert list((tmp_path / "masks" / "masks").rglob("*.png"))
    checked = segbalance("doctor --data_root data")
    assert "tf_keras" in checked and "tested with" not in checked and "not installed" not in checked


@pytest.mark.slow
def test_nothing_else_is_installed(environment, tmp_path):
    place = Path(run(environment / "python", "-c", FOREIGN, cwd=tmp_path).strip()).parent
    packages = place.parent
    assert ROOT not in packages.parents and packages.name == "site-packages"
    (installed,) = importlib.metadata.distributions(name="segbalance", path=[str(packages)])
    assert {file.parts[0] for file in installed.files} - {installed._path.name} == {"segbalance", ".."}
    programs = [file.name for file in installed.files if file.parts[0] == ".."]
    assert [name.removesuffix(".exe") for name in programs] == ["segbalance"]
    assert not [file for file in installed.files if "test" in file.name.split("_")]
    assert any(file.name == "LICENSE" for file in installed.files)
    modules = {path.relative_to(ROOT) for path in (ROOT / "segbalance").rglob("*.py")}
    templates = {path.relative_to(ROOT) for path in (ROOT / "segbalance").rglob("*.html")}
    assert {Path(file) for file in installed.files} >= modules | templates


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_extras_agree_with_what_they_repeat():
    """tensorflow[and-cuda] is the tensorflow of requirements.txt."""
    pinned = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    (gpu,) = project()["optional-dependencies"]["gpu"]
    assert gpu.replace("[and-cuda]", "") in pinned


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_the_lock_file_holds_what_is_asked_for_and_no_place_of_one_machine(name):
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    locked = {line.split(" ")[0].lower() for line in lines if line[:1].isalpha()}
    wanted = set((ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines())
    if name == "requirements-dev.lock":
        extras = project()["optional-dependencies"]
        wanted |= {*extras["dev"], *extras["export"], *extras["wandb"]} - {"segbalance[export,wandb]"}
    wanted = {line.lower() for line in wanted if line and not line.startswith("#")}
    assert wanted <= locked
    assert not [line for line in lines if "://" in line or "index-url" in line or " /" in line]
    assert all("==" in line for line in lines if line[:1].isalpha())
