"""Where a stopped run goes on, and whether it may: the same config, the same manifests, the same code."""

import dataclasses
import hashlib
import importlib.metadata
import platform
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from segbalance.data_processing.classes import names_of
from segbalance.data_processing.description import MANIFEST
from segbalance.data_processing.manifest import Manifest
from segbalance.errors import Findings, InputError
from segbalance.files.writing import json_text
from segbalance.runtime.verbs import PACKAGE
from segbalance.train.checkpoints import Checkpoint, newest_checkpoint
from segbalance.train.config import TrainConfig
from segbalance.train.config_file import load_config
from segbalance.train.kept_file import source_warnings, transforms_of_the_run
from segbalance.transforms.choice import is_built_in
from segbalance.transforms.pipelines import CHANGES

# Options that decide neither on a batch nor on a weight; a resumed run may have others.
FREE = (
    "data_root csv_dir work_dir cache cache_gb num_workers log save_every epochs on_bad_file max_bad_files "
    "allow_outside max_pixels report max_minutes"
).split()
LIBRARIES = (
    "tensorflow tf-keras segmentation-models albumentations opencv-python-headless numpy scipy pillow"
).split()
STATE_VERSION = 1
PIPELINE = "transform "  # and a built-in pipeline's name: the key of its version
Digests = Mapping[str, Sequence[Any]]  # {table: [rows, hash]}, also as read from a checkpoint
MEANING = "meaning"  # of the masks, among the digests; a subset's begins with "train"


@dataclass(frozen=True)
class Resumption:
    """How a run goes on.

    Args:
        checkpoint: None where the run stopped before its first.
        exact: False where --force let another config or manifest through; the draws then begin anew with
            the epoch that was interrupted.
    """

    checkpoint: Checkpoint | None
    exact: bool = True

    @property
    def state(self) -> dict[str, Any] | None:
        """Content of the checkpoint's state.json, or None."""
        return self.checkpoint.state if self.checkpoint else None

    def step(self, steps_per_epoch: int) -> int:
        """The first step that is still to be made, counted from 0."""
        if self.state is None:
            return 0
        return self.state["step"] if self.exact else self.state["epoch"] * steps_per_epoch


def resumed_config(
    folder: str | Path, wanted: TrainConfig, force: bool
) -> tuple[TrainConfig, Resumption, list[str]]:
    """The config with which the run in `folder` goes on.

    Args:
        wanted: the run's own with what the command line changes.
        force: whether to let another config through.

    Returns:
        (TrainConfig, Resumption, warnings)

    Raises:
        InputError: the folder holds no run, or it may not go on like this.
    """
    folder = Path(folder)
    own = load_config(folder)
    checkpoint, problems = newest_checkpoint(folder)
    if checkpoint and checkpoint.state.get("version") != STATE_VERSION:
        raise InputError(
            f"{checkpoint.path} is of version {checkpoint.state.get('version')}, expected {STATE_VERSION}. "
            "Go on with the version of this project that wrote it."
        )
    warnings = [f"warning: {problem}; going on from the one before" for problem in problems]
    place = wanted.run.work_dir
    if place and place != own.run.work_dir and Path(place).resolve() != folder.resolve():
        raise InputError(f"--resume {folder} continues the run in that folder. Leave out --work_dir {place}")
    changed = differences(own, wanted)
    if changed and not force:
        listed = "\n".join(f"  {line}" for line in changed)
        raise InputError(
            f"--resume {folder} must keep the options of the run, but these differ:\n{listed}\n"
            f"{_way_out(own, wanted, folder)}, or begin a new run; --force continues anyway."
        )
    chosen, now = own.optimisation.best_by, wanted.optimisation.best_by
    if checkpoint and chosen != now:
        raise InputError(
            f"--resume {folder} would choose the best epoch by {now}, but the run has kept only the weights "
            f"that are best by {chosen}; not even --force can choose again. Leave --best_by out, or begin a "
            "new run."
        )
    warnings += [f"warning: going on with {line} (--force)" for line in changed]
    if checkpoint:
        versions_then = checkpoint.state["versions"]
        warnings += version_warnings(versions_then, wanted.filled_in.transforms_source)
        warnings += pipeline_warnings(versions_then, pipelines_of(own, checkpoint.state["manifest"]))
        wanted = _with_decay(own, wanted, checkpoint.state)
    else:
        warnings += source_warnings(own.filled_in.transforms_source, wanted.transforms.values())
    wanted = wanted.replace(work_dir=str(folder.resolve()))
    return wanted, Resumption(checkpoint, exact=not changed), warnings


def differences(own: TrainConfig, wanted: TrainConfig) -> list[str]:
    """Lines that name each option that decides on the training and is not the same."""
    now = wanted.options()
    return [
        f"{name}: {value} in the run, {now[name]} now"
        for name, value in own.options().items()
        if name not in FREE and value != now[name]
    ]


def _way_out(own: TrainConfig, wanted: TrainConfig, folder: Path) -> str:
    """What to do about options that differ, up to the comma."""
    names = own.data.transforms
    if (
        names == wanted.data.transforms
        or not isinstance(names, dict)
        or all(map(is_built_in, names.values()))
    ):
        return "Leave these options out"
    return f"{transforms_of_the_run(own, wanted, folder)} Leave other options out"


