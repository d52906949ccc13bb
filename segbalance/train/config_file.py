"""Options from the command line and from YAML files, and the config.yaml of a run."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from segbalance.data_processing.tasks import TASKS
from segbalance.errors import InputError
from segbalance.files.writing import write_atomically
from segbalance.model.loss_terms import DEFAULT_LOSS
from segbalance.runtime.command_line import Options, checked_values, parse_options
from segbalance.runtime.plain_yaml import read_options
from segbalance.runtime.verbs import named, usage
from segbalance.train.config import FilledIn, TrainConfig
from segbalance.train.trust import trusted_transforms

CONFIG = "config.yaml"
FILLED_IN = "filled_in"
# What train.py fills in where nothing is given, so that every run has it.
RESOLVED = ("data_root", "working_size", "steps_per_epoch", "transforms")


def parse_config(
    options_class: type[Options],
    argv: Sequence[str],
    *,
    prog: str,
    description: str,
    first: Sequence[str] = (),
) -> Options:
    """The options of a command that takes those of train.py, from the command line and --config.

    Args:
        options_class: TrainConfig, or a dataclass with a field of that type.
        first: as for `parse_options`.

    Raises:
        InputError: as `parse_options` does, with the file that is wrong; or a file, which may come from
            elsewhere, names transforms that are code and that the command line does not name.
    """
    stored: dict[str, Any] = {}
    filled_in = FilledIn()
    own_words = any(word.partition("=")[0] == "--transforms" for word in argv)
    for path in _config_files(argv):
        values, found = stored_values(path)
        try:
            checked = checked_values(options_class, values)
        except InputError as error:
            raise InputError(f"--config {path}: {error}") from None
        if not own_words:
            trusted_transforms(checked["transforms"], None, f"--config {path}")
        stored |= values
        filled_in = found if found.fingerprint is not None else filled_in
    return parse_options(
        options_class,
        argv,
        prog=prog,
        description=description,
        stored=stored,
        given={FILLED_IN: filled_in},
        first=first,
    )


def stored_values(path: str | Path) -> tuple[dict[str, Any], FilledIn]:
    """(options by name, FilledIn) of a YAML file, whatever version of this project wrote it.

    Raises:
        InputError: the file is more than plain data, or what a run filled in is not understood.
    """
    values = read_options(path)
    filled_in = values.pop(FILLED_IN, {})
    if not isinstance(filled_in, dict):
        raise InputError(f"{path}: {FILLED_IN} is {filled_in!r}, expected what a run filled in, by name")
    for field in dataclasses.fields(FilledIn):  # earlier versions had them among the options
        if field.name in values:
            filled_in[field.name] = values.pop(field.name)
    filled_in = FilledIn(**checked_values(FilledIn, filled_in))
    if filled_in.fingerprint is not None:  # of a run, perhaps from before there was a choice
        values |= {
            name: values.get(name) or value for name, value in (("task", TASKS[0]), ("loss", DEFAULT_LOSS))
        }
    return values, filled_in


def _config_files(argv: Sequence[str]) -> list[str]:
    """The values of --config among the words of a command line."""
    after = [word for before, word in zip(argv, argv[1:], strict=False) if before == "--config"]
    return after + [word.partition("=")[2] for word in argv if word.startswith("--config=")]


class ConfigDumper(yaml.SafeDumper):
    """Quotes text that a reader may take for a number: a class may be called 1e3."""

    def represent_str(self, text: str) -> yaml.ScalarNode:
        try:
            float(text)
        except ValueError:
            return super().represent_str(text)
        return self.represent_scalar("tag:yaml.org,2002:str", text, style="'")


ConfigDumper.add_representer(str, ConfigDumper.represent_str)


def save_config(config: TrainConfig, work_dir: str | Path) -> None:
    """Writes config.yaml, which `train.py --config` and `load_config` read."""
    content = config.options() | {FILLED_IN: dataclasses.asdict(config.filled_in)}
    text = yaml.dump(content, Dumper=ConfigDumper, sort_keys=False, allow_unicode=True)
    write_atomically(Path(work_dir, CONFIG), text)


def load_config(work_dir: str | Path) -> TrainConfig:
    """The checked TrainConfig of a run folder.

    Raises:
        InputError: the folder holds no run, or its config.yaml is damaged or of another version.
    """
    path = Path(work_dir, CONFIG)
    if not path.is_file():
        raise InputError(
            f"{work_dir} has no {CONFIG}; expected the folder of a run ({named('train')} --work_dir)"
        )
    try:
        stored, filled_in = stored_values(path)
        config = parse_options(
            TrainConfig, [], prog=usage("train"), description="", stored=stored, given={FILLED_IN: filled_in}
        )
    except InputError as error:
        text = str(error)
        raise InputError(text if text.startswith(str(path)) else f"{path}: {text}") from None
    options = config.options()
    missing = [name for name in RESOLVED if options[name] is None]
    if missing:
        raise InputError(
            f"{path} says nothing about {', '.join(missing)}; expected the config.yaml that "
            f"{named('train')} wrote into the folder of a run. Train again with {named('train')} --config."
        )
    return config
