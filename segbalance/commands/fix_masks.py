"""Writes corrected copies of masks to a new folder: clean values, one encoding, upright.

The data stays as it is.
"""

import shlex
import shutil
import tempfile
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from segbalance.data_processing.class_table import read_classes
from segbalance.data_processing.inspection import inspect_pairs
from segbalance.data_processing.mask_encoding import has_fringes, usual_encoding
from segbalance.data_processing.pairs import Folders, find_folders, find_pairs
from segbalance.doctor.mask_fixes import suspects, write_fixes
from segbalance.errors import Findings, InputError, listing
from segbalance.files.data_root import LEADS_OUT
from segbalance.files.images import walk_files
from segbalance.files.writing import check_writable, write_json
from segbalance.runtime.command_line import command, parse_options
from segbalance.runtime.verbs import named, typed, usage
from segbalance.sample_data.rendering import refuse_filled


@dataclass(frozen=True)
class FixOptions:
    """What to correct, and where to write it.

    Args:
        data_root: Folder of the data, in either layout.
        output: Folder for the corrected copies, new or empty, outside of the data.
        mask_suffix: What masks' names have behind their image's, such as _mask in photo_mask.png.
        classes: CSV table id,name,colour for masks of unclear meaning.
        drawn_on: Whether masks were drawn on their photos as stored or as displayed, for pairs of which only
            one file has an EXIF rotation and whose sizes do not tell.
        complete: Copy all other images and masks too, so that the output is a data root of its own.
        json: File for the printed table as JSON.
    """

    data_root: str
    output: str
    mask_suffix: str = ""
    classes: str | None = None
    drawn_on: Literal["stored", "displayed"] | None = None
    complete: bool = False
    json: str | None = None


Fixes = list[dict[str, Any]]  # what was written, as `write_fixes` returns it
Left = list[dict[str, str]]  # what is left to a person


def fix_masks(options: FixOptions) -> tuple[Fixes, Left]:
    """Writes the corrected copies, all or none.

    Returns:
        (what was written, what is left to a person), as `write_fixes` returns them.

    Raises:
        InputError: the options are wrong, the masks are not plain, or the output cannot be written.
    """
    data_root, output = Path(options.data_root).resolve(), Path(options.output).resolve()
    folders = find_folders(data_root)
    if output.is_relative_to(data_root):
        raise InputError(f"--output {options.output} lies in the data itself; choose a folder outside of it")
    refuse_filled(output)
    check_writable("--output", output.parent)
    search = find_pairs(data_root, folders, options.mask_suffix)
    if search.outside:
        places = [f"{path} -> {real}" for path, real in sorted(search.outside.items())]
        raise InputError(
            f"{LEADS_OUT}: {len(places)}\n{listing(places)}\n"
            "Copies of them would bring what they show into the output. Put the files into the data root."
        )
    pairs, findings = search.pairs, Findings()
    table = read_classes(options.classes) if options.classes else None
    if table and not table.is_binary:
        raise InputError(
            f"--classes {options.classes} names {len(table.classes)} classes; corrections are made for masks "
            f"of foreground and background alone. {named('doctor')} shows what is wrong with the others."
        )
    facts = inspect_pairs(data_root, pairs, findings)
    summaries = {pair.mask: fact.mask for pair, fact in facts.items()}
    if not summaries:
        raise InputError(
            f"--data_root {data_root}: no pair of image and mask can be read. {named('doctor')} lists why."
        )
    encoding = table.encoding(summaries.values()) if table else usual_encoding(summaries)[0]
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as unfinished:
            folder = Path(unfinished, output.name)
            wrong = suspects(pairs, facts, findings, encoding)
            fringed = has_fringes(summaries)
            written, left = write_fixes(data_root, wrong, folder, encoding, fringed, options.drawn_on)
            if written:
                if options.complete:
                    _copy_the_rest(data_root, folders, folder, {row["replaces"] for row in written})
                if output.exists():
                    output.rmdir()
                folder.rename(output)
    except OSError as error:
        raise InputError(f"--output {output} cannot be written: {error.strerror or error}") from None
    return written, left


def _copy_the_rest(
    data_root: Path, folders: Sequence[Folders], output: Path, replaced: Collection[str]
) -> None:
    """Copies the files of the images and masks folders that have no corrected copy."""
    for place in folders:
        for top in (place.images, place.masks):
            for path in walk_files(data_root / top):
                if f"{top}/{path}" not in replaced:
                    target = Path(output, top, path)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(data_root / top / path, target)


def totals(written: Fixes) -> list[dict[Hashable, Any]]:
    """Files, pixels and changed pixels of each rule."""
    if not written:
        return []
    table = pd.DataFrame(written).groupby("rule", sort=True)
    sums = table[["pixels", "changed"]].sum().assign(files=table.size()).reset_index()
    return sums[["rule", "files", "pixels", "changed"]].to_dict("records")


def _print_report(options: FixOptions, written: Fixes, left: Left) -> None:
    if written:
        table = pd.DataFrame(written).rename(columns={"changed": "pixels changed"})
        lines = table.drop(columns="replaces").to_string(index=False).splitlines()
        print(lines[0])
        print(listing([line.strip() for line in lines[1:]], 40))
        print("\nin all")
        print(
            pd.DataFrame(totals(written)).rename(columns={"changed": "pixels changed"}).to_string(index=False)
        )
    else:
        print("no mask needs a correction that can be made here; nothing was written")
    if left:
        lines = [f"{row['file']}  {row['reason']}" for row in left]
        print(f"\nleft to you: {len(left)}\n{listing(lines)}")
    if written:
        print(f"\nwrote {options.output}\n{_next_step(options, written)}")


def _next_step(options: FixOptions, written: Fixes) -> str:
    data, output = shlex.quote(options.data_root), shlex.quote(options.output)
    suffix = f" --mask_suffix {shlex.quote(options.mask_suffix)}" if options.mask_suffix else ""
    classes = f" --classes {shlex.quote(options.classes)}" if options.classes else ""
    if options.complete:
        return f"next: {typed('prepare')} --data_root {output}{suffix}{classes}"
    renamed = sum(row["file"] != row["replaces"] for row in written)
    hint = f"; {renamed} of them replace files of another name, which must go" if renamed else ""
    return (
        f"These are the corrected copies alone{hint}. For a data root with everything in it:\n"
        f"next: {typed('fix-masks')} --data_root {data} --output {output}_complete --complete"
        f"{suffix}{classes}{f' --drawn_on {options.drawn_on}' if options.drawn_on else ''}"
    )


@command
def main(argv: list[str]) -> None:
    """Writes the corrected copies and prints what was changed."""
    options = parse_options(FixOptions, argv, prog=usage("fix-masks"), description=__doc__)
    if options.json:
        check_writable("--json", Path(options.json).parent)
    written, left = fix_masks(options)
    _print_report(options, written, left)
    if options.json:
        write_json(options.json, {"files": written, "totals": totals(written), "left": left})
