"""Hands on a backdrop, drawn with NumPy: fingers, nails, rings, buttons and beads, and which pixel is which.

Lengths are in pixels of a 300 x 300 photo, whatever size is rendered. Colours are RGB in [0, 1]; while a
photo is drawn, its channels come first: (3, H, W), and a single colour is (3, 1, 1).
"""

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

FRAME = 300
# Class ids, in the order of rendering.CLASSES.
BACKGROUND, SKIN, NAIL, POLISH, RING, COIN = range(6)


def colour(*channels):
    """A float32 (3, 1, 1) colour."""
    return np.float32(channels).reshape(3, 1, 1)


BLACK, WHITE = colour(0, 0, 0), colour(1, 1, 1)
PALEST_SKIN, DARKEST_SKIN = colour(0.96, 0.80, 0.70), colour(0.45, 0.29, 0.21)
SKIN_SHADOW, SKIN_FLUSH = colour(0.50, 0.36, 0.33), colour(0.12, 0.0, -0.03)
NAIL_BED, NAIL_TIP = colour(0.95, 0.70, 0.66), colour(0.95, 0.91, 0.84)
WOOD, LAMP = colour(0.62, 0.42, 0.26), colour(0.14, 0.0, -0.26)
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


class Canvas:
    """A float32 (3, size, size) image, its class ids uint8 (size, size), and its pixels' coordinates."""

    def __init__(self, size):
        self.size, self.pixel = size, FRAME / size
        centres = (np.arange(size, dtype=np.float32) + 0.5) * self.pixel
        self.x, self.y = np.meshgrid(centres, centres)
        self.image = np.zeros((3, size, size), np.float32)
        self.ids = np.full((size, size), BACKGROUND, np.uint8)

    def cover(self, distance):
        """Share of each pixel that lies inside a shape, from its signed distance (negative inside)."""
        return np.clip(0.5 - distance / self.pixel, 0, 1)

    def paint(self, coat, alpha, window=(...,)):
        """Lays the colour or colours `coat` over the window, where `alpha` in [0, 1] says how much."""
        part = self.image[:, *window]
        part += alpha * (coat - part)

    def window(self, points, reach):
        """The slices that hold all (x, y) of `points` and `reach` around; empty outside the photo."""
        low = np.maximum((np.min(points, 0) - reach) / self.pixel, 0).astype(int)
        high = np.maximum((np.max(points, 0) + reach) / self.pixel + 1, 0).astype(int)
        return slice(low[1], high[1]), slice(low[0], high[0])

    def frame(self, origin, angle, window=(...,)):
        """Coordinates along and across the direction `angle`, seen from `origin` (x, y)."""
        return turn((self.x[window] - float(origin[0]), self.y[window] - float(origin[1])), angle)


def turn(vector, angle):
    """The vector (x, y) as seen from a frame that is turned by `angle`: (along, across)."""
    x, y = vector
    return x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)


def bump(x):
    """A smooth hill of height 1 at 0 that ends at -1 and 1; much cheaper than a Gaussian."""
    return np.square(np.maximum(1 - x * x, 0))


