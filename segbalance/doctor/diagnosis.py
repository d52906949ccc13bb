"""What the doctor found: each kind with its severity and way out, as text and as rows for JSON."""

import re
from collections.abc import Collection
from typing import Any, NamedTuple

from segbalance.data_processing.pairs import EXPECTED_LAYOUT
from segbalance.errors import Findings, listing
from segbalance.runtime.verbs import named

SEVERITIES = {
    "error": "make_csv_file or training would refuse",
    "warning": "training would run, on something that is probably wrong",
    "note": "worth knowing",
}


class Kind(NamedTuple):
    """A kind of finding: its severity, the sentence before the count, and what to do."""

    severity: str
    headline: str
    advice: str = ""


class Finding(NamedTuple):
    """One finding: where, in words, and the files that it is about, relative to the data root."""

    place: str
    paths: tuple[str, ...] = ()


# What make_csv_file says of the files: its headlines, under names that stay. Its advice comes with them.
CHECKED = {
    "folders without any image": "empty_folder",
    "files whose name is not UTF-8": "name_not_utf8",
    "files that differ only in extension": "same_name_twice",
    "files that cannot be decoded": "damaged_file",
    "pairs of which only one file has an EXIF rotation": "exif_rotation",
    "pairs of different size": "size_differs",
    "masks of an unusable type": "unusable_mask",
    "masks with transparent pixels": "transparent_mask",
    "masks that are a copy of their image": "mask_is_image",
}
FIX = f"{named('fix-masks')} writes corrected copies."
KINDS = {name: Kind("error", headline) for headline, name in CHECKED.items()} | {
    "layout": Kind("error", "folders that are not understood", EXPECTED_LAYOUT),
    "manifest_refused": Kind(
        "error",
        "manifests that training would refuse",
        f"Correct the rows, or make the manifests again with {named('prepare')} --overwrite.",
    ),
    "image_without_mask": Kind(
        "error",
        "images without mask",
        f"Add the masks, or pass --unpaired skip to {named('prepare')} to leave the images out.",
    ),
    "mask_without_image": Kind(
        "error",
        "masks without image",
        f"Add the images, or pass --unpaired skip to {named('prepare')} to leave the masks out.",
    ),
    "no_pairs": Kind("error", "data without a single pair to train on", EXPECTED_LAYOUT),
    "no_validation": Kind("error", "data that cannot be divided", "Add images, or a valid folder."),
    "mask_encoding_differs": Kind(
        "error",
        "masks whose foreground has another value than the rest's",
        f"Save all masks alike; {FIX}",
    ),
    "mask_with_several_values": Kind(
        "error",
        "masks of several grey values among plain ones",
        "Expected background and one value. Correct the masks, or say with --classes what each value means.",
    ),
    "mask_with_colours": Kind(
        "error",
        "masks in colours among grey ones",
        f"Save all masks alike; {FIX} Those of more than one colour need a table of the --classes.",
    ),
    "masks_unclear": Kind("error", "masks of unclear meaning", "Give a table of the --classes."),
    "no_foreground": Kind("error", "data whose masks are all empty", "Are these the right masks?"),
    "mask_value_unnamed": Kind(
        "error",
        "masks that hold values which --classes does not name",
        "Add these values to the table, or correct the masks (lossy JPEG masks must be PNG).",
    ),
    "duplicate_across_splits": Kind(
        "error",
        "photos that stand in more than one split, byte for byte",
        "Scores on them would be too good. Remove the copies from one side.",
    ),
    "same_pixels_across_splits": Kind(
        "warning",
        "photos that stand in more than one split, in files that differ",
        "Scores on them would be too good. Remove the copies from one side, or keep them together "
        "(--group_by).",
    ),
    "near_duplicate": Kind(
        "warning",
        "photos of validation or test that look like one to train on",
        "Look at them: a copy that was resized, brightened or compressed, or the next picture of a burst, "
        "makes scores too good. Remove it from one side, or keep such photos together (--group_by).",
    ),
    "duplicate_with_other_mask": Kind(
        "warning",
        "photos that stand there twice with different masks",
        "Training is told two truths. Keep the right mask.",
    ),
    "mask_reused": Kind(
        "warning",
        "masks that are the same for different photos",
        "Probably one mask was saved under two names. Put the right one there.",
    ),
    "coverage_outlier": Kind(
        "warning",
        "masks that cover far more or far less than is usual in their subset",
        "Look at them: a mask of another photo, half a mask, or a photo of another kind.",
    ),
    "inverted_mask": Kind(
        "warning",
        "masks that seem to be inverted",
        "The background seems to be marked, not the object. Invert the masks if so.",
    ),
    "blank_image": Kind("warning", "photos that show nothing", "Move photo and mask away."),
    "small_image": Kind(
        "warning",
        "very small photos",
        "They are enlarged many times for training. Replace them, move them away, or lower --smallest.",
    ),
    "huge_image": Kind(
        "warning",
        "very large photos",
        "Each takes long to read in every epoch. Shrink photo and mask, or raise --largest.",
    ),
    "extreme_aspect": Kind(
        "warning",
        "photos that are very much longer than wide",
        "Training squeezes them into a square. Cut them into pieces.",
    ),
    "names_differ_in_case": Kind(
        "warning",
        "files whose names differ only in upper and lower case",
        "Where names are not case-sensitive (Windows, macOS) one replaces the other. Rename them.",
    ),
    "duplicate_within_split": Kind(
        "note",
        "photos that stand in one split several times, with the same mask",
        "They are drawn that much oftener.",
    ),
    "empty_mask": Kind("note", "masks without any foreground", "Fine for photos without the object."),
    "full_mask": Kind("note", "masks that are all foreground", "Fine where the object fills the photo."),
    "grey_fringes": Kind(
        "note",
        "masks with grey fringes, as JPEG leaves them",
        f"They are read well, class 1 at or above 128; {FIX}",
    ),
    "other_files": Kind("note", "files of a type that is not read", "They are passed over."),
    "subset_without_validation": Kind(
        "note", "subsets without a photo for validation", "They get no score of their own."
    ),
    "not_in_manifests": Kind("note", "photos that the manifests leave out", "They are not trained on."),
    "python_version": Kind("error", "Python of another version", "Install Python 3.11 to 3.13."),
    "package_missing": Kind("error", "packages that are missing", "Run make setup."),
    "tensorflow_broken": Kind(
        "error",
        "TensorFlow that cannot be used",
        "Run make setup. Everything but training and prediction works without it.",
    ),
    "package_version": Kind(
        "warning", "packages of another version than was tested", "Run make setup to get the tested ones."
    ),
    "opencv_twice": Kind(
        "warning",
        "OpenCV installed by several packages at once",
        "They overwrite one another's files. Uninstall all of them, then run make setup.",
    ),
    "little_memory": Kind("warning", "machines with little memory", "Expect small batches only."),
    "little_disk": Kind("warning", "places with little room on the disk", "Free some, or choose others."),
    "no_gpu": Kind("note", "machines without a GPU that TensorFlow sees", "Training runs on the CPU."),
}


