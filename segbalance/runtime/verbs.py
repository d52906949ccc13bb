"""The verbs of the command `segbalance`, the files that a clone has for them, and how to name either.

In a clone one types `python scripts/evaluate.py`, elsewhere `segbalance evaluate`. Whatever tells a person to
run something asks here, so that it names what this person has.
"""

import os
import re
import sys
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).resolve().parent.parent
# Where the package lies in a clone; None where it was installed.
CLONE = (
    PACKAGE.parent
    if all((PACKAGE.parent / name).is_file() for name in ("train.py", "pyproject.toml"))
    else None
)
COMMAND = "segbalance"


class Verb(NamedTuple):
    """What a verb does, in half a line, and the file that does it in a clone, if there is one."""

    purpose: str
    file: str | None


# In the order in which a newcomer needs them.
VERBS = {
    "demo": Verb("the whole way on rendered photos, in minutes", "scripts/demo.py"),
    "sample-data": Verb("make a practice data set", "scripts/make_sample_data.py"),
    "doctor": Verb("look for what is wrong with the machine and the data", "scripts/doctor.py"),
    "fix-masks": Verb("write corrected copies of masks", "scripts/fix_masks.py"),
    "prepare": Verb("folders -> manifests: check and split the data", "data_processing.py"),
    "preview": Verb("show what each way of balancing does to the data", "scripts/preview_balance.py"),
    "transforms": Verb("write a transforms.py to begin with", None),
    "train": Verb("manifests -> a run folder: train a network, or go on with a run", "train.py"),
    "evaluate": Verb("scores of a run: over the data, by subset, at every threshold", "scripts/evaluate.py"),
    "report": Verb("write the report of a run, one HTML page", "scripts/make_report.py"),
    "compare": Verb("compare runs on one page", "scripts/compare_runs.py"),
    "contact-sheet": Verb(
        "draw validation photos with true and predicted outlines", "scripts/contact_sheet.py"
    ),
    "predict": Verb("masks or labels for your own photos", "scripts/predict.py"),
    "export": Verb("a run's model to take away: SavedModel, TFLite, ONNX", "scripts/export_model.py"),
    "replay": Verb("draw a sample again as a training step saw it", "scripts/replay_sample.py"),
    "profile": Verb("find where the time of training goes", "scripts/profile_loader.py"),
    "compare-balance": Verb("train in several ways of balancing and compare", "scripts/compare_balance.py"),
    "verify-resume": Verb(
        "kill a tiny run again and again, resume it and compare", "scripts/verify_resume.py"
    ),
    "clear-cache": Verb("delete the decoded images that --cache disk keeps", "scripts/clear_cache.py"),
}
FILES = {verb.file: name for name, verb in VERBS.items() if verb.file}
FILE_NAMED = re.compile(rf"(?<![\w./-])(python\s+)?({'|'.join(map(re.escape, FILES))})\b")


def program() -> str | None:
    """What stands before the verb, as this process was started; None where a clone's files are typed."""
    started = Path(sys.argv[0] if sys.argv else "")
    if started == PACKAGE / "__main__.py":
        return f"python -m {COMMAND}"
    if started.name in (COMMAND, f"{COMMAND}.exe") or CLONE is None:
        return COMMAND
    return None


def typed(verb: str) -> str:
    """What one types to run the verb: `python scripts/evaluate.py` or `segbalance evaluate`.

    From outside of the clone with its path, as in `python ../clone/scripts/evaluate.py`.
    """
    file = VERBS[verb].file
    return f"python {in_clone(file)}" if file and program() is None else f"{program() or COMMAND} {verb}"


def in_clone(file: str) -> str:
    """The path of a clone's file as one types it in the working folder: the shortest, quoted for blanks."""
    path = file if CLONE is None else min(_ways_to(CLONE / file), key=len)
    return f'"{path}"' if " " in path else path


def _ways_to(path: Path) -> list[str]:
    """The path from the working folder, where there is a way, and the whole path."""
    try:
        return [os.path.relpath(path), str(path)]
    except (OSError, ValueError):  # the working folder is gone, or is on another drive of Windows
        return [str(path)]


def named(verb: str) -> str:
    """The verb's command in a sentence: `scripts/evaluate.py` or `segbalance evaluate`."""
    file = VERBS[verb].file
    return file if file and program() is None else typed(verb)


def usage(verb: str) -> str:
    """What stands after `usage:` in the verb's help: `evaluate.py` or `segbalance evaluate`."""
    return named(verb).removeprefix("scripts/")


def extra(name: str) -> str:
    """What `pip install` takes for the packages of an extra: `-e ".[export]"` or `"segbalance[export]"`."""
    return f'"{COMMAND}[{name}]"' if program() else f'-e ".[{name}]"'


def as_typed_here(text: str) -> str:
    """Our own text that names a clone's files, such as a docstring, with the names for where we are."""
    if program() is None:
        return text
    return FILE_NAMED.sub(lambda found: (typed if found[1] else named)(FILES[found[2]]), text)
