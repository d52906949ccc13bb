"""Runs the commands of the tutorial in a new folder; writes their output and pictures into docs/tutorial/.

    python scripts/docs/figures.py --page rendered
    python scripts/docs/figures.py --page nails --data shared/data/nails

The page itself is the script: each ```bash block runs, and a block that includes a file of outputs
(`--8<-- "rendered/prepare.txt"`) gets what the commands before it printed. The pictures are those that
the page shows.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import cv2  # noqa: E402

from segbalance.errors import InputError  # noqa: E402
from segbalance.runtime.command_line import command, parse_options  # noqa: E402

PLACE = ROOT / "docs" / "tutorial"
BLOCK = re.compile(
    r'^```bash\n(?P<commands>.*?)^```|^ *--8<-- "(?P<output>[^"]+)"|!\[.*?\]\((?P<picture>[^)]+)\)',
    re.DOTALL | re.MULTILINE,
)
WIDEST = 1100  # pixels of a picture; the text column of the site is narrower
BROWSER = "chromium"


class Step(NamedTuple):
    """A piece of the page: `commands` to run, or the `output` or `picture` that they left, by file name."""

    kind: str
    text: str


@dataclass(frozen=True)
class FigureOptions:
    """Options of the script.

    Args:
        page: Which page of docs/tutorial/ to run.
        data: Folder of the real photos of nails, for the page `nails`.
    """

    page: Literal["rendered", "nails"]
    data: str | None = None

    def __post_init__(self) -> None:
        if self.page == "nails" and not Path(self.data or "").joinpath("Images").is_dir():
            raise InputError(f"--data must be the folder of Images and Masks of nails, got {self.data!r}")


def steps(page: str) -> Iterator[Step]:
    """The page's blocks in their order."""
    for found in BLOCK.finditer(page):
        yield Step(str(found.lastgroup), found[str(found.lastgroup)])


def command_lines(block: str) -> list[list[str]]:
    r"""The words of each command of a block; a line that ends in \ goes on."""
    lines = block.replace("\\\n", " ").splitlines()
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def run(words: Sequence[str], folder: Path) -> str:
    """Runs `python file.py ...` of the clone in `folder`; returns what it printed, without local paths."""
    program, file, *arguments = words
    assert program == "python", words
    print("$", shlex.join(words), flush=True)
    done = subprocess.run(
        [sys.executable, str(ROOT / file), *arguments],
        cwd=folder, capture_output=True, text=True, check=False,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1"},
    )  # fmt: skip
    print(done.stdout, flush=True)
    if done.returncode:
        raise SystemExit(f"{done.stderr}\n{shlex.join(words)} ended with status {done.returncode}")
    return without_places(done.stdout, folder)


def without_places(text: str, folder: Path) -> str:
    """A command's output with paths as somebody sees them who works in `folder`, the clone."""
    for link in filter(Path.is_symlink, folder.iterdir()):
        text = text.replace(str(link.resolve()), link.name)
    here = (f"{folder}/", f"{ROOT}/", f"{os.path.relpath(ROOT, folder)}/")
    return re.sub("|".join(map(re.escape, here)), "", text)


def screenshot(page: Path, picture: Path) -> None:
    """The first screen of an HTML page as a PNG file."""
    size = f"--window-size={WIDEST},1150"
    words = [BROWSER, "--headless", "--no-sandbox", "--hide-scrollbars", size, f"--screenshot={picture}"]
    subprocess.run([*words, page.as_uri()], check=True, capture_output=True)


def save_small(source: Path, target: Path) -> None:
    """Copies a picture, shrunk to WIDEST and compressed as its name says."""
    pixels = cv2.imread(str(source))
    assert pixels is not None, source
    scale = min(1.0, WIDEST / pixels.shape[1])
    pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    target.parent.mkdir(parents=True, exist_ok=True)
    settings = [cv2.IMWRITE_WEBP_QUALITY, 80] if target.suffix == ".webp" else []
    assert cv2.imwrite(str(target), pixels, settings), target


def take_picture(folder: Path, target: Path) -> None:
    """Puts what the commands drew under the same name, or the report's first screen, in `target`."""
    if target.stem == "report":
        report, source = next(folder.glob("runs/*/report.html")), folder / "report.png"
        screenshot(report, source)
    else:
        source = next(path for path in sorted(folder.rglob(f"{target.stem}.*")) if path.suffix != ".svg")
    save_small(source, target)


def make_page(name: str, folder: Path) -> None:
    """Runs the page's commands in `folder` and writes its outputs and pictures."""
    printed = ""
    for kind, text in steps((PLACE / f"{name}.md").read_text(encoding="utf-8")):
        if kind == "commands":
            printed = "".join(run(words, folder) for words in command_lines(text))
        elif kind == "output":
            target = PLACE / text
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(printed.strip("\n") + "\n", encoding="utf-8")
        else:
            take_picture(folder, PLACE / text)


@command
def main(argv: list[str]) -> None:
    """Makes the outputs and pictures of one page."""
    options = parse_options(FigureOptions, argv, prog="figures.py", description=__doc__)
    folder = Path(tempfile.mkdtemp(prefix="tutorial-"))
    try:
        if options.page == "nails":
            (folder / "nails").symlink_to(Path(str(options.data)).resolve())
        make_page(options.page, folder)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