def smoothstep(x):
    """Rises smoothly from 0 at x = 0 to 1 at x = 1."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def noise(rng, size, cells):
    """Smooth float32 (size, size) noise around 0 with `cells` (rows, columns) of detail."""
    return cv2.resize(rng.standard_normal(cells, np.float32), (size, size), interpolation=cv2.INTER_CUBIC)


def choose(rng, options):
    return options[rng.integers(len(options))]


def muted_colour(rng):
    return colour(*(rng.uniform(0.2, 0.92) + rng.uniform(-0.12, 0.12, 3)))


def plain(canvas, rng):
    """float32 (3, size, size), like every backdrop."""
    return muted_colour(rng) * (1 + 0.03 * noise(rng, canvas.size, (6, 6)))


def gradient(canvas, rng):
    along, _ = canvas.frame((FRAME / 2, FRAME / 2), rng.uniform(0, 2 * math.pi))
    share = smoothstep(0.5 + along / FRAME)
    return muted_colour(rng) * (1 - share) + muted_colour(rng) * share


def wood(canvas, rng):
    grain = 1 + 0.09 * noise(rng, canvas.size, (90, 3)) + 0.07 * noise(rng, canvas.size, (28, 2))
    plank = rng.uniform(60, 110)
    seam = bump(((canvas.y + 0.02 * canvas.x) % plank - plank / 2) / 1.8)
    planks = grain * (1 - 0.6 * seam)
    return WOOD * rng.uniform(0.6, 1.3) * (planks if rng.random() < 0.5 else planks.T)


def cloth(canvas, rng):
    along, across = canvas.frame((0, 0), rng.uniform(0, math.pi))
    folds, thread = noise(rng, canvas.size, (4, 4)), rng.uniform(1.3, 2.0)
    weave = np.sin((along + 4 * folds) * thread) * np.sin((across + 4 * folds) * thread)
    stripes = smoothstep(np.sin(across / rng.uniform(6, 14) + folds) * 5 - rng.uniform(1, 6))
    ground = muted_colour(rng) * (1 - stripes) + muted_colour(rng) * stripes
    return ground * (1 + 0.10 * weave + 0.12 * folds)


def cluttered(canvas, rng):
    """A table with papers, boxes and pens, out of focus."""
    canvas.image[:] = plain(canvas, rng)
    for _ in range(rng.integers(7, 13)):
        centre = rng.uniform(0, FRAME, 2)
        half_length, half_width = rng.uniform(25, 90), int(rng.choice([5, 12, 30, 60]))
        window = canvas.window([centre], half_length + half_width + 9)
        along, across = canvas.frame(centre, rng.uniform(0, math.pi), window)
        distance = np.maximum(np.abs(along) - half_length, np.abs(across) - half_width)
        canvas.paint(BLACK, 0.4 * np.clip(1 - distance / 9, 0, 1), window)
        paper = 0.6 * colour(*rng.uniform(0.1, 0.95, 3)) + 0.4 * muted_colour(rng)
        canvas.paint(paper, np.clip(0.5 - distance / 2.5, 0, 1), window)
    return canvas.image


BACKDROPS = {function.__name__: function for function in (plain, gradient, wood, cloth, cluttered)}


def draw_trinket(canvas, radius, light, rng):
    """A bead, button or coin, as big and as bright as a nail."""
    centre, kind = rng.uniform(0, FRAME, 2), choose(rng, ["bead", "button", "coin"])
    draw_trinket_at(canvas, centre, kind, radius, light, rng)


def draw_trinket_at(canvas, centre, kind, radius, light, rng):
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

    def near_tip(self, canvas):
        """The same finger in a window that is just large enough for its nail."""
        near = canvas.window([self.tip], 2.3 * self.tip_radius)
        window = tuple(
            slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(near, self.window, strict=True)
        )
        part = tuple(
            slice(a.start - b.start, a.stop - b.start) for a, b in zip(window, self.window, strict=True)
        )
        arrays = {name: getattr(self, name)[part] for name in ("along", "across", "radius", "distance")}
        return replace(self, window=window, **arrays)


def shape_finger(canvas, tip, angle, length, radius, bend):
    """A slightly curved capsule, thicker at its base and its joints, whose tip lies at `tip` (x, y)."""
    base = tip - length * np.array([math.cos(angle), math.sin(angle)])
    window = canvas.window([tip, base], 1.6 * radius + 7)
    along, across = canvas.frame(base, angle, window)
    across = across - bend * (np.square(along) / length - along)
    joints = bump((along - 0.38 * length) / radius) + 0.7 * bump((along - 0.72 * length) / radius)
    width = radius * (1.08 - 0.20 * np.clip(along / length, 0, 1) + 0.04 * joints)
    distance = np.hypot(np.maximum(along - length, 0), across) - width
    return Finger(tip, angle, length, 0.88 * radius, window, along, across, width, distance)


def shade_finger(finger, light, rng):
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


def draw_finger(canvas, finger, skin, light, palm_cover, rng):
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


def draw_ring(canvas, finger, light, rng):
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


def choose_nails(look, skin, rng):
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


def nail_coordinates(finger, nails, side):
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


def nail_colours(nails, lengthwise, crosswise, skin):
    """A flat coat of polish (3, 1, 1), or bed, lunula and free edge (3, H, W)."""
    if nails.painted:
        return nails.base
    lunula = 0.35 * smoothstep((0.45 - np.hypot((lengthwise + 1) / 1.1, crosswise * 0.6)) / 0.1)
    edge_start, edge_alpha = (0.55, 0.95) if nails.french else (0.74, 0.65)
    edge = edge_alpha * smoothstep((lengthwise + 0.22 * np.square(crosswise) - edge_start) / 0.08)
    return nails.base + np.maximum(lunula, edge) * (NAIL_TIP * (0.5 + 0.5 * skin.mean()) - nails.base)


def draw_nail(canvas, finger, nails, side, skin, light):
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


def place_fingers(canvas, look, rng):
    """(fingers, palm): the visible fingers of one hand, and the signed distance to the back of the hand."""
    count, radius = int(rng.integers(*look.fingers, endpoint=True)), rng.uniform(*look.finger_radius)
    first = 0 if count >= 4 else rng.integers(0, 5 - count)
    sideways, forward, angle, length, thickness = HAND[first : first + count].T
    angle = angle * rng.uniform(0.6, 1.6) + rng.normal(0, 0.025, count)
    tips = radius * np.stack([forward + length * np.cos(angle), sideways + length * np.sin(angle)], 1)
    heading, mirror = rng.uniform(0, 2 * math.pi), int(rng.choice([-1, 1]))
    middle = tips.mean(0) + radius * rng.uniform(-0.3, 0.3, 2) - (0.1 * FRAME, 0)

    def locate(points):
        """From the hand's own (forward, sideways) to the photo's (x, y)."""
        return FRAME / 2 + np.stack(turn(((points - middle) * (1, mirror)).T, -heading), 1)

    angles, lengths, radii = heading + mirror * angle, radius * length, radius * thickness
    fingers = [
        shape_finger(canvas, tip, *shape, bend=rng.uniform(-0.12, 0.12))
        for tip, *shape in zip(locate(tips), angles.tolist(), lengths.tolist(), radii.tolist(), strict=True)
    ]
    (knuckles,) = locate(np.array([[0, radius * sideways[:4].mean()]]))
    along, across = canvas.frame(knuckles, heading)
    return fingers, rounded_box(along - 0.9 * radius, np.abs(across) - 1.12 * radius * min(count, 4), radius)


def rounded_box(ahead, beside, corner):
    """Signed distance to a shape that is bounded where `ahead` and `beside` pass 0."""
    ahead, beside = ahead + corner, beside + corner
    outside = np.hypot(np.maximum(ahead, 0), np.maximum(beside, 0))
    return outside + np.minimum(np.maximum(ahead, beside), 0) - corner


def cast_shadow(canvas, fingers, palm_cover, light, rng):
    """The soft shadow of the hand on what lies below it, blurred at a quarter of the size."""
    outline = palm_cover.copy()
    for finger in fingers:
        part = outline[finger.window]
        np.maximum(part, canvas.cover(finger.distance), out=part)
    reach, size = 0.5 * fingers[0].tip_radius / canvas.pixel, (canvas.size, canvas.size)
    soft = cv2.GaussianBlur(cv2.resize(outline, None, fx=0.25, fy=0.25), (0, 0), reach / 4 + 0.3)
    away = np.float32([[1, 0, -reach * light[0]], [0, 1, -reach * light[1]]])
    soft = cv2.warpAffine(cv2.resize(soft, size), away, size, borderMode=cv2.BORDER_REPLICATE)
    canvas.paint(BLACK, rng.uniform(0.25, 0.55) * soft)


def draw_hand(canvas, look, light, rng):
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
