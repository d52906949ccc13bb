"""An exported model: what it says of itself, and running it, whatever its format.

An export is a folder: the model, export.json, which is plain data and checked before the model is opened, the
comparison with the run's network and a model card. A TFLite or ONNX file is a list of known operations; a
SavedModel is a program, which may read and write files: open only those that you trust.
"""

import dataclasses
import importlib.util
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnxruntime

from segbalance.data_processing.classes import Classes, checked_classes
from segbalance.data_processing.tasks import TASKS, Task, task_of
from segbalance.errors import InputError
from segbalance.model.architectures import BACKBONES, COMMON_STEP, LEAST_STEP
from segbalance.runtime.verbs import extra, named

DESCRIPTION = "export.json"
VERSION = 1
MODEL_NAMES = {"savedmodel": "saved_model", "tflite": "model.tflite", "onnx": "model.onnx"}
FORMATS = tuple(MODEL_NAMES)
SIZES = ("dynamic", "fixed")
OUTPUTS = ("probability", "mask")
QUANTIZATIONS = ("none", "float16", "int8")
LARGEST_SIDE = 2**15  # pixels
LARGEST_DESCRIPTION = 2**16  # bytes
ONNX_KEY = "export"  # of the description among an ONNX file's own metadata
PHOTO = "photo"  # name of every model's input
LISTS = ("classes", "class_colours")  # in JSON; tuples here

Run = Callable[[np.ndarray], np.ndarray]  # uint8 (B, H, W, 3) photos -> float32 (B, H, W, C)


@dataclass(frozen=True)
class ExportDescription:
    """What must be known to run an exported model.

    Args:
        format: one of FORMATS.
        size: `dynamic`, photos of any size in and answers of that size out; `fixed`, both of image_size.
        output_type: `probability`, or `mask` of class ids.
        quantize: one of QUANTIZATIONS.
        image_size: side in pixels of what the network sees.
        working_size: long side in pixels that photos are shrunk to before that; 0 for none.
        threshold: probability above which a pixel is foreground; means nothing where there are colours.
        classes: names of the class ids from 0 on.
        backbone: name of the encoder.
        class_colours: of the classes, "#rrggbb", where the model gives a probability for each; without them
            it gives that of the second one alone.
        task: `segmentation`, or `classification` of whole photos.

    Raises:
        InputError: every value that is none of these.
    """

    format: str
    size: str
    output_type: str
    quantize: str
    image_size: int
    working_size: int
    threshold: float
    classes: tuple[str, ...]
    backbone: str
    class_colours: tuple[str, ...] = ()
    task: str = TASKS[0]

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise InputError("\n".join(problems))

    def _problems(self) -> Iterator[str]:
        known = {"format": FORMATS, "size": SIZES, "output_type": OUTPUTS, "quantize": QUANTIZATIONS}
        for name, values in (known | {"backbone": BACKBONES}).items():
            if getattr(self, name) not in values:
                yield f"{name} must be one of {', '.join(values)}, got {getattr(self, name)!r}"
        for name, step, least in (("image_size", COMMON_STEP, LEAST_STEP), ("working_size", 1, 0)):
            side = getattr(self, name)
            # A bool is an int to isinstance.
            if type(side) is not int or not least <= side <= LARGEST_SIDE or side % step:
                yield f"{name} must be a multiple of {step} from {least} to {LARGEST_SIDE}, got {side!r}"
        if type(self.threshold) not in (int, float) or not 0 <= self.threshold <= 1:
            yield f"threshold must be a number in [0, 1], got {self.threshold!r}"
        names = self.classes
        if self.task not in TASKS:
            yield f"task must be one of {', '.join(TASKS)}, got {self.task!r}"
        if not self.kind.with_threshold:
            yield from _class_problems(names, self.class_colours)
        elif type(names) is not tuple or len(names) != 2 or not all(type(name) is str for name in names):
            yield f"classes must be the names of two classes, got {names!r}"

    @property
    def class_list(self) -> Classes | None:
        """Classes, or None for background and foreground alone."""
        return Classes.named(self.classes, self.class_colours)

    @property
    def kind(self) -> Task:
        """What the model is for, with all in which the tasks differ."""
        return task_of(self.task, self.class_colours)

    @classmethod
    def from_json(cls, text: str, place: str | Path) -> "ExportDescription":
        """The inverse of `to_json`; `place` is for the InputError."""
        try:
            stored = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{place} is no JSON: {error}. Export the model again.") from None
        fields = dataclasses.fields(cls)
        names = [field.name for field in fields if field.default is dataclasses.MISSING]
        given = [field.name for field in fields if isinstance(stored, dict) and field.name in stored]
        if not isinstance(stored, dict) or set(stored) != {"version", *names, *given}:
            found = ", ".join(map(str, stored)) if isinstance(stored, dict) else type(stored).__name__
            raise InputError(
                f"{place}: expected the entries version, {', '.join(names)}; got {found}. "
                f"Export the model again with {named('export')}."
            )
        if stored["version"] != VERSION:
            raise InputError(
                f"{place}: expected version {VERSION}, got {stored['version']!r}. Export it again."
            )
        values: dict[str, Any] = {name: stored[name] for name in given}
        lists = [name for name in LISTS if isinstance(values.get(name), list)]
        try:
            return cls(**values | {name: tuple(values[name]) for name in lists})
        except InputError as error:
            raise InputError(f"{place} is damaged: {error}\nExport the model again.") from None

    def to_json(self) -> str:
        """For export.json; what is as usual is left out of it."""
        usual = {field.name: field.default for field in dataclasses.fields(self)}
        stored = {name: value for name, value in dataclasses.asdict(self).items() if value != usual[name]}
        return json.dumps({"version": VERSION} | stored, indent=2) + "\n"


