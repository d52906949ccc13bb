"""The looks of the subsets: what a person changes to have other photos."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Look:
    """What the photos of one subset have in common; a tuple is the range that each photo draws from."""

    description: str
    backdrop: str
    fingers: tuple[int, int]
    finger_radius: tuple[float, float]
    painted: float  # share of the photos with nail polish
    trinkets: tuple[int, int]  # beads, buttons and coins in nail-like colours
    warmth: tuple[float, float]  # -1 bluish daylight .. 1 yellow lamp
    brightness: tuple[float, float]
    blur: tuple[float, float]  # standard deviation
    noise: tuple[float, float]  # standard deviation, in grey levels of 255
    jpeg_quality: tuple[int, int]


LOOKS = {
    "0": Look(
        "whole hands, natural nails, plain table", "plain",
        fingers=(4, 5), finger_radius=(20, 23), painted=0.25, trinkets=(0, 1), warmth=(-0.2, 0.2),
        brightness=(0.9, 1.1), blur=(0.3, 0.7), noise=(2.0, 4.0), jpeg_quality=(85, 95),
    ),
    "1": Look(
        "painted nails before a studio gradient", "gradient",
        fingers=(4, 4), finger_radius=(23, 27), painted=0.9, trinkets=(0, 1), warmth=(-0.3, 0.1),
        brightness=(1.0, 1.2), blur=(0.3, 0.6), noise=(1.5, 3.0), jpeg_quality=(85, 95),
    ),
    "2": Look(
        "warm lamp light on wood", "wood",
        fingers=(3, 4), finger_radius=(28, 32), painted=0.5, trinkets=(0, 1), warmth=(0.5, 1.0),
        brightness=(0.75, 1.0), blur=(0.5, 1.0), noise=(3.0, 5.0), jpeg_quality=(70, 90),
    ),
    "3": Look(
        "cluttered desk, dull old phone", "cluttered",
        fingers=(2, 3), finger_radius=(38, 45), painted=0.6, trinkets=(0, 3), warmth=(-0.3, 0.5),
        brightness=(0.65, 0.9), blur=(0.8, 1.4), noise=(3.5, 5.5), jpeg_quality=(35, 60),
    ),
    "4": Look(
        "close-ups on cloth", "cloth",
        fingers=(1, 2), finger_radius=(60, 72), painted=0.5, trinkets=(0, 1), warmth=(-0.2, 0.4),
        brightness=(0.9, 1.1), blur=(0.6, 1.2), noise=(2.0, 4.0), jpeg_quality=(75, 95),
    ),
}  # fmt: skip
