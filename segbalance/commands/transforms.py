"""Writes a transforms.py to begin with: which subset gets which transforms, and an example of one's own.

    segbalance transforms --output my_transforms.py
    segbalance train --transforms my_transforms.py

A clone has one already, which its train.py reads.
"""

import importlib.resources
from dataclasses import dataclass
from pathlib import Path

from segbalance.errors import InputError
from segbalance.files.writing import check_output, write_atomically
from segbalance.runtime.command_line import command, parse_options
from segbalance.runtime.verbs import usage


@dataclass(frozen=True)
class TemplateOptions:
    """Options of the command.

    Args:
        output: Python file to write.
        overwrite: Replace a file that is there.
    """

    output: str
    overwrite: bool = False

    def __post_init__(self) -> None:
        if not self.output.endswith(".py"):
            raise InputError(f"output must be a file that ends in .py, got {self.output!r}")


def template() -> bytes:
    """What the file holds, byte by byte the transforms.py of a clone."""
    return importlib.resources.files("segbalance.transforms").joinpath("template.py").read_bytes()


@command
def main(argv: list[str]) -> None:
    """Writes the file."""
    options = parse_options(TemplateOptions, argv, prog=usage("transforms"), description=__doc__)
    check_output("--output", options.output)
    if Path(options.output).exists() and not options.overwrite:
        raise InputError(f"--output {options.output} already exists. Choose another, or pass --overwrite.")
    write_atomically(Path(options.output), template())
    print(f"wrote {options.output}; train with --transforms {options.output}")