class Diagnosis:
    """Collects findings by kind; the kinds are sorted by severity, then in the order of KINDS."""

    def __init__(self) -> None:
        self._kinds = dict(KINDS)
        self._found: dict[str, list[Finding]] = {}

    def add(self, name: str, place: str, *paths: str) -> None:
        """Records a finding of the kind `name`; `paths` are the files that it is about."""
        self._found.setdefault(name, []).append(Finding(place, paths))

    def take(self, findings: Findings, paths: Collection[str]) -> None:
        """Records what make_csv_file's own checks found.

        Args:
            findings: errors.Findings, whose places begin with a file's path.
            paths: set of all paths.
        """
        for headline, places, advice in findings.kinds():
            name = CHECKED.get(headline) or re.sub(r"\W+", "_", headline)
            self._kinds[name] = Kind("error", headline, advice)
            for place in places:
                self.add(name, place, *leading_path(place, paths))

    def kinds(self) -> dict[str, tuple[Kind, list[Finding]]]:
        """{name: (Kind, list of Finding)} of what was found, the worst first."""
        severities, names = list(SEVERITIES), list(self._kinds)
        order = sorted(
            self._found, key=lambda name: (severities.index(self._kinds[name].severity), names.index(name))
        )
        return {name: (self._kinds[name], self._found[name]) for name in order}

    def count(self, severity: str) -> int:
        """Number of findings of this severity."""
        return sum(len(found) for kind, found in self.kinds().values() if kind.severity == severity)

    def summary(self) -> str:
        """As in «2 errors, 0 warnings, 1 note»."""
        counts = {severity: self.count(severity) for severity in SEVERITIES}
        return ", ".join(f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items())

    def text(self) -> str:
        """All kinds for people, the first ten places of each in full."""
        return "\n\n".join(
            f"{kind.severity}: {kind.headline}: {len(found)}  [{name}]\n"
            f"{listing([finding.place for finding in found])}\n{kind.advice}"
            for name, (kind, found) in self.kinds().items()
        )

    def rows(self) -> list[dict[str, Any]]:
        """list of dicts, one a finding."""
        return [
            {
                "severity": kind.severity,
                "kind": name,
                "place": finding.place,
                "paths": list(finding.paths),
                "advice": kind.advice,
            }
            for name, (kind, found) in self.kinds().items()
            for finding in found
        ]


def leading_path(place: str, paths: Collection[str]) -> tuple[str, ...]:
    """The longest of `paths` that `place` begins with, as a tuple; empty if there is none."""
    ends = (place[:end] for end in range(len(place), 0, -1))
    return next(((start,) for start in ends if start in paths), ())