def _class_problems(names: Any, colours: Any) -> Iterator[str]:
    """Yields what is wrong with values that are to be names and colours of classes."""
    if not all(type(part) is tuple and all(type(text) is str for text in part) for part in (names, colours)):
        yield f"classes and class_colours must be lists of text, got {names!r} and {colours!r}"
        return
    try:
        checked_classes(names, colours, "classes")
    except InputError as error:
        yield str(error)


class ExportedModel:
    """An export, ready to predict, by one thread at a time.

    Args:
        description: what it says of itself.
        run: the model, whatever its format.

    Attributes:
        input_size: side in pixels of the photos that it takes; None for photos of any size.
        working_size: long side in pixels that photos are shrunk to by area before they are resized to
            input_size; 0 for none. A dynamic model does both itself.
    """

    def __init__(self, description: ExportDescription, run: Run) -> None:
        self.description = description
        self.input_size = description.image_size if description.size == "fixed" else None
        self.working_size = description.working_size
        self._run = run

    def __call__(self, photos: np.ndarray) -> np.ndarray:
        """Photos uint8 (B, H, W, 3) RGB -> float32 (B, H, W, C), probabilities in [0, 1].

        C is 1, or the number of classes; (B, 1, 1, C) in classification. A model exported for masks answers
        0 and 1.

        Raises:
            ValueError: the photos have another type or shape.
        """
        photos = np.ascontiguousarray(photos)
        side = self.input_size
        wanted = ("B", side or "H", side or "W", 3)
        fits = photos.ndim == 4 and photos.shape[3] == 3 and side in (None, *photos.shape[1:3])
        if photos.dtype != np.uint8 or not fits or (side and photos.shape[1] != photos.shape[2]):
            raise ValueError(
                f"expected photos of type uint8 and shape {wanted}, got {photos.dtype} {photos.shape}"
            )
        answer = self._run(photos)
        if not self.description.kind.with_threshold and self.description.output_type == "mask":
            return np.eye(len(self.description.classes), dtype=np.float32)[answer[..., 0].astype(np.uint8)]
        return answer


def load_exported(path: str | Path) -> ExportedModel:
    """The ExportedModel at `path`, ready to predict; arguments and errors as of `find_description`."""
    description, model = find_description(path)
    return ExportedModel(description, OPENERS[description.format](model, description))


def find_description(path: str | Path) -> tuple[ExportDescription, Path]:
    """What an export says of itself, and where its model lies.

    Args:
        path: of the export's folder, or of the model in it. An ONNX file may also stand alone.

    Raises:
        InputError: there is no export, it is damaged, or a package that runs it is missing.
    """
    path = Path(path)
    folder = path if (path / DESCRIPTION).is_file() else path.parent
    if not path.exists():
        raise InputError(f"{path} does not exist; expected the folder of an exported model")
    if (folder / DESCRIPTION).is_file():
        description = read_description(folder)
        model = path if path != folder else folder / MODEL_NAMES[description.format]
    elif path.suffix == ".onnx":
        description, model = _description_inside(path), path
    else:
        raise InputError(
            f"{path} has no {DESCRIPTION} in or beside it; expected what {named('export')} wrote"
        )
    if not model.exists():
        raise InputError(f"{model} does not exist, though {folder / DESCRIPTION} describes it")
    return description, model


