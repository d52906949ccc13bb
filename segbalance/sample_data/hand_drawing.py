"""Hands, drawn with NumPy: fingers, nails, rings, buttons and beads, and which pixel is which."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from segbalance.sample_data.canvas import (
    BACKGROUND,
    BLACK,
    COIN,
    FRAME,
    NAIL,
    POLISH,
    RING,
    SKIN,
    WHITE,
    Canvas,
    Point,
    bump,
    choose,
    colour,
    noise,
    smoothstep,
    turn,
)
from segbalance.sample_data.looks import Look

PALEST_SKIN, DARKEST_SKIN = colour(0.96, 0.80, 0.70), colour(0.45, 0.29, 0.21)
SKIN_SHADOW, SKIN_FLUSH = colour(0.50, 0.36, 0.33), colour(0.12, 0.0, -0.03)
NAIL_BED, NAIL_TIP = colour(0.95, 0.70, 0.66), colour(0.95, 0.91, 0.84)
LAMP = colour(0.14, 0.0, -0.26)
METALS = [colour(0.85, 0.68, 0.32), colour(0.75, 0.75, 0.77), colour(0.72, 0.45, 0.32)]
POLISHES = [
    colour(0.76, 0.07, 0.13), colour(0.45, 0.03, 0.12), colour(0.93, 0.36, 0.50), colour(0.90, 0.62, 0.58),
    colour(0.96, 0.45, 0.33), colour(0.16, 0.25, 0.60), colour(0.10, 0.48, 0.48), colour(0.93, 0.91, 0.90),
    colour(0.10, 0.09, 0.11), colour(0.66, 0.55, 0.80),
]  # fmt: skip

# A right hand by finger, from the little finger to the thumb. Sideways and forward place of the knuckle, and
# the radius, are in finger radii (sideways 2.15 to a finger's width); the angle is in radians.
#                   sideways  forward  angle  length  radius
HAND = np.array([
    [-1.55 * 2.15, -0.9, -0.17, 6 * 0.76, 0.84],
    [-0.52 * 2.15, -0.1, -0.05, 6 * 0.95, 0.96],
    [0.52 * 2.15, 0.0, 0.03, 6 * 1.00, 1.00],
    [1.55 * 2.15, -0.3, 0.11, 6 * 0.92, 0.98],
    [1.95 * 2.15, -4.2, 0.62, 6 * 0.80, 1.12],
])  # fmt: skip


def draw_trinket(canvas: Canvas, radius: float, light: Point, rng: np.random.Generator) -> None:
    """A bead, button or coin, as big and as bright as a nail."""
    centre, kind = rng.uniform(0, FRAME, 2), choose(rng, ["bead", "button", "coin"])
    draw_trinket_at(canvas, centre, kind, radius, light, rng)


def draw_trinket_at(
    canvas: Canvas, centre: np.ndarray, kind: str, radius: float, light: Point, rng: np.random.Generator
) -> None:
    """A trinket of this kind, `bead`, `button` or `coin`, at (x, y)."""
    window = canvas.window([centre], 2 * radius)
    along, across = canvas.frame(centre, rng.uniform(0, math.pi), window)
    lit, unlit = canvas.frame(centre, math.atan2(light[1], light[0]), window)
    distance = np.hypot(along, across * rng.uniform(1, 1.4)) - radius
    canvas.paint(BLACK, 0.5 * np.clip(1 - np.maximum(distance, 0) / (0.5 * radius), 0, 1), window)
    coat = choose(rng, METALS if kind == "coin" else POLISHES)
    canvas.paint(coat * (0.8 + 0.25 * lit / radius), canvas.cover(distance), window)
    canvas.ids[window][distance < 0] = COIN if kind == "coin" else BACKGROUND
    if kind == "bead":
        glint = np.hypot(lit - 0.4 * radius, unlit) / (0.35 * radius)
        canvas.paint(WHITE, 0.85 * bump(glint), window)
    else:
        canvas.paint(coat * 0.55, 0.6 * bump((distance + 0.22 * radius) / (0.12 * radius)), window)
    if kind == "button":
        holes = np.hypot(np.abs(along) - 0.3 * radius, across) - 0.13 * radius
        canvas.paint(coat * 0.2, canvas.cover(holes), window)


@dataclass
class Finger:
    """A finger's own coordinates and shape; the arrays are float32 over its window of the photo."""

    tip: np.ndarray  # (x, y), the centre of the fingertip's curve
    angle: float
    length: float  # from the knuckle to the tip
    tip_radius: float
    window: tuple[slice, slice]
    along: np.ndarray
    across: np.ndarray
    radius: np.ndarray
    distance: np.ndarray  # to the outline, negative inside

    def near_tip(self, canvas: Canvas) -> "Finger":
        """The same finger in a window that is just large enough for its nail."""
        near = canvas.window([self.tip], 2.3 * self.tip_radius)
        rows, columns = (
            slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(near, self.window, strict=True)
        )
        window = (rows, columns)
        part = tuple(
            slice(a.start - b.start, a.stop - b.start) for a, b in zip(window, self.window, strict=True)
        )
        arrays = {name: getattr(self, name)[part] for name in ("along", "across", "radius", "distance")}
        return replace(self, window=window, **arrays)


