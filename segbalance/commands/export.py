"""Exports a run's best weights as a model to take away, checked against the run's network.

    python scripts/export_model.py --work_dir runs/first --format onnx
    python scripts/export_model.py --work_dir runs/first --format tflite --quantize int8

Photos (uint8, RGB) go in, probabilities, masks or labels come out; normalisation is inside.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from segbalance.data_processing.manifest import read_manifest
from segbalance.data_processing.tasks import SCORE_NAMES
from segbalance.errors import InputError
from segbalance.evaluation.of_a_run import check_classes
from segbalance.exporting import export as exporting
from segbalance.exporting.exported_model import (
    FORMATS,
    OUTPUTS,
    QUANTIZATIONS,
    SIZES,
    ExportDescription,
    require_packages,
)
from segbalance.files.pixel_limit import MAX_PIXELS, pixel_limit_problem
from segbalance.runtime.command_line import command, parse_options
from segbalance.runtime.verbs import usage
from segbalance.train.folder import check_weights, trusted_config

ONNX_PACKAGES = ("tf2onnx", "onnx", "onnxruntime")


@dataclass(frozen=True)
class ExportOptions:
    """Options of the export.

    Args:
        work_dir: Folder of the run.
        format: `savedmodel` for TensorFlow, `tflite` for phones and small devices, `onnx` for anything else.
        output: Folder of the export; <work_dir>/exports/<format and options> by default.
        size: `dynamic` takes photos of any size, resizes them as training did and answers at their size, not
            for tflite; `fixed` takes and answers the run's image_size. Dynamic by default where it can be.
        output_type: `probability`, for thresholds of your own and for predict.py; `mask`, uint8 class ids.
        quantize: Of tflite: `float16` halves the file; `int8` quarters it and calculates in integers alone.
        representative_images: Training photos from which int8 takes the ranges of all values, drawn evenly
            over the subsets.
        check_images: Validation photos on which the export is compared with the run, drawn evenly too.
        most_iou_lost: Most IoU, in classification balanced accuracy, that the export may lose.
        data_root: Folder of the data where it has moved since; the one in config.yaml by default.
        csv_dir: Folder of the manifests where they have moved since; the one in config.yaml by default.
        seed: Of the choice of photos.
        overwrite: Replace an earlier export in --output.
        allow_outside: Read files that rows name out of the data root, by `..` or a symbolic link.
        max_pixels: Most pixels of an image or mask, by its header; larger files are not decoded.
    """

    work_dir: str
    format: Literal[FORMATS]
    output: str | None = None
    size: Literal[SIZES] | None = None
    output_type: Literal[OUTPUTS] = "probability"
    quantize: Literal[QUANTIZATIONS] = "none"
    representative_images: int = 100
    check_images: int = 100
    most_iou_lost: float = 0.02
    data_root: str | None = None
    csv_dir: str | None = None
    seed: int = 0
    overwrite: bool = False
    allow_outside: bool = False
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        problems = [problem for problem in self._problems() if problem]
        if problems:
            raise InputError("\n".join(problems))

    def _problems(self) -> Iterator[str | None]:
        if self.format == "tflite" and self.size == "dynamic":
            yield "size dynamic is not for tflite, which plans its memory for one size; expected fixed"
        if self.format != "tflite" and self.quantize != "none":
            yield f"quantize {self.quantize} is for --format tflite, got --format {self.format}"
        for name in ("representative_images", "check_images"):
            if getattr(self, name) <= 0:
                yield f"{name} must be greater than 0, got {getattr(self, name)}"
        if not 0 <= self.most_iou_lost <= 1:
            yield f"most_iou_lost must be in [0, 1], got {self.most_iou_lost}"
        if self.seed < 0:
            yield f"seed must not be negative, got {self.seed}"
        yield pixel_limit_problem(self.max_pixels)

    def resolved_size(self) -> str:
        """`dynamic` or `fixed`."""
        return self.size or ("fixed" if self.format == "tflite" else "dynamic")

    def folder(self) -> Path:
        """Path of the export."""
        own = (self.format, self.resolved_size(), self.output_type, self.quantize)
        name = "-".join(part for part in own if part not in ("probability", "none"))
        return Path(self.output or Path(self.work_dir, "exports", name))


def lines(check: dict[str, Any], description: ExportDescription) -> Iterator[str]:
    """What is printed of the comparison."""
    rows = [*check["subsets"], {"subset": "all"} | check]
    score, likeness = description.kind.main, description.kind.likeness
    columns = ["subset", "images", *(f"{score}_{kind}" for kind in ("keras", "export", "lost"))]
    table = pd.DataFrame(rows)[columns].rename(columns=lambda name: name.replace("_", " "))
    yield table.to_string(index=False, float_format="{:z.4f}".format)
    if check["largest_difference"] is not None:
        yield f"largest difference of probabilities: {check['largest_difference']:.2g}"
    if check["largest_difference_resized"] is not None:
        yield f"  with resizing inside the model: {check['largest_difference_resized']:.2g}"
    yield f"{likeness.replace('_', ' ')} that differ: {check[f'{likeness}_differing']:.3%}"
    yield f"{SCORE_NAMES[score]} lost: {check[f'{score}_lost']:z.5f}"


@command
def main(argv: list[str]) -> None:
    """Writes the export and prints how it compares."""
    options = parse_options(ExportOptions, argv, prog=usage("export"), description=__doc__)
    config = trusted_config(options)
    check_weights(options.work_dir)
    if options.format == "onnx":
        require_packages(ONNX_PACKAGES)
    exporting.check_place(options.folder(), options.overwrite)
    data = config.data
    manifest = read_manifest(
        options.csv_dir or data.csv_dir,
        data.data_root,
        allow_outside=data.allow_outside,
        max_pixels=data.max_pixels,
    )
    check_classes(config, manifest)
    description = exporting.describe(
        config,
        format=options.format,
        size=options.resolved_size(),
        output_type=options.output_type,
        quantize=options.quantize,
    )
    check = exporting.export(
        config,
        manifest,
        description,
        options.folder(),
        representative_images=options.representative_images,
        check_images=options.check_images,
        most_lost=options.most_iou_lost,
        seed=options.seed,
    )
    print("\n".join(lines(check, description)))
    print(f"wrote {options.folder()}: {check['megabytes']:.1f} MB, with its model card")
