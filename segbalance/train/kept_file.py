"""The copy of a person's own file of transforms in the folder of a run, and whether it is still that file.

The copy is there to be read; nothing runs it but a person's own --transforms.
"""

import hashlib
import json
import shlex
from collections.abc import Iterable
from pathlib import Path

from segbalance.files.writing import write_atomically
from segbalance.train.config import TrainConfig
from segbalance.train.config_file import CONFIG, load_config
from segbalance.transforms.own_file import FILE, file_of


def keep_own_file(config: TrainConfig, folder: Path) -> None:
    """Makes the copy in the folder that of the config's file; to be called before config.yaml is written."""
    own = file_of(config.transforms.values())
    if own is not None:
        write_atomically(folder / FILE, own.source)
    elif Path(folder, CONFIG).is_file() and (copy := kept_file(load_config(folder), folder)):
        copy.unlink()


def kept_file(config: TrainConfig, folder: Path) -> Path | None:
    """The copy of the run's file, if it is there as it was when the run went by it."""
    copy, source = folder / FILE, config.filled_in.transforms_source
    if source is None or not copy.is_file() or hashlib.sha256(copy.read_bytes()).hexdigest() != source:
        return None
    return copy


def source_warnings(before: str | None, names: Iterable[str]) -> list[str]:
    """A warning, or none, where transforms do not come from the file that the run took them from.

    Args:
        before: hash of the run's file; None where it had none.
        names: stored names of the transforms now.
    """
    file = file_of(names)
    if before is None or (file and file.sha256 == before):
        return []
    what = f"{file.path} is not the file of the run" if file else "the run had a file of transforms, now none"
    return [f"warning: {what}: training may have seen other pixels"]


def transforms_of_the_run(own: TrainConfig, wanted: TrainConfig, folder: Path) -> str:
    """How to give --transforms as the run had them, in a sentence, where others were given."""
    if own.filled_in.transforms_source in (None, wanted.filled_in.transforms_source):
        return f"The run's own transforms: --transforms {shlex.quote(json.dumps(own.transforms))}."
    copy = kept_file(own, folder)
    way = "put it back as it was"
    if copy:
        way = f"the run folder keeps it as it was: --transforms {shlex.quote(str(copy))}"
    return f"The file of transforms says something else now, or is another; {way}."
