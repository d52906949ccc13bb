"""The doctor: every fault planted in rendered data is found under its name at its place, and nothing else."""

import functools
import json
import os
import shutil
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from segbalance.commands import doctor, prepare
from segbalance.doctor.diagnosis import CHECKED, KINDS, Diagnosis
from segbalance.errors import Findings
from segbalance.runtime.command_line import DONE, WRONG_INPUT
from segbalance.sample_data.rendering import make_sample_data
from tests.support.data import draw_pair, write_data, write_image
from tests.support.places import ROOT

SEEDS = (0, 1, 2)
MEGAPIXEL = 1.0  # --largest of the tests here, so that a very large photo need not be one


@pytest.fixture(scope="session")
def clean_data(tmp_path_factory):
    """Function of a seed: a folder of clean rendered data, which no test may change."""

    @functools.cache
    def render(seed):
        folder = tmp_path_factory.mktemp("clean") / f"seed{seed}"
        make_sample_data(folder, seed, scale=0.06, image_size=96, progress=False, workers=1)
        return folder

    return render


def state(folder):
    """{path: (bytes, time of change)} of all files and folders."""
    return {
        path: (path.read_bytes() if path.is_file() else b"", path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def diagnose(tmp_path, capsys):
    """Runs the doctor on data that it must leave alone; returns (status, {kind: set of paths}, text)."""

    def run(root, *words):
        before, report = state(root), tmp_path / "findings.json"
        options = ["--data_root", root, "--only", "data", "--json", report, "--largest", MEGAPIXEL]
        status = doctor.main([*options, *words])
        assert state(root) == before
        found = {}
        for row in json.loads(report.read_text())["findings"]:
            # Where no pair of files is meant, the place itself says it.
            found.setdefault(row["kind"], set()).update(row["paths"] or {row["place"].split("  ")[0]})
        return status, found, capsys.readouterr()

    return run


class Patient:
    """Data to plant faults in; each takes pairs that no other one has touched."""

    def __init__(self, root):
        self.root, self.untouched = root, {}

    def next(self, folder="train/{}/0"):
        """(path of the image, path of the mask), relative, of the next untouched pair."""
        if folder not in self.untouched:
            self.untouched[folder] = iter(sorted(os.listdir(self.root / folder.format("images"))))
        name = next(self.untouched[folder])
        return tuple(f"{folder.format(kind)}/{name}" for kind in ("images", "masks"))

    def read(self, path):
        flags = cv2.IMREAD_GRAYSCALE if "/masks/" in path else cv2.IMREAD_COLOR_RGB
        return cv2.imread(str(self.root / path), flags)

    def write(self, path, pixels):
        write_image(self.root / path, pixels)

    def copy(self, source, target):
        shutil.copyfile(self.root / source, self.root / target)

    def resized(self, pair, width, height):
        for path, way in zip(pair, (cv2.INTER_CUBIC, cv2.INTER_NEAREST), strict=True):
            self.write(path, cv2.resize(self.read(path), (width, height), interpolation=way))


HELD_OUT, FEW, NEAR = "valid/{}/0", "train/{}/4", "train/{}/3"  # subsets 3 and 4 are too small for outliers


def image_without_mask(patient):
    image, mask = patient.next()
    (patient.root / mask).unlink()
    return image


def mask_without_image(patient):
    image, mask = patient.next()
    (patient.root / image).unlink()
    return mask


def empty_folder(patient):
    (patient.root / "train/images/later").mkdir()
    return "train/images/later"


def name_not_utf8(patient):
    path = f"{patient.root}/train/masks/0/".encode() + b"caf\xe9.png"
    with open(path, "wb") as file:
        file.write(b"x")
    return ascii("train/masks/0/caf\udce9.png")


def same_name_twice(patient):
    image, _ = patient.next()
    second = image.replace(".png", ".jpg")
    patient.write(second, patient.read(image))
    return second


def damaged_file(patient):
    """Truncated at a third, and of no bytes."""
    (image, _), (_, mask) = patient.next(), patient.next()
    content = (patient.root / image).read_bytes()
    (patient.root / image).write_bytes(content[: len(content) // 3])
    (patient.root / mask).write_bytes(b"")
    return image, mask


def size_differs(patient):
    image, mask = patient.next()
    patient.write(mask, cv2.resize(patient.read(mask), (96, 90), interpolation=cv2.INTER_NEAREST))
    return image


def exif_rotation(patient):
    image, _ = patient.next()
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(patient.read(image)).save(patient.root / image, exif=exif)
    return image


def unusable_mask(patient):
    _, mask = patient.next()
    Image.fromarray(patient.read(mask).astype(np.uint16) * 257).save(patient.root / mask)
    return mask


def transparent_mask(patient):
    _, mask = patient.next()
    grey = patient.read(mask)
    Image.fromarray(np.dstack([grey, grey, grey, 255 - grey // 2])).save(patient.root / mask)
    return mask


def mask_is_image(patient):
    """The same bytes, and the photo in grey as a JPEG would keep it."""
    (image, mask), (other, grey) = patient.next(), patient.next()
    patient.copy(image, mask)
    patient.write(grey, cv2.cvtColor(patient.read(other), cv2.COLOR_RGB2GRAY))
    return mask, grey


def mask_encoding_differs(patient):
    (_, ones), (_, grey) = patient.next(FEW), patient.next(FEW)
    patient.write(ones, patient.read(ones) // 255)
    patient.write(grey, patient.read(grey) // 255 * 77)
    return ones, grey


def mask_with_several_values(patient):
    _, mask = patient.next()
    pixels = patient.read(mask)
    pixels[5:25, 5:25] = 120
    patient.write(mask, pixels)
    return mask


def mask_with_colours(patient):
    _, mask = patient.next()
    grey = patient.read(mask)
    patient.write(mask, np.dstack([grey, grey // 4, grey * 0]))
    return mask


def duplicate_across_splits(patient):
    source, target = patient.next(), patient.next(HELD_OUT)
    for one, other in zip(source, target, strict=True):
        patient.copy(one, other)
    return source[0], target[0]


def same_pixels_across_splits(patient):
    source, target = patient.next(), patient.next(HELD_OUT)
    patient.copy(source[1], target[1])
    Image.fromarray(patient.read(source[0])).save(patient.root / target[0], compress_level=1)
    assert (patient.root / source[0]).read_bytes() != (patient.root / target[0]).read_bytes()
    return source[0], target[0]


def near_duplicate(patient):
    """Brighter and compressed; and enlarged by a half."""
    source, target = patient.next(), patient.next(HELD_OUT)
    brighter = np.clip(patient.read(source[0]) * 1.1 + 5, 0, 255).astype(np.uint8)
    encoded = cv2.imencode(".jpg", brighter, [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
    patient.write(target[0], cv2.imdecode(encoded, cv2.IMREAD_COLOR))
    patient.copy(source[1], target[1])
    second, larger = patient.next(), patient.next(HELD_OUT)
    for one, other in zip(second, larger, strict=True):
        patient.copy(one, other)
    patient.resized(larger, 144, 144)
    return source[0], target[0], second[0], larger[0]


def duplicate_with_other_mask(patient):
    source, target = patient.next(), patient.next()
    patient.copy(source[0], target[0])
    return source[1], target[1]


def duplicate_within_split(patient):
    source, target = patient.next(), patient.next()
    for one, other in zip(source, target, strict=True):
        patient.copy(one, other)
    return source[0], target[0]


def mask_reused(patient):
    source, target = patient.next(), patient.next()
    patient.copy(source[1], target[1])
    return source[1], target[1]


def coverage_outlier(patient):
    """Three quarters of the photo, not its border; and a single pixel."""
    (_, large), (_, small) = patient.next(), patient.next()
    mask = np.zeros((96, 96), np.uint8)
    mask[6:-6, 6:-6] = 255
    patient.write(large, mask)
    mask[:] = 0
    mask[40, 40] = 255
    patient.write(small, mask)
    return large, small


def inverted_mask(patient):
    _, mask = patient.next()
    patient.write(mask, 255 - patient.read(mask))
    return mask


def blank_image(patient):
    image, _ = patient.next()
    patient.write(image, np.full((96, 96, 3), (90, 120, 60), np.uint8))
    return image


def small_image(patient):
    pair = patient.next(NEAR)
    patient.resized(pair, 24, 30)
    return pair[0]


def huge_image(patient):
    pair = patient.next()
    patient.resized(pair, 1010, 1000)
    return pair[0]


def extreme_aspect(patient):
    pair = patient.next()
    patient.resized(pair, 480, 64)
    return pair[0]


def names_differ_in_case(patient):
    kept, renamed = patient.next(), patient.next()
    shouted = [path.replace("hand_", "HAND_") for path in kept]
    for path, new in zip(renamed, shouted, strict=True):
        (patient.root / path).rename(patient.root / new)
    return *kept, *shouted


def empty_mask(patient):
    _, mask = patient.next()
    patient.write(mask, np.zeros((96, 96), np.uint8))
    return mask


def full_mask(patient):
    _, mask = patient.next(NEAR)
    patient.write(mask, np.full((96, 96), 255, np.uint8))
    return mask


def grey_fringes(patient):
    _, mask = patient.next()
    patient.write(mask, cv2.GaussianBlur(patient.read(mask), (3, 3), 0))
    return mask


def other_files(patient):
    path = "valid/images/1/notes.txt"
    (patient.root / path).write_text("to do")
    return path


def subset_without_validation(patient):
    for kind in ("images", "masks"):
        shutil.rmtree(patient.root / "valid" / kind / "3")
    return "subset 3"


FAULTS = {
    fault.__name__: fault
    for fault in (
        image_without_mask, mask_without_image, empty_folder, name_not_utf8, same_name_twice, damaged_file,
        size_differs, exif_rotation, unusable_mask, transparent_mask, mask_is_image, mask_encoding_differs,
        mask_with_several_values, mask_with_colours, duplicate_across_splits, same_pixels_across_splits,
        near_duplicate, duplicate_with_other_mask, duplicate_within_split, mask_reused, coverage_outlier,
        inverted_mask, blank_image, small_image, huge_image, extreme_aspect, names_differ_in_case, empty_mask,
        full_mask, grey_fringes, other_files, subset_without_validation,
    )
}  # fmt: skip


def planted(fault, patient):
    """Set of the paths that the fault is to be found at."""
    paths = fault(patient)
    return {paths} if isinstance(paths, str) else set(paths)


def severity(kinds):
    return {KINDS[kind].severity for kind in kinds}


def test_every_kind_has_a_fault_that_shows_it():
    elsewhere = {
        "layout", "manifest_refused", "no_pairs", "no_validation", "masks_unclear", "no_foreground",
        "mask_value_unnamed", "not_in_manifests",
    }  # fmt: skip
    machine = {
        "python_version", "package_missing", "tensorflow_broken", "package_version", "opencv_twice",
        "little_memory", "little_disk", "no_gpu",
    }  # fmt: skip
    assert set(FAULTS) | elsewhere | machine == set(KINDS) and len(FAULTS) >= 24


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_found_in_clean_data(seed, clean_data, diagnose):
    status, found, shown = diagnose(clean_data(seed))
    assert (status, found) == (DONE, {})
    assert shown.out.endswith("\n\nnothing was found\n\n0 errors, 0 warnings, 0 notes\n") and shown.err == ""


@pytest.mark.parametrize("seed", SEEDS)
def test_all_faults_at_once_are_found_where_they_are(seed, clean_data, diagnose, tmp_path):
    root = shutil.copytree(clean_data(seed), tmp_path / "data")
    patient = Patient(root)
    expected = {name: planted(fault, patient) for name, fault in FAULTS.items()}
    status, found, _ = diagnose(root)
    assert found == expected and status == WRONG_INPUT


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_alone_is_all_that_is_found(name, seed, clean_data, diagnose, tmp_path):
    root = shutil.copytree(clean_data(seed), tmp_path / "data")
    expected = {name: planted(FAULTS[name], Patient(root))}
    status, found, _ = diagnose(root)
    assert found == expected
    assert status == (WRONG_INPUT if severity(found) == {"error"} else DONE)
    status, _, _ = diagnose(root, "--strict")
    assert status == (DONE if severity(found) == {"note"} else WRONG_INPUT)


@pytest.mark.slow
def test_very_large_by_default(tmp_path, diagnose):
    root = write_data(tmp_path / "data", {"a": 3})
    image, mask = draw_pair(5)
    for kind, pixels, way in (("images", image, cv2.INTER_CUBIC), ("masks", mask, cv2.INTER_NEAREST)):
        write_image(root / f"train/{kind}/a/0.png", cv2.resize(pixels, (7200, 7000), interpolation=way))
    _, found, _ = diagnose(root, "--largest", 50)
    assert found["huge_image"] == {"train/images/a/0.png"}
    _, found, _ = diagnose(root, "--largest", 51)
    assert "huge_image" not in found


@pytest.mark.parametrize("headline", CHECKED)
def test_what_make_csv_file_says_is_known_by_name(headline):
    """Were the words changed in inspection.py or pairs.py, the kind would go by another name."""
    room = ROOT / "segbalance/data_processing"
    assert f'"{headline}"' in (room / "inspection.py").read_text() + (room / "pairs.py").read_text()


def test_a_headline_that_is_not_known_is_an_error_all_the_same():
    findings, diagnosis = Findings(), Diagnosis()
    findings.add("files of a new kind", "a/b  too new", "Wait.")
    diagnosis.take(findings, {"a/b", "a"})
    ((name, (kind, (finding,))),) = diagnosis.kinds().items()
    assert (name, kind.severity, finding.paths) == ("files_of_a_new_kind", "error", ("a/b",))


# What concerns the data as a whole


@pytest.fixture
def small(tmp_path):
    """Clean data without a valid folder."""
    return write_data(tmp_path / "data", {"a": 6, "b": 3})


def test_folders_that_are_not_understood(small, diagnose):
    shutil.rmtree(small / "train/masks")
    status, found, shown = diagnose(small)
    assert status == WRONG_INPUT and list(found) == ["layout"]
    assert "train/images has no masks folder beside it. Expected train/images/<subset>/" in shown.out
    assert "no pair of image and mask was compared" in shown.out


def test_data_without_a_pair(small, diagnose):
    (small / "train/masks").rename(small / "away")
    (small / "train/masks").mkdir()
    status, found, _ = diagnose(small)
    assert set(found) == {"no_pairs", "image_without_mask"} and len(found["image_without_mask"]) == 9


def test_a_suffix_is_suggested_and_taken(small, diagnose):
    for path in (small / "train/masks").rglob("*.png"):
        path.rename(path.with_stem(f"{path.stem}_mask"))
    _, found, shown = diagnose(small)
    assert set(found) == {"no_pairs", "image_without_mask", "mask_without_image"}
    assert "or --mask_suffix _mask" in shown.out
    status, found, _ = diagnose(small, "--mask_suffix", "_mask")
    assert (status, found) == (DONE, {})


def test_masks_whose_meaning_is_not_plain(small, diagnose, tmp_path):
    for path in (small / "train/masks").rglob("*.png"):
        mask = cv2.imread(str(path), 0)
        write_image(path, np.where(np.arange(60) % 20 < 10, mask // 2, mask).astype(np.uint8))
    status, found, shown = diagnose(small)
    assert status == WRONG_INPUT and list(found) == ["masks_unclear"]
    assert "the masks hold several grey values of unclear meaning (9 of them" in shown.out
    classes = tmp_path / "classes.csv"
    classes.write_text("id,name,colour\n0,background,0\n1,nail,127\n1,nail,255\n")
    assert diagnose(small, "--classes", str(classes))[:2] == (DONE, {})
    odd = small / "train/masks/b/1.png"
    write_image(odd, np.maximum(cv2.imread(str(odd), 0), 3))
    _, found, _ = diagnose(small, "--classes", str(classes))
    assert found == {"mask_value_unnamed": {"train/masks/b/1.png"}}


def test_masks_without_foreground_anywhere(small, diagnose):
    for path in (small / "train/masks").rglob("*.png"):
        write_image(path, np.zeros((50, 60), np.uint8))
    _, found, shown = diagnose(small)
    assert list(found) == ["no_foreground"]
    assert "none of the 9 masks has any foreground" in shown.out


def test_data_that_cannot_be_divided(tmp_path, diagnose):
    status, found, _ = diagnose(write_data(tmp_path / "data", {"a": 1}))
    assert status == WRONG_INPUT and set(found) == {"no_validation", "subset_without_validation"}


# The split


def near_copy(root, source, target):
    """Writes the photo a little duller under another name, and its mask."""
    cv2.imwrite(str(root / target), np.uint8(cv2.imread(str(root / source)) * 0.9 + 8))
    shutil.copyfile(*(root / path.replace("images", "masks") for path in (source, target)))


def test_without_a_valid_folder_the_split_is_that_of_make_csv_file(clean_data, tmp_path, diagnose):
    root = tmp_path / "data"
    shutil.copytree(clean_data(0) / "train", root / "train")
    csv_dir = tmp_path / "csv"
    assert prepare.main(["--data_root", root, "--csv_dir", csv_dir]) == DONE
    paths = {
        side: [line.split(",")[0] for line in (csv_dir / f"{side}.csv").read_text().splitlines()[1:]]
        for side in ("train", "valid")
    }
    in_zero = {side: [path for path in found if "/0/" in path] for side, found in paths.items()}
    near_copy(root, in_zero["train"][0], in_zero["train"][1])
    assert diagnose(root)[1] == {}, "both to train on"
    near_copy(root, in_zero["train"][2], in_zero["valid"][0])
    assert diagnose(root)[1] == {"near_duplicate": {in_zero["train"][2], in_zero["valid"][0]}}


def test_manifests_say_how_data_is_divided(small, tmp_path, diagnose):
    csv_dir = tmp_path / "csv"
    assert prepare.main(["--data_root", small, "--csv_dir", csv_dir, "--seed", "5"]) == DONE
    assert diagnose(small, "--csv_dir", csv_dir)[1] == {}
    traina = csv_dir / "traina.csv"
    header, first, *rest = traina.read_text().splitlines()
    traina.write_text("\n".join([header, *rest]) + "\n")
    dropped = first.split(",")[0]
    held_out = (csv_dir / "valid.csv").read_text().splitlines()[1].split(",")[0]
    near_copy(small, held_out, dropped)
    assert diagnose(small, "--csv_dir", csv_dir)[1] == {"not_in_manifests": {dropped}}
    traina.write_text("\n".join([header, first, *rest]) + "\n")
    status, found, _ = diagnose(small, "--csv_dir", csv_dir)
    assert found == {"near_duplicate": {dropped, held_out}} and status == DONE


def test_manifests_with_wrong_rows_are_reported_and_the_data_still_looked_at(small, tmp_path, diagnose):
    csv_dir = tmp_path / "csv"
    assert prepare.main(["--data_root", small, "--csv_dir", csv_dir]) == DONE
    (small / "train/images/b/0.png").unlink()
    (small / "train/masks/a/0.png").unlink()
    status, found, shown = diagnose(small, "--csv_dir", csv_dir)
    assert status == WRONG_INPUT
    assert set(found) == {"manifest_refused", "image_without_mask", "mask_without_image"}
    assert "rows that are wrong: " in shown.out


def test_a_folder_without_manifests_is_wrong_input(small, tmp_path, capsys):
    words = ["--data_root", small, "--only", "data", "--csv_dir", tmp_path]
    assert doctor.main(words) == WRONG_INPUT
    assert f"--csv_dir {tmp_path} holds no manifests" in capsys.readouterr().err


# The command


@pytest.mark.parametrize(
    "words, message",
    [
        (["--smallest", "0"], "smallest must be greater than 0, got 0"),
        (["--largest", "-1"], "largest must be greater than 0, got -1.0"),
        (["--pictures", "-1"], "pictures must be 0 or greater, got -1"),
        (["--only", "all"], "--only: "),
        (["--data_root", "nowhere"], "--data_root nowhere: there is no such folder"),
        (["--output", "{file}/page.html"], "--output {file}: {file} is not a folder that can be written to"),
        (["--json", "{file}/x.json"], "--json {file}: {file} is not a folder that can be written to"),
    ],
)
def test_wrong_options(words, message, small, tmp_path, capsys):
    file = tmp_path / "file"
    file.touch()
    words = [word.replace("{file}", str(file)) for word in words]
    assert doctor.main(["--data_root", small, *words]) == WRONG_INPUT
    shown = capsys.readouterr()
    assert shown.err.startswith(f"error: {message.replace('{file}', str(file))}") and shown.out == ""


def test_the_first_ten_places_are_listed_with_what_to_do(tmp_path, diagnose):
    root = write_data(tmp_path / "data", {"a": 14})
    for path in sorted(root.rglob("masks/a/*.png"))[:12]:
        path.write_bytes(b"")
    _, _, shown = diagnose(root)
    text = shown.out
    assert "error: files that cannot be decoded: 12  [damaged_file]\n" in text
    assert (
        text.count("  the file is empty\n") == 10 and "\n  ... and 2 more\nReplace the damaged files" in text
    )
    assert shown.err == "error: 12 errors, 0 warnings, 0 notes; see above\n"


def test_the_environment_alone_and_with_the_data(small, tmp_path, stub, capsys):
    def examine(places, diagnosis):
        diagnosis.add("opencv_twice", "opencv-python 1, opencv-python-headless 2")
        return {"python": "3.11", "tensorflow": "2"}

    stub(doctor, "examine_environment", examine)
    report = tmp_path / "findings.json"
    words = ["--data_root", small, "--json", report]
    assert doctor.main([*words, "--only", "environment"]) == DONE
    assert json.loads(report.read_text())["environment"] == {"python": "3.11", "tensorflow": "2"}
    text = capsys.readouterr().out
    assert "environment\n  python      3.11\n  tensorflow  2\n" in text and "data at" not in text
    assert doctor.main([*words, "--strict"]) == WRONG_INPUT
    text = capsys.readouterr().out
    assert (
        f"data at {small.resolve()}\n  9 pairs of image and mask compared: 7 train, 2 valid; 2 subsets"
        in text
    )


def test_tensorflow_is_not_imported_here(small, capsys):
    before = "tensorflow" in sys.modules
    assert doctor.main(["--data_root", small, "--only", "data"]) == DONE
    assert ("tensorflow" in sys.modules) == before


def test_without_a_data_root_the_machine_is_looked_at(stub, capsys):
    stub(doctor, "examine_environment", lambda places, diagnosis: {"python": "3.11"})
    assert doctor.main([]) == DONE
    assert "python  3.11" in capsys.readouterr().out
    assert doctor.main(["--only", "data"]) == WRONG_INPUT
    assert "--data_root is missing: the folder of the data" in capsys.readouterr().err
