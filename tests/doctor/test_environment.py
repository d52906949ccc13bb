"""What is said of the machine and its packages."""

import collections
import importlib.metadata
import subprocess
import sys

import pytest

from segbalance.doctor import environment
from segbalance.doctor.diagnosis import Diagnosis
from segbalance.doctor.environment import examine_environment, installed_version

Usage = collections.namedtuple("Usage", "total used free")
GOOD = '{"tensorflow": "2.21.0", "tf-keras": "2.21.0", "keras mode": "tf_keras", "gpus": 1}'


@pytest.fixture
def examine(monkeypatch, stub, tmp_path):
    """Looks at a machine on which all is well but for what `changes` say; returns (facts, {kind: places})."""

    def run(installed=None, probe=f"print({GOOD!r})", free=100.0, memory=16.0, python=None):
        versions = {} if installed is None else installed
        real = installed_version
        stub(environment, "installed_version", lambda name: versions.get(name, real(name)))
        monkeypatch.setattr(environment, "PROBE", probe)
        stub(environment, "memory_limit", lambda: memory)
        stub(environment.shutil, "disk_usage", lambda place: Usage(0, 0, free * 2**30))
        if python:
            monkeypatch.setattr(sys, "version_info", python)
        diagnosis = Diagnosis()
        facts = examine_environment([tmp_path / "new"], diagnosis)
        kinds = diagnosis.kinds().items()
        return facts, {name: [finding.place for finding in found] for name, (_, found) in kinds}

    return run


def test_a_good_machine(examine, tmp_path):
    facts, found = examine()
    assert found == {}
    assert (
        facts["tensorflow"] == "2.21.0" and facts["keras mode"] == "tf_keras" and facts["memory"] == "16.0 GB"
    )
    assert facts[f"disk at {tmp_path / 'new'}"] == "100.0 GB free"
    assert facts["opencv"].startswith("opencv-python-headless 4.")


def test_several_opencv_packages_at_once(examine):
    facts, found = examine({"opencv-python": "4.14.0", "opencv-contrib-python": "4.9.0"})
    assert list(found) == ["opencv_twice"]
    assert found["opencv_twice"] == [facts["opencv"]]
    headless = installed_version("opencv-python-headless")
    assert facts["opencv"] == (
        f"opencv-python 4.14.0, opencv-python-headless {headless}, opencv-contrib-python 4.9.0"
    )


def test_packages_missing_or_of_another_version(examine):
    absent = {"tqdm": None, "opencv-python-headless": None}
    _, found = examine(absent | {"pandas": "1.0"})
    assert found["package_missing"] == [
        f"tqdm {importlib.metadata.version('tqdm')}",
        "opencv-python-headless",
    ]
    assert found["package_version"] == [f"pandas 1.0, tested with {importlib.metadata.version('pandas')}"]


def test_versions_of_an_installed_package_come_from_its_metadata(monkeypatch, stub):
    metadata = {"segbalance": ["tqdm==4.70.1", 'onnx==1.23.2; extra == "export"', "pandas>=3"]}
    monkeypatch.setattr(environment, "CLONE", None)
    stub(importlib.metadata, "requires", metadata.get)
    assert environment.tested_versions() == {"tqdm": "4.70.1"}

    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    stub(importlib.metadata, "requires", missing)
    assert environment.tested_versions() == {}


def test_versions_of_a_clone_come_from_its_requirements():
    versions = environment.tested_versions()
    assert len(versions) >= 15 and versions["tensorflow"] == importlib.metadata.version("tensorflow")


@pytest.mark.parametrize(
    "probe, reason",
    [
        ("import no_such_tensorflow", "ModuleNotFoundError: No module named 'no_such_tensorflow'"),
        ("import os; os.abort()", "it ended with status -6"),
        ("raise ImportError('tf.keras is keras, expected tf_keras')", "tf.keras is keras, expected tf_keras"),
    ],
)
def test_a_tensorflow_that_is_missing_or_broken_is_said_and_survived(probe, reason, examine):
    facts, found = examine(probe=probe)
    assert list(found) == ["tensorflow_broken"] and reason in found["tensorflow_broken"][0]
    assert facts["tensorflow"] == f"cannot be used: {found['tensorflow_broken'][0]}"


def test_a_tensorflow_that_hangs(examine, monkeypatch):
    monkeypatch.setattr(environment, "SECONDS", 0.5)
    _, found = examine(probe="import time; time.sleep(60)")
    assert found == {"tensorflow_broken": ["it was not imported within 0.5 s"]}


def test_little_room_and_memory_an_old_python_and_no_gpu(examine):
    no_gpu = f"print({GOOD.replace(': 1', ': 0')!r})"
    _, found = examine(probe=no_gpu, free=1.0, memory=2.0, python=(3, 9, 1))
    assert found["little_memory"] == ["2.0 GB, expected at least 4"]
    assert len(found["little_disk"]) == 2 and "1.0 GB free, expected at least 5" in found["little_disk"][0]
    assert "expected 3.11 to 3.13" in found["python_version"][0]
    assert len(found["no_gpu"]) == 1 and len(found) == 4


def test_the_memory_of_this_machine():
    assert 0.1 < environment.memory_limit() < 100_000


@pytest.mark.slow
def test_the_real_tensorflow_is_described():
    done = subprocess.run(
        [sys.executable, "-c", environment.PROBE],
        cwd=environment.ROOT,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert '"keras mode": "tf_keras"' in done.stdout