def read_description(folder: str | Path) -> ExportDescription:
    """The checked ExportDescription in the folder of an export. Raises InputError."""
    place = Path(folder, DESCRIPTION)
    try:
        with open(place, encoding="utf-8") as file:
            text = file.read(LARGEST_DESCRIPTION + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{place} cannot be read: {error}") from None
    if len(text) > LARGEST_DESCRIPTION:
        raise InputError(f"{place} is longer than {LARGEST_DESCRIPTION} characters; expected a few lines")
    return ExportDescription.from_json(text, place)


def require_packages(names: Iterable[str]) -> None:
    """Raises InputError that names the way to install, where optional packages are missing."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"the format onnx needs the package {', '.join(missing)}, which is not installed: "
            f"pip install {extra('export')}"
        )


def _check_input(
    model: Path, description: ExportDescription, dtype: str, shape: Sequence[int | str | None]
) -> None:
    """Raises InputError where the model's input is not what its description says; -1 or None is any size."""
    side = description.image_size if description.size == "fixed" else None
    found = tuple(length if isinstance(length, int) and length > 0 else None for length in shape)
    if dtype != "uint8" or len(found) != 4 or found[1:] != (side, side, 3):
        raise InputError(
            f"{model} takes {dtype} {found}, but its {DESCRIPTION} says uint8 {(None, side, side, 3)}. "
            "The two belong to different exports; export the model again."
        )


def _unreadable(model: Path, description: ExportDescription, error: Exception) -> InputError:
    return InputError(f"{model} is damaged or no {description.format} model: {error}")


def _open_savedmodel(model: Path, description: ExportDescription) -> Run:
    from segbalance.legacy_keras import tf

    try:
        loaded = tf.saved_model.load(str(model))
        predict = loaded.signatures["serving_default"]
        spec = predict.structured_input_signature[1][PHOTO]
    except Exception as error:  # whatever the parser raises on a damaged file
        raise _unreadable(model, description, error) from None
    _check_input(model, description, spec.dtype.name, spec.shape.as_list())

    # `loaded` is kept as a default, for the function alone does not keep its variables alive.
    def run(photos: np.ndarray, loaded: Any = loaded) -> np.ndarray:
        answer = predict(**{PHOTO: tf.constant(photos)})[description.output_type]
        return answer.numpy().astype(np.float32)

    return run


def _open_tflite(model: Path, description: ExportDescription) -> Run:
    from segbalance.legacy_keras import tf

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it will move to a package of its own
            interpreter = tf.lite.Interpreter(str(model), num_threads=os.cpu_count())
        runner = interpreter.get_signature_runner()
        taken = runner.get_input_details()[PHOTO]
        scale, zero = runner.get_output_details()[description.output_type]["quantization"]
    except (ValueError, KeyError, RuntimeError) as error:
        raise _unreadable(model, description, error) from None
    _check_input(model, description, np.dtype(taken["dtype"]).name, taken["shape_signature"].tolist())

    def run(photos: np.ndarray) -> np.ndarray:
        answer = runner(**{PHOTO: photos})[description.output_type].astype(np.float32)
        return (answer - zero) * scale if scale else answer

    return run


def _onnx_session(model: Path) -> "onnxruntime.InferenceSession":
    require_packages(["onnxruntime"])
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; it warns of every layer that converters write the old way
    try:
        return onnxruntime.InferenceSession(str(model), options, onnxruntime.get_available_providers())
    except Exception as error:  # onnxruntime raises a dozen types of its own
        raise InputError(f"{model} is damaged or no onnx model: {error}") from None


def _description_inside(model: Path) -> ExportDescription:
    stored = _onnx_session(model).get_modelmeta().custom_metadata_map.get(ONNX_KEY, "")
    return ExportDescription.from_json(stored[:LARGEST_DESCRIPTION], f"the metadata in {model}")


def _open_onnx(model: Path, description: ExportDescription) -> Run:
    session = _onnx_session(model)
    taken = session.get_inputs()[0]
    dtype = "uint8" if taken.type == "tensor(uint8)" else taken.type
    _check_input(model, description, dtype, taken.shape)
    return lambda photos: session.run(None, {taken.name: photos})[0].astype(np.float32)


OPENERS = {"savedmodel": _open_savedmodel, "tflite": _open_tflite, "onnx": _open_onnx}
