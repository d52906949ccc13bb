"""Pairs of image and mask: found in the folders of a data set, then read once and checked."""

import hashlib
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

import image_files
from errors import Findings, InputError
from mask_encoding import MaskSummary, is_grey, summarise_colours, summarise_grey

SPLITS = {"train": "train", "valid": "valid", "val": "valid", "validation": "valid", "test": "test"}
AT_ONCE = 1024  # pairs handed to the threads at once, so that memory stays bounded
COPY_DIFFERENCE = 3.0  # mean difference in grey levels up to which a mask is a copy of its image
EIGHT_BIT_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA"}
OTHER_MODES = {"I;16": "16-bit grey", "I;16B": "16-bit grey", "I": "32-bit grey", "F": "floating point"}
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


@dataclass(frozen=True)
class Pair:
    """One image and its mask, paths relative to the data root with `/`."""

    split: str | None
    folder: str
    image: str
    mask: str


@dataclass(frozen=True)
class PairFacts:
    """What one reading of a pair's files tells; sizes in pixels, hashes of the files' bytes."""

    width: int
    height: int
    image_hash: str
    mask_hash: str
    mask: MaskSummary


def find_folders(data_root):
    """The images and masks folders below `data_root` (list of Folders), in either of the two layouts.

    Raises:
        InputError: the data root is missing, or holds neither layout or both.
    """
    if not os.path.isdir(data_root):
        raise InputError(f"--data_root {data_root}: there is no such folder")
    flat = _images_and_masks(data_root, "", None)
    divided = []
    for name in _folder_names(data_root):
        if name.lower() in SPLITS:
            divided += _images_and_masks(data_root, name, SPLITS[name.lower()])
    if flat and divided:
        raise InputError(
            f"--data_root {data_root} holds both layouts: {flat[0].images}/ and {divided[0].images}/. "
            f"{EXPECTED_LAYOUT} Move one of them away."
        )
    if flat:
        return flat
    found = _folder_names(data_root)
    if not any(folders.split == "train" for folders in divided):
        names = ", ".join(found[:10]) or "no folders"
        raise InputError(f"--data_root {data_root}: no images found there. {EXPECTED_LAYOUT} Found: {names}.")
    for name in found:
        if SPLITS.get(name.lower()) == "valid" and not _images_and_masks(data_root, name, "valid"):
            raise InputError(f"{Path(data_root, name)} has no images folder. {EXPECTED_LAYOUT}")
    return divided


def _folder_names(folder):
    return sorted(
        entry.name
        for entry in os.scandir(folder)
        if entry.is_dir() and not image_files.is_system_name(entry.name)
    )


def _images_and_masks(data_root, parent, split):
    names = {name.lower(): name for name in _folder_names(Path(data_root, parent))}
    if "images" not in names:
        return []
    images = Path(parent, names["images"]).as_posix()
    if "masks" not in names:
        raise InputError(f"{Path(data_root, images)} has no masks folder beside it. {EXPECTED_LAYOUT}")
    return [Folders(split, images, Path(parent, names["masks"]).as_posix())]


def subset_folder(relative):
    """The first folder of a path below the images folder, `all` for images that lie directly in it."""
    first, slash, _ = relative.partition("/")
    return first if slash else "all"


@dataclass
class Search:
    """What `find_pairs` found.

    Args:
        pairs: list of Pair.
        images: number of images seen.
        unpaired: {path: what was expected} of images and masks without partner.
        others: paths of files that are no images.
        findings: what cannot be paired at all.
    """

    pairs: list = field(default_factory=list)
    images: int = 0
    unpaired: dict = field(default_factory=dict)
    others: list = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)


def find_pairs(data_root, folders, mask_suffix=""):
    """Pairs the files of `folders` (list of Folders) by relative path without extension.

    Args:
        mask_suffix: what the masks' names have behind the images', as `_mask` in photo_mask.png.

    Returns:
        Search
    """
    search = Search()
    for place in folders:
        images = _by_stem(search, data_root, place.images, "")
        masks = _by_stem(search, data_root, place.masks, mask_suffix)
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
        for empty in image_files.empty_folders(Path(data_root, place.images)):
            relative = Path(empty).relative_to(data_root).as_posix()
            search.findings.add("folders without any image", relative, "Delete them, or put images in.")
    return search


def _other_type(path):
    return f"; {path} is of no type that is read" if path else ""


def _by_stem(search, data_root, folder, suffix):
    """{relative path without extension and suffix: path from the data root} of the images in `folder`."""
    found = {}
    for relative in image_files.walk_files(Path(data_root, folder)):
        path = f"{folder}/{relative}"
        stem = relative.rpartition(".")[0]
        key = stem.removesuffix(suffix)
        if not _is_utf8(path):
            advice = "Rename the files; manifests are UTF-8."
            search.findings.add("files whose name is not UTF-8", ascii(path), advice)
        elif not image_files.is_image_name(relative):
            search.others.append(path)
        elif not stem.endswith(suffix):
            search.unpaired[path] = f"expected a name that ends in {suffix} (--mask_suffix)"
        elif key in found:
            both = f"{found[key]} and {path}"
            search.findings.add("files that differ only in extension", both, "Keep one of each.")
        else:
            found[key] = path
    return found


