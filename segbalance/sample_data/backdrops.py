"""What hands and trinkets lie on: a function of the canvas for each, float32 (3, size, size)."""

import math

import numpy as np

from segbalance.sample_data.canvas import BLACK, FRAME, Canvas, bump, colour, noise, smoothstep

WOOD = colour(0.62, 0.42, 0.26)


def muted_colour(rng: np.random.Generator) -> np.ndarray:
    return colour(*(rng.uniform(0.2, 0.92) + rng.uniform(-0.12, 0.12, 3)))


def plain(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """float32 (3, size, size), like every backdrop."""
    return muted_colour(rng) * (1 + 0.03 * noise(rng, canvas.size, (6, 6)))


def gradient(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    along, _ = canvas.frame((FRAME / 2, FRAME / 2), rng.uniform(0, 2 * math.pi))
    share = smoothstep(0.5 + along / FRAME)
    return muted_colour(rng) * (1 - share) + muted_colour(rng) * share


def wood(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    grain = 1 + 0.09 * noise(rng, canvas.size, (90, 3)) + 0.07 * noise(rng, canvas.size, (28, 2))
    plank = rng.uniform(60, 110)
    seam = bump(((canvas.y + 0.02 * canvas.x) % plank - plank / 2) / 1.8)
    planks = grain * (1 - 0.6 * seam)
    return WOOD * rng.uniform(0.6, 1.3) * (planks if rng.random() < 0.5 else planks.T)


def cloth(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    along, across = canvas.frame((0, 0), rng.uniform(0, math.pi))
    folds, thread = noise(rng, canvas.size, (4, 4)), rng.uniform(1.3, 2.0)
    weave = np.sin((along + 4 * folds) * thread) * np.sin((across + 4 * folds) * thread)
    stripes = smoothstep(np.sin(across / rng.uniform(6, 14) + folds) * 5 - rng.uniform(1, 6))
    ground = muted_colour(rng) * (1 - stripes) + muted_colour(rng) * stripes
    return ground * (1 + 0.10 * weave + 0.12 * folds)


def cluttered(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
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