def shape_finger(
    canvas: Canvas, tip: np.ndarray, angle: float, length: float, radius: float, bend: float
) -> Finger:
    """A slightly curved capsule, thicker at its base and its joints, whose tip lies at `tip` (x, y)."""
    base = tip - length * np.array([math.cos(angle), math.sin(angle)])
    window = canvas.window([tip, base], 1.6 * radius + 7)
    along, across = canvas.frame(base, angle, window)
    across = across - bend * (np.square(along) / length - along)
    joints = bump((along - 0.38 * length) / radius) + 0.7 * bump((along - 0.72 * length) / radius)
    width = radius * (1.08 - 0.20 * np.clip(along / length, 0, 1) + 0.04 * joints)
    distance = np.hypot(np.maximum(along - length, 0), across) - width
    return Finger(tip, angle, length, 0.88 * radius, window, along, across, width, distance)


def shade_finger(finger: Finger, light: Point, rng: np.random.Generator) -> np.ndarray:
    """float32 brightness, around 1, of a rounded finger with creases at its two joints."""
    lengthwise = np.maximum(finger.along - finger.length, 0) / finger.radius
    crosswise = np.clip(finger.across / finger.radius, -1, 1)
    flatness = 1 - np.square(crosswise)
    light_along, light_across = turn(light, finger.angle)
    upward = np.sqrt(np.maximum(flatness - np.square(lengthwise), 0.02))
    shade = 0.42 + 0.31 * (lengthwise * light_along + crosswise * light_across) + 0.53 * upward
    for joint in (0.38, 0.72):
        for line in (-0.22, 0.0, 0.2):
            offset = finger.along - joint * finger.length - line * finger.radius * (1.12 - 0.12 * flatness)
            shade -= rng.uniform(0.03, 0.13) * bump(offset / (0.07 * finger.radius)) * flatness
    return shade