def likely_suffix(unpaired):
    """The most frequent ending that, taken off unpaired masks, gives unpaired images' names; or None."""
    stems = [Path(path).stem for path in unpaired]
    known = set(stems)
    endings = Counter(stem[cut:] for stem in stems for cut in range(1, len(stem)) if stem[:cut] in known)
    return endings.most_common(1)[0][0] if endings else None


def _is_utf8(text):
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def inspect_pairs(data_root, pairs, findings):
    """Reads every file of `pairs` once, in parallel, and collects what is wrong in `findings`.

    Returns:
        {Pair: PairFacts} of the pairs without a finding, in the order of `pairs`.
    """
    facts = {}
    progress = tqdm(total=len(pairs), desc="reading", unit="pair", delay=2)
    with progress, ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(pairs), AT_ONCE):
            some = pairs[start : start + AT_ONCE]
            inspected = pool.map(lambda pair: _inspect(data_root, pair), some)
            for pair, (fact, problems) in zip(some, inspected, strict=True):
                progress.update()
                for problem in problems:
                    findings.add(*problem)
                if not problems:
                    facts[pair] = fact
    return facts


def _inspect(data_root, pair):
    """(PairFacts, problems) of one pair; a problem is (headline, place, advice)."""
    problems, contents, pictures = [], [], []
    for path in (pair.image, pair.mask):
        content = None
        try:
            content = Path(data_root, path).read_bytes()
            contents.append(content)
            pictures.append(image_files.open_strictly(content))
        except OSError as error:
            reason = "the file is empty" if content == b"" else _reason(error)
            advice = "Replace the damaged files, or move image and mask away."
            problems.append(("files that cannot be decoded", f"{path}  {reason}", advice))
    if problems:
        return None, problems
    image, mask = pictures
    problems = _mismatch(pair, image, mask) or _unusable_mask(pair, mask)
    if problems:
        return None, problems
    lossy = image_files.is_lossy(contents[1], mask)
    pixels, grey = _mask_pixels(contents[1], mask, lossy)
    if contents[0] == contents[1] or _is_copy(contents[0], pixels):
        advice = "Expected a mask of the image; put the right file there."
        return None, [("masks that are a copy of their image", f"{pair.mask} = {pair.image}", advice)]
    summary = summarise_grey(pixels, lossy) if grey else summarise_colours(pixels)
    hashes = [hashlib.sha256(content).hexdigest() for content in contents]
    return PairFacts(*image_files.upright_size(image), *hashes, summary), []


def _reason(error):
    text = error.strerror or str(error)  # without the number and the path, which is shown anyway
    return "not an image" if text.startswith("cannot identify image file") else text


def _mismatch(pair, image, mask):
    """Problems of size and orientation between image and mask, both PIL images."""
    image_size, mask_size = image_files.upright_size(image), image_files.upright_size(mask)
    turned = image_files.orientation(image)
    # A mask of the turned image's size was drawn on the image as displayed: nothing is wrong then.
    ambiguous = image_size != mask_size or image.size == image_size
    if turned != image_files.orientation(mask) and ambiguous:
        place = (
            f"{pair.image}  EXIF orientation {turned}, displayed {_size(image_size)}; "
            f"{pair.mask}  EXIF orientation {image_files.orientation(mask)}, {_size(mask_size)}"
        )
        advice = (
            "Save the images upright, without the EXIF tag; turn the masks too where they were drawn on the "
            "unturned image."
        )
        return [("pairs of which only one file has an EXIF rotation", place, advice)]
    if image_size != mask_size:
        place = f"{pair.image} {_size(image_size)}, {pair.mask} {_size(mask_size)}"
        return [
            ("pairs of different size", place, "Expected equal sizes; save the masks in their image's size.")
        ]
    return []


def _size(size):
    return f"{size[0]}x{size[1]}"


def _unusable_mask(pair, mask):
    if mask.mode not in EIGHT_BIT_MODES:
        advice = "Expected 8-bit grey, palette or RGB; save the masks as 8-bit PNG."
        place = f"{pair.mask}  {OTHER_MODES.get(mask.mode, mask.mode)}"
        return [("masks of an unusable type", place, advice)]
    if mask.has_transparency_data and mask.convert("RGBA").getchannel("A").getextrema()[0] < 255:
        advice = "Transparency has no meaning here; flatten the masks to grey or RGB."
        return [("masks with transparent pixels", pair.mask, advice)]
    return []


def _mask_pixels(content, mask, lossy):
    """(pixels, whether they are grey): uint8 (H, W) grey or (H, W, 3) RGB, as training will read them."""
    if mask.mode not in ("1", "L", "LA"):
        colour = image_files.decode_colour(content)
        if not is_grey(colour, lossy):
            return colour, False
    return image_files.decode_grey(content), True


def _is_copy(image_content, mask_pixels):
    """True if uint8 mask pixels (H, W) or (H, W, 3) look like the image whose file's bytes are given."""
    if mask_pixels.ndim == 2 and len(np.unique(mask_pixels[::7, ::7])) < 16:
        return False  # few greys, like a mask's; comparing every clean mask would cost its decoding again
    image_grey = image_files.decode_grey(image_content)
    mask_grey = mask_pixels if mask_pixels.ndim == 2 else cv2.cvtColor(mask_pixels, cv2.COLOR_RGB2GRAY)
    if image_grey.shape != mask_grey.shape:
        return False
    return cv2.absdiff(image_grey, mask_grey).mean() < COPY_DIFFERENCE
