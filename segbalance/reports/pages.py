"""HTML pages that stand alone: templates, numbers that name their source, pictures as data URIs."""

import base64
import functools
from typing import Any

import cv2
import jinja2
import numpy as np

QUALITY, LOSSLESS = 80, 101  # of WebP; OpenCV takes above 100 for lossless


def render(template: str, figures: dict[str, Any], **context: Any) -> str:
    """A page as text; everything that comes from data is escaped.

    Args:
        template: file in templates/.
        figures: of plain types, the source of the numbers on the page: in the templates,
            `value_of(pointer)` is the value that a JSON pointer names.
        context: what else the template needs.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("segbalance.reports"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals["value_of"] = functools.partial(look_up, figures)
    environment.filters["pointer"] = pointer_part
    return environment.get_template(template).render(figures=figures, **context)


def look_up(figures: Any, pointer: str) -> Any:
    """The value that a JSON pointer (RFC 6901), such as /evaluation/all/iou, names."""
    for part in pointer.split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        figures = figures[int(part)] if isinstance(figures, list) else figures[part]
    return figures


def pointer_part(name: object) -> str:
    """A name as part of a JSON pointer."""
    return str(name).replace("~", "~0").replace("/", "~1")


def picture_source(pixels: np.ndarray, exact: bool = False) -> str:
    """uint8 (H, W, 3) RGB as the data URI of a WebP picture; `exact` keeps every pixel as it is."""
    options = [cv2.IMWRITE_WEBP_QUALITY, LOSSLESS if exact else QUALITY]
    content = cv2.imencode(".webp", np.ascontiguousarray(pixels[..., ::-1]), options)[1].tobytes()
    return f"data:image/webp;base64,{base64.b64encode(content).decode()}"
