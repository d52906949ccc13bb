"""The machine and its packages: what training will run on."""

import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from segbalance.dataloader.pair_cache import cache_folder
from segbalance.doctor.diagnosis import Diagnosis
from segbalance.runtime.verbs import CLONE, COMMAND

ROOT = Path(__file__).resolve().parent.parent.parent
OPENCV = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
OLDEST, NEWEST = (3, 11), (3, 13)
LEAST_MEMORY = 4.0  # GB; TensorFlow alone takes 0.6, the tutorial's model and a batch of 32 several
LEAST_DISK = 5.0  # GB; the cache takes up to 4, a run's weights and logs a few hundred MB
SECONDS = 180  # until TensorFlow counts as hanging
# In a process of its own: a broken one may end the process that imports it.
PROBE = """
import json
from segbalance.legacy_keras import tf
import tf_keras
print(json.dumps({
    "tensorflow": tf.__version__,
    "tf-keras": tf_keras.__version__,
    "keras mode": tf.keras.Model.__module__.split(".")[0],
    "gpus": len(tf.config.list_physical_devices("GPU")),
}))
"""


def examine_environment(places: Iterable[str | Path], diagnosis: Diagnosis) -> dict[str, str]:
    """Looks at Python, its packages, TensorFlow, memory and disk, and records what is wrong.

    Args:
        places: folders to be written to; they need not exist yet.

    Returns:
        {fact: text}
    """
    facts = {"python": f"{platform.python_version()}  {sys.executable}"}
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        diagnosis.add("python_version", f"{platform.python_version()}, expected 3.11 to 3.13")
    _check_packages(diagnosis)
    facts |= _tensorflow(diagnosis)
    facts["opencv"] = _opencv(diagnosis)
    facts["cores"] = str(os.cpu_count() or "unknown")
    facts |= _memory(diagnosis)
    for place in dict.fromkeys([*map(Path, places), cache_folder()]):
        facts[f"disk at {place}"] = _disk(place, diagnosis)
    return facts


def installed_version(package: str) -> str | None:
    """The version of an installed package, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def tested_versions() -> dict[str, str]:
    """{package: version} of what the package needs itself.

    In a clone requirements.txt tells, which may be newer than what was installed; elsewhere the metadata of
    the installed package.
    """
    # An extra's have a marker behind the version: onnx==1.23.2; extra == "export"
    pinned = [re.fullmatch(r"([\w.-]+)==([^\s;]+)", line) for line in _requirements()]
    return {found[1]: found[2] for found in pinned if found}


def _requirements() -> list[str]:
    if CLONE:
        return (CLONE / "requirements.txt").read_text(encoding="utf-8").splitlines()
    try:
        return importlib.metadata.requires(COMMAND) or []
    except importlib.metadata.PackageNotFoundError:  # a copy of the folder alone
        return []


def _check_packages(diagnosis: Diagnosis) -> None:
    for package, tested in tested_versions().items():
        found = installed_version(package)
        if found is None and package not in OPENCV:
            diagnosis.add("package_missing", f"{package} {tested}")
        elif found not in (None, tested):
            diagnosis.add("package_version", f"{package} {found}, tested with {tested}")


def _opencv(diagnosis: Diagnosis) -> str:
    found = {package: version for package in OPENCV if (version := installed_version(package))}
    named = ", ".join(f"{package} {version}" for package, version in found.items())
    if not found:
        diagnosis.add("package_missing", "opencv-python-headless")
    elif len(found) > 1:
        diagnosis.add("opencv_twice", named)
    return named or "none"


def _tensorflow(diagnosis: Diagnosis) -> dict[str, str]:
    shown = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"}  # errors at once, for it may end the process
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROBE],
            cwd=ROOT, env=shown, capture_output=True, text=True, timeout=SECONDS,
        )  # fmt: skip
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"])[-1]
        else:
            found = json.loads(done.stdout.splitlines()[-1])
            if not found["gpus"]:
                diagnosis.add("no_gpu", platform.node() or "this one")
            return {name: str(value) for name, value in found.items()}
    except subprocess.TimeoutExpired:
        reason = f"it was not imported within {SECONDS} s"
    diagnosis.add("tensorflow_broken", reason)
    return {"tensorflow": f"cannot be used: {reason}"}


def _memory(diagnosis: Diagnosis) -> dict[str, str]:
    limit = memory_limit()
    if limit is None:
        return {"memory": "unknown"}
    if limit < LEAST_MEMORY:
        diagnosis.add("little_memory", f"{limit:.1f} GB, expected at least {LEAST_MEMORY:g}")
    return {"memory": f"{limit:.1f} GB"}


def memory_limit() -> float | None:
    """GB (2**30 bytes) that this process may take: the machine's, or its container's; None if not known."""
    try:
        found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    except (AttributeError, ValueError, OSError):  # Windows
        return None
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(path).read_text().strip()
        except OSError:  # no container, or one of the other kind
            continue
        found += [int(text)] if text.isdecimal() else []
    return min(found) / 2**30


def _disk(place: Path, diagnosis: Diagnosis) -> str:
    nearest = next(folder for folder in [place, *place.absolute().parents] if folder.exists())
    free = shutil.disk_usage(nearest).free / 2**30
    if free < LEAST_DISK:
        diagnosis.add("little_disk", f"{place}  {free:.1f} GB free, expected at least {LEAST_DISK:g}")
    return f"{free:.1f} GB free"