def _with_decay(own: TrainConfig, wanted: TrainConfig, state: Mapping[str, Any]) -> TrainConfig:
    """The config, with a decay of its own for another number of epochs."""
    if wanted.optimisation.epochs == own.optimisation.epochs:
        return wanted
    if wanted.optimisation.epochs < state["epoch"]:
        raise InputError(
            f"--epochs {wanted.optimisation.epochs}: the run has finished {state['epoch']} epochs already. "
            "Give at least as many."
        )
    return wanted.replace(decay_start=state["step"])


def manifest_digests(manifest: Manifest) -> Digests:
    """{table: [rows, hash]} of what decides on batches and scores: every subset, and `valid`.

    Under MEANING, in place of rows, the number of classes, and a hash of how masks encode them.
    """
    tables = {f"train{name}": table for name, table in manifest.train.items()} | {"valid": manifest.valid}
    names = list(names_of(manifest.classes))
    meaning = json_text([names, manifest.encoding.to_dict()]).encode("utf-8", "surrogateescape")
    digests: dict[str, Sequence[Any]] = {
        name: [len(table), _rows_hash(table)] for name, table in tables.items()
    }
    return digests | {MEANING: [len(names) or 2, hashlib.sha256(meaning).hexdigest()]}


def _rows_hash(table: pd.DataFrame) -> str:
    digest = hashlib.sha256()
    for column in [name for name in ("images", "masks", "type") if name in table]:  # labels are the type
        digest.update("\n".join([*table[column], ""]).encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()


def check_manifest(
    folder: str | Path, resumption: Resumption, digests: Callable[[], Digests], force: bool
) -> tuple[Resumption, list[str]]:
    """The Resumption with these manifests, and warnings.

    Args:
        digests: function without arguments that gives their `manifest_digests`.

    Raises:
        InputError: they are not those of the run, and `force` is False.
    """
    if resumption.state is None:
        return resumption, []
    findings = Findings()
    before, current = resumption.state["manifest"], digests()
    if MEANING not in before:  # of a run that an earlier version began
        current = {name: digest for name, digest in current.items() if name != MEANING}
    for name in sorted(before.keys() | current.keys()):
        (rows, content), (now, other) = before.get(name, (0, "")), current.get(name, (0, ""))
        if content != other:
            place, things = (MANIFEST, "classes") if name == MEANING else (f"{name}.csv", "rows")
            what = f"{rows} {things} in the run, {now} now" if rows != now else f"{rows} {things}, but others"
            findings.add(
                f"--resume {folder} would go on with manifests other than the run's; files that differ",
                f"{place}: {what}",
                "Put them back as they were, or begin a new run; --force continues anyway.",
            )
    if not findings:
        return resumption, []
    if not force:
        findings.raise_if_any()
    return dataclasses.replace(resumption, exact=False), [f"warning: {findings.message()}"]


def versions(transforms_source: str | None = None) -> dict[str, str]:
    """{name: version} of what computes a training step; `code` is a hash of this project's modules.

    Built-in pipelines whose meaning has changed have versions of their own.

    Args:
        transforms_source: of the config: hash of the file that transforms come from, None where none do.
    """
    libraries = {name: importlib.metadata.version(name) for name in LIBRARIES}
    own = {"code": code_hash()}
    if transforms_source:
        own["transforms_file"] = transforms_source[:16]
    own |= {f"{PIPELINE}{name}": str(1 + len(changes)) for name, changes in CHANGES.items()}
    return {"python": platform.python_version()} | own | libraries


def code_hash(package: Path = PACKAGE) -> str:
    """16 hexadecimal digits of a hash of the package's modules, in all its rooms."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def version_warnings(before: Mapping[str, str], transforms_source: str | None = None) -> list[str]:
    """A warning that names what changed since `versions()` gave `before`, or none."""
    now = versions(transforms_source)
    changed = [
        f"{name} {before.get(name, 'none')} then, {now.get(name, 'none')} now"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name) and not name.startswith(PIPELINE)
    ]
    if not changed:
        return []
    return [f"warning: the rest of the run may not be what it would have been: {'; '.join(changed)}"]


def pipelines_of(config: TrainConfig, digests: Digests) -> set[str]:
    """Stored names of the transforms that the subsets of a run have; `digests` are those of its manifests."""
    choice = config.transforms
    subsets = [name.removeprefix("train") for name in digests if name.startswith("train")]
    return {choice.get(subset, choice.get("default", "train")) for subset in subsets}


def pipeline_warnings(before: Mapping[str, str], names: Collection[str]) -> list[str]:
    """A warning that names the built-in pipelines whose meaning changed since `versions()` gave `before`.

    Args:
        names: stored names of the run's transforms.
    """
    since = {name: CHANGES.get(name, ())[int(before.get(f"{PIPELINE}{name}", 1)) - 1 :] for name in names}
    changed = [f"{name} ({'; '.join(changes)})" for name, changes in sorted(since.items()) if changes]
    if not changed:
        return []
    return [
        f"warning: built-in transforms have changed since the run began: {', '.join(changed)}. What is left "
        "of the run is augmented in the new way; the code that began it goes on in the old one."
    ]
