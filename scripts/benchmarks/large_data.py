"""Large data sets made quickly: a few rendered scenes, shifted by a pixel each or linked. See scale.py."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from segbalance.data_processing.description import VERSION
from segbalance.data_processing.manifest import COLUMNS, write_tables
from segbalance.data_processing.mask_encoding import MaskEncoding
from segbalance.sample_data.rendering import SUBSET_SIZES, render_pair

RENDERED = 256  # distinct scenes; shifting them by a pixel each time makes the rest


def write_pairs(root, count, options):
    """Writes `count` pairs of different content in the layout Images/<subset>/ with Masks/<subset>/.

    Returns:
        list of (image path, mask path), both str.
    """
    subsets = list(SUBSET_SIZES)
    scenes = [
        render_pair(0, "train", subsets[number % len(subsets)], number, options.image_size)
        for number in tqdm(range(min(count, RENDERED)), desc="rendering", delay=2)
    ]
    for kind in ("Images", "Masks"):
        for name in subsets:
            Path(root, kind, name).mkdir(parents=True)
    return [
        write_pair(root, number, *scenes[number % len(scenes)], options)
        for number in tqdm(range(count), desc="writing", unit="pair", delay=2)
    ]


def write_pair(root, number, image, mask, options):
    """Writes a scene, uint8 (H, W, 3) and (H, W), shifted by its own number of pixels; returns both paths."""
    shift = divmod(number // RENDERED, options.image_size)
    name = f"{number % len(SUBSET_SIZES)}/{number:07d}"
    paths = Path(root, "Images", f"{name}.{options.image_type}"), Path(root, "Masks", f"{name}.png")
    for path, pixels in zip(paths, (image[..., ::-1], mask), strict=True):
        path.write_bytes(cv2.imencode(path.suffix, np.roll(pixels, shift, (0, 1)))[1])
    return tuple(map(str, paths))


def write_scenes(folder, count, options):
    """Writes `count` pairs as folder/images/<number> and folder/masks/<number>.

    Returns:
        (names of the images, names of the masks, coverage of each), lists.
    """
    names, masks, coverages = [], [], []
    for kind in ("images", "masks"):
        Path(folder, kind).mkdir(parents=True)
    for number in range(count):
        image, mask = render_pair(0, "train", "0", number, options.image_size)
        names.append(f"{number:03d}.{options.image_type}")
        masks.append(f"{number:03d}.png")
        coverages.append(np.count_nonzero(mask) / mask.size)
        for path, pixels in (("images", names[-1]), image[..., ::-1]), (("masks", masks[-1]), mask):
            Path(folder, *path).write_bytes(cv2.imencode(Path(path[1]).suffix, pixels)[1])
    return names, masks, coverages


def linked_rows(root, split, subset, count, scenes, options):
    """`count` rows of a manifest, each with paths of its own; they lead to the few files of `scenes`.

    Args:
        scenes: (folder, what `write_scenes` gave for it).
    """
    folder, (images, masks, coverages) = scenes
    parts, scene = np.divmod(np.arange(count), len(images))
    for kind in ("images", "masks"):
        place = Path(root, split, kind, subset)
        place.mkdir(parents=True)
        for part in range(parts[-1] + 1):
            place.joinpath(f"{part:05d}").symlink_to(folder / kind, target_is_directory=True)
    places = list(zip(parts.tolist(), scene.tolist(), strict=True))
    return pd.DataFrame(
        {
            "images": [f"{split}/images/{subset}/{part:05d}/{images[number]}" for part, number in places],
            "masks": [f"{split}/masks/{subset}/{part:05d}/{masks[number]}" for part, number in places],
            "type": subset,
            "width": options.image_size,
            "height": options.image_size,
            "coverage": np.array(coverages)[scene],
        },
        columns=COLUMNS,
    )


def write_manifests(folder, count, options):
    """Writes folder/csv_file for `count` training rows and a tenth as many for validation; data beside it."""
    place = folder / "data" / "scenes"  # links out of the data root are refused
    scenes = place, write_scenes(place, min(count, RENDERED), options)
    shares = np.array(list(SUBSET_SIZES.values())) / sum(SUBSET_SIZES.values())
    tables, splits = {}, {"train": count, "valid": count // 10}
    for split, rows in splits.items():
        bounds = np.round(np.cumsum([0, *shares]) * rows).astype(int)
        parts = {
            subset: linked_rows(folder / "data", split, subset, size, scenes, options)
            for subset, size in zip(SUBSET_SIZES, np.diff(bounds).tolist(), strict=True)
            if size
        }
        tables[f"{split}.csv"] = pd.concat(parts.values())
        if split == "train":
            tables |= {f"train{subset}.csv": part for subset, part in parts.items()}
    description = {
        "version": VERSION,
        "data_root": str(folder / "data"),
        "mask_encoding": MaskEncoding().to_dict(),
    }
    write_tables(folder / "csv_file", tables, description)