def draw_finger(
    canvas: Canvas,
    finger: Finger,
    skin: np.ndarray,
    light: Point,
    palm_cover: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """The finger over its contact shadow, rising out of the back of the hand; `skin` is (3, size, size)."""
    window, skin = finger.window, skin[:, *finger.window]
    rising = smoothstep((finger.along / finger.tip_radius + 1.0) / 2.2)
    visible = np.maximum(1 - palm_cover[window], rising)
    canvas.paint(skin * 0.25, 0.5 * np.square(np.clip(1 - finger.distance / 7, 0, 1)) * visible, window)
    shade = shade_finger(finger, light, rng)
    flush = 0.10 * smoothstep((finger.along - 0.8 * finger.length) / (0.3 * finger.length))
    coat = skin * (shade + SKIN_FLUSH * (1 - shade + flush))
    canvas.paint(coat, canvas.cover(finger.distance) * visible, window)
    canvas.ids[window][finger.distance <= 0] = SKIN


def draw_ring(canvas: Canvas, finger: Finger, light: Point, rng: np.random.Generator) -> None:
    """A metal band below the middle joint."""
    half_width = 0.16 * finger.tip_radius
    offset = np.abs(finger.along - 0.27 * finger.length + 0.15 * np.square(finger.across) / finger.tip_radius)
    gleam = 0.55 + 0.6 * bump(finger.across / finger.radius - 0.4 * light[0]) - 0.3 * offset / half_width
    band = canvas.cover(np.maximum(offset - half_width, finger.distance - 1))
    canvas.paint(choose(rng, METALS) * np.clip(gleam, 0.2, 1.3), band, finger.window)
    canvas.ids[finger.window][(offset < half_width) & (finger.distance <= 0)] = RING


@dataclass(frozen=True)
class Nails:
    """The style of one hand's nails; lengths are in radii of the fingertip."""

    base: np.ndarray
    painted: bool
    french: bool
    half_width: float
    half_length: float
    taper: float  # 0 square .. 0.2 almond
    squareness: float  # exponent of the superellipse
    gloss: float


def choose_nails(look: Look, skin: np.ndarray, rng: np.random.Generator) -> Nails:
    """Polish, or a natural nail between the colours of the skin and of the nail bed."""
    painted = bool(rng.random() < look.painted)
    bed = NAIL_BED * (0.35 + 0.65 * skin.mean() / PALEST_SKIN.mean())
    return Nails(
        base=choose(rng, POLISHES) if painted else (0.3 * skin + 0.7 * bed) * rng.uniform(1.08, 1.2),
        painted=painted,
        french=not painted and rng.random() < 0.2,
        half_width=rng.uniform(0.70, 0.82),
        half_length=rng.uniform(0.80, 1.0) + painted * rng.uniform(0, 0.25),
        taper=rng.uniform(0.02, 0.2),
        squareness=rng.uniform(2.4, 3.6),
        gloss=rng.uniform(0.25, 0.6) + 0.3 * painted,
    )


def nail_coordinates(finger: Finger, nails: Nails, side: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(lengthwise, crosswise), -1 .. 1 within the nail, and the distance to its outline.

    `side` in [-0.5, 0.5] says how far the finger is rolled over.
    """
    half_length = nails.half_length * finger.tip_radius
    half_width = nails.half_width * finger.tip_radius * (1 - 0.35 * abs(side))
    # A longer nail reaches both further back and over the fingertip.
    centre = finger.length + finger.tip_radius * (0.48 - 0.5 * nails.half_length)
    lengthwise = (finger.along - centre) / half_length
    crosswise = (finger.across - 0.35 * side * finger.tip_radius) / half_width
    crosswise = crosswise / (1 - nails.taper * np.clip(lengthwise, -1.3, 1.3))
    exponent = nails.squareness
    ratio = (np.abs(lengthwise) ** exponent + np.abs(crosswise) ** exponent) ** (1 / exponent)
    return lengthwise, crosswise, (ratio - 1) * min(half_length, half_width)


def nail_colours(nails: Nails, lengthwise: np.ndarray, crosswise: np.ndarray, skin: np.ndarray) -> np.ndarray:
    """A flat coat of polish (3, 1, 1), or bed, lunula and free edge (3, H, W)."""
    if nails.painted:
        return nails.base
    lunula = 0.35 * smoothstep((0.45 - np.hypot((lengthwise + 1) / 1.1, crosswise * 0.6)) / 0.1)
    edge_start, edge_alpha = (0.55, 0.95) if nails.french else (0.74, 0.65)
    edge = edge_alpha * smoothstep((lengthwise + 0.22 * np.square(crosswise) - edge_start) / 0.08)
    return nails.base + np.maximum(lunula, edge) * (NAIL_TIP * (0.5 + 0.5 * skin.mean()) - nails.base)


def draw_nail(
    canvas: Canvas, finger: Finger, nails: Nails, side: float, skin: np.ndarray, light: Point
) -> None:
    """The nail with the fold around it, its shading and its highlight; marks its class."""
    finger = finger.near_tip(canvas)
    lengthwise, crosswise, distance = nail_coordinates(finger, nails, side)
    _, light_across = turn(light, finger.angle)
    fold = 0.09 * finger.tip_radius
    ridge = 0.35 * bump((distance - 1.7 * fold) / (1.5 * fold)) * canvas.cover(finger.distance)
    shade = 1.04 - 0.28 * np.square(np.clip(crosswise, -1, 1)) + 0.16 * crosswise * light_across
    streak = bump((crosswise - 0.45 * light_across) / 0.28) * bump((lengthwise - 0.1) / 0.75)
    for coat, alpha in (
        (skin * 1.08, ridge),
        (skin * SKIN_SHADOW, 0.55 * bump(distance / (0.5 + fold))),
        (nail_colours(nails, lengthwise, crosswise, skin) * shade, canvas.cover(distance)),
        (WHITE, nails.gloss * streak * canvas.cover(distance + 0.5)),
    ):
        canvas.paint(coat, alpha, finger.window)
    canvas.ids[finger.window][distance < 0] = POLISH if nails.painted else NAIL


def place_fingers(canvas: Canvas, look: Look, rng: np.random.Generator) -> tuple[list[Finger], np.ndarray]:
    """(fingers, palm): the visible fingers of one hand, and the signed distance to the back of the hand."""
    count, radius = int(rng.integers(*look.fingers, endpoint=True)), rng.uniform(*look.finger_radius)
    first = 0 if count >= 4 else rng.integers(0, 5 - count)
    sideways, forward, angle, length, thickness = HAND[first : first + count].T
    angle = angle * rng.uniform(0.6, 1.6) + rng.normal(0, 0.025, count)
    tips = radius * np.stack([forward + length * np.cos(angle), sideways + length * np.sin(angle)], 1)
    heading, mirror = rng.uniform(0, 2 * math.pi), int(rng.choice([-1, 1]))
    middle = tips.mean(0) + radius * rng.uniform(-0.3, 0.3, 2) - (0.1 * FRAME, 0)

    def locate(points: np.ndarray) -> np.ndarray:
        """From the hand's own (forward, sideways) to the photo's (x, y)."""
        return FRAME / 2 + np.stack(turn(((points - middle) * (1, mirror)).T, -heading), 1)

    angles, lengths, radii = heading + mirror * angle, radius * length, radius * thickness
    shapes = zip(locate(tips), angles.tolist(), lengths.tolist(), radii.tolist(), strict=True)
    fingers = [
        shape_finger(canvas, tip, own_angle, own_length, own_radius, rng.uniform(-0.12, 0.12))
        for tip, own_angle, own_length, own_radius in shapes
    ]
    (knuckles,) = locate(np.array([[0, radius * sideways[:4].mean()]]))
    along, across = canvas.frame(knuckles, heading)
    return fingers, rounded_box(along - 0.9 * radius, np.abs(across) - 1.12 * radius * min(count, 4), radius)


def rounded_box(ahead: np.ndarray, beside: np.ndarray, corner: float) -> np.ndarray:
    """Signed distance to a shape that is bounded where `ahead` and `beside` pass 0."""
    ahead, beside = ahead + corner, beside + corner
    outside = np.hypot(np.maximum(ahead, 0), np.maximum(beside, 0))
    return outside + np.minimum(np.maximum(ahead, beside), 0) - corner


def cast_shadow(
    canvas: Canvas, fingers: Sequence[Finger], palm_cover: np.ndarray, light: Point, rng: np.random.Generator
) -> None:
    """The soft shadow of the hand on what lies below it, blurred at a quarter of the size."""
    outline = palm_cover.copy()
    for finger in fingers:
        part = outline[finger.window]
        np.maximum(part, canvas.cover(finger.distance), out=part)
    reach, size = 0.5 * fingers[0].tip_radius / canvas.pixel, (canvas.size, canvas.size)
    soft = cv2.GaussianBlur(cv2.resize(outline, None, fx=0.25, fy=0.25), (0, 0), reach / 4 + 0.3)
    away = np.array([[1, 0, -reach * light[0]], [0, 1, -reach * light[1]]], np.float32)
    soft = cv2.warpAffine(cv2.resize(soft, size), away, size, borderMode=cv2.BORDER_REPLICATE)
    canvas.paint(BLACK, rng.uniform(0.25, 0.55) * soft)


def draw_hand(canvas: Canvas, look: Look, light: Point, rng: np.random.Generator) -> None:
    """One hand with its nails; a finger may cover part of its neighbour, nail and class included."""
    tone = rng.uniform(0, 1) ** 1.3
    skin = PALEST_SKIN * (1 - tone) + DARKEST_SKIN * tone + colour(*rng.normal(0, 0.012, 3))
    nails = choose_nails(look, skin, rng)
    fingers, palm = place_fingers(canvas, look, rng)
    palm_cover = canvas.cover(palm)
    cast_shadow(canvas, fingers, palm_cover, light, rng)
    mottled = 1 + 0.03 * noise(rng, canvas.size, (20, 20)) + 0.025 * noise(rng, canvas.size, (110, 110))
    texture = skin * mottled
    rounding = np.sqrt(np.clip(-palm / (1.5 * fingers[0].tip_radius), 0.05, 1))
    canvas.paint(texture * (0.6 + 0.35 * rounding), palm_cover)
    canvas.ids[palm < 0] = SKIN
    ringed = rng.integers(0, 8)
    for number, finger in reversed(list(enumerate(fingers))):
        draw_finger(canvas, finger, texture, light, palm_cover, rng)
        if number == ringed:
            draw_ring(canvas, finger, light, rng)
        draw_nail(canvas, finger, nails, rng.uniform(-0.5, 0.5), skin, light)
