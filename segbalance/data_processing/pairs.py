"""Pairs of image and mask, found in the folders of a data set."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from segbalance.errors import Findings, InputError
from segbalance.files import images as image_files
from segbalance.files.data_root import LEADS_OUT, STAY_INSIDE, DataRoot
from segbalance.runtime.verbs import named

SPLITS = {"train": "train", "valid": "valid", "val": "valid", "validation": "valid", "test": "test"}
EXPECTED_LAYOUT = (
    "Expected train/images/<subset>/ with train/masks/<subset>/ (and valid/...), "
    "or Images/<subset>/ with Masks/<subset>/."
)


@dataclass(frozen=True)
class Folders:
    """Where the images and masks of one split lie, relative to the data root; no `split` if undivided."""

    split: str | None
    images: str
    masks: str


class Pair(NamedTuple):
    """One image and its mask, paths relative to the data root with `/`."""

    split: str | None
    folder: str
    image: str
    mask: str


def find_folders(data_root: str | Path) -> list[Folders]:
    """The images and masks folders below `data_root` (list of Folders), in either of the two layouts.

    Raises:
        InputError: the data root is missing, or holds neither layout or both.
    """
    check_data_root(data_root)
    flat = _images_and_masks(data_root, "", None)
    divided: list[Folders] = []
    for name in folder_names(data_root):
        if name.lower() in SPLITS:
            divided += _images_and_masks(data_root, name, SPLITS[name.lower()])
    if flat and divided:
        raise InputError(
            f"--data_root {data_root} holds both layouts: {flat[0].images}/ and {divided[0].images}/. "
            f"{EXPECTED_LAYOUT} Move one of them away."
        )
    if flat:
        return flat
    found = folder_names(data_root)
    if not any(folders.split == "train" for folders in divided):
        names = ", ".join(found[:10]) or "no folders"
        raise InputError(
            f"--data_root {data_root}: no images found there. {EXPECTED_LAYOUT} Found: {names}."
            f"{_classification_hint(data_root)}"
        )
    for name in found:
        split = SPLITS.get(name.lower())
        masks = split and "masks" in map(str.lower, folder_names(Path(data_root, name)))
        if (split == "valid" or masks) and not _images_and_masks(data_root, name, split):
            raise InputError(f"{Path(data_root, name)} has no images folder. {EXPECTED_LAYOUT}")
    return divided


def check_data_root(data_root: str | Path) -> None:
    """Raises InputError where there is no such folder, or where its name cannot stand in a manifest."""
    if not os.path.isdir(data_root):
        raise InputError(f"--data_root {data_root}: there is no such folder")
    if not _is_utf8(str(data_root)):
        advice = "Rename the folder; manifests are UTF-8."
        raise InputError(f"--data_root {ascii(str(data_root))}: the name is not UTF-8. {advice}")


def _classification_hint(data_root: str | Path) -> str:
    """A sentence about --task where images lie as a folder for each class, else nothing."""
    training = [name for name in folder_names(data_root) if SPLITS.get(name.lower()) == "train"]
    parent = Path(data_root, *training[:1])
    classes = [name for name in folder_names(parent) if _images_directly_in(Path(parent, name))]
    if len(classes) < 2:
        return ""
    shown = ", ".join(classes[:5]) + (", ..." if len(classes) > 5 else "")
    return (
        f" If the folders are classes of images ({shown}), make manifests of a classification: "
        f"{named('prepare')} --task classification."
    )


def _images_directly_in(folder: str | Path) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if image_files.is_image_name(name)]
    except OSError:  # a hint is not worth an error
        return []


def folder_names(folder: str | Path) -> list[str]:
    """The folders in a folder, sorted; those of operating systems are passed over."""
    return sorted(
        entry.name
        for entry in os.scandir(folder)
        if entry.is_dir() and not image_files.is_system_name(entry.name)
    )


def _images_and_masks(data_root: str | Path, parent: str, split: str | None) -> list[Folders]:
    names = {name.lower(): name for name in folder_names(Path(data_root, parent))}
    for name in folder_names(Path(data_root, parent)):
        if name.lower() in ("images", "masks") and names[name.lower()] != name:
            both = f"{name}/ and {names[name.lower()]}/"
            raise InputError(f"{Path(data_root, parent)} holds both {both}. Expected one of them; join them.")
    if "images" not in names:
        return []
    images = Path(parent, names["images"]).as_posix()
    if "masks" not in names:
        raise InputError(f"{Path(data_root, images)} has no masks folder beside it. {EXPECTED_LAYOUT}")
    return [Folders(split, images, Path(parent, names["masks"]).as_posix())]


def subset_folder(relative: str) -> str:
    """The first folder of a path below the images folder, `all` for images that lie directly in it."""
    first, slash, _ = relative.partition("/")
    return first if slash else "all"


@dataclass
class Search:
    """What `find_pairs` found.

    Args:
        pairs: what has both.
        images: number of images seen.
        unpaired: {path: what was expected} of images and masks without partner.
        others: paths of files that are no images.
        outside: {path of a symbolic link: where it leads} of those that lead out of the data root.
        findings: what cannot be paired at all.
    """

    pairs: list[Pair] = field(default_factory=list)
    images: int = 0
    unpaired: dict[str, str] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    outside: dict[str, str] = field(default_factory=dict)
    findings: Findings = field(default_factory=Findings)


def find_pairs(
    data_root: str | Path, folders: Sequence[Folders], mask_suffix: str = "", *, allow_outside: bool = False
) -> Search:
    """Pairs the files of `folders` (list of Folders) by relative path without extension.

    Args:
        mask_suffix: what the masks' names have behind the images', as `_mask` in photo_mask.png.
        allow_outside: True follows symbolic links that lead out of the data root; otherwise these are
            findings, and their pairs are left out.
    """
    search, root = Search(), DataRoot(data_root, allow_outside=allow_outside)
    leads_out = link_guard(root, search.outside)
    for place in folders:
        places = [Path(root.folder, folder) for folder in (place.images, place.masks)]
        if any([leads_out(folder) for folder in places]):
            continue
        images = _by_stem(search, root.folder, place.images, "", leads_out)
        masks = _by_stem(search, root.folder, place.masks, mask_suffix, leads_out)
        search.images += len(images)
        others = {path.rpartition(".")[0]: path for path in search.others}
        for stem in sorted(images.keys() & masks.keys()):
            search.pairs.append(Pair(place.split, subset_folder(stem), images[stem], masks[stem]))
        for stem in sorted(images.keys() - masks.keys()):
            expected = f"{place.masks}/{stem}{mask_suffix}.png (or {', '.join(image_files.EXTENSIONS[1:])})"
            other = _other_type(others.get(f"{place.masks}/{stem}{mask_suffix}"))
            search.unpaired[images[stem]] = f"expected {expected}{other}"
        for stem in sorted(masks.keys() - images.keys()):
            other = _other_type(others.get(f"{place.images}/{stem}"))
            search.unpaired[masks[stem]] = f"expected an image {place.images}/{stem}.*{other}"
        for empty in image_files.empty_folders(places[0], leads_out):
            relative = Path(empty).relative_to(root.folder).as_posix()
            search.findings.add("folders without any image", relative, "Delete them, or put images in.")
    search.pairs = [pair for pair in search.pairs if search.outside.keys().isdisjoint(pair[2:])]
    for link, real in search.outside.items():
        search.findings.add(LEADS_OUT, f"{link} is {real}", STAY_INSIDE)
    return search


def link_guard(root: DataRoot, outside: dict[str, str]) -> Callable[[str | Path], bool]:
    """The `leads_out` of walk_files: True for a link out of the DataRoot.

    Args:
        outside: dict that gets {path of the link, relative to the root: where it leads}.
    """

    def leads_out(link: str | Path) -> bool:
        real = root.outside(link)
        if real is not None:
            outside[Path(link).relative_to(root.folder).as_posix()] = real
        return real is not None

    return leads_out


def _other_type(path: str | None) -> str:
    return f"; {path} has an unsupported type" if path else ""


def _by_stem(
    search: Search, data_root: str, folder: str, suffix: str, leads_out: Callable[[str | Path], bool]
) -> dict[str, str]:
    """{relative path without extension and suffix: path from the data root} of the images in `folder`."""
    found: dict[str, str] = {}
    for relative in image_files.walk_files(Path(data_root, folder), leads_out):
        path = f"{folder}/{relative}"
        stem = relative.rpartition(".")[0]
        key = stem.removesuffix(suffix)
        if has_bad_name(path, search.findings):
            continue
        if not image_files.is_image_name(relative):
            search.others.append(path)
        elif not stem.endswith(suffix):
            search.unpaired[path] = f"expected a name that ends in {suffix} (--mask_suffix)"
        elif key in found:
            both = f"{found[key]} and {path}"
            search.findings.add("files that differ only in extension", both, "Keep one of each.")
        else:
            found[key] = path
    return found


def has_bad_name(path: str, findings: Findings) -> bool:
    """Whether a path cannot stand in a manifest, which is then added to `findings`."""
    if not _is_utf8(path):
        advice = "Rename the files; manifests are UTF-8."
        findings.add("files whose name is not UTF-8", ascii(path), advice)
    elif "\r" in path:
        advice = "Rename the files; in a manifest it would end the row."
        findings.add("files with a carriage return in their name", repr(path), advice)
    else:
        return False
    return True


def likely_suffix(unpaired: Iterable[str]) -> str | None:
    """The most frequent ending that, taken off unpaired masks, gives unpaired images' names; or None."""
    stems = [Path(path).stem for path in unpaired]
    known = set(stems)
    endings = Counter(stem[cut:] for stem in stems for cut in range(1, len(stem)) if stem[:cut] in known)
    return endings.most_common(1)[0][0] if endings else None


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
