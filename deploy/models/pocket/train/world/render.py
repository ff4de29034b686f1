"""How scenes look: flat colours, edges smoothed by drawing at four times the size."""

import math

import numpy as np
from PIL import Image, ImageDraw

from .palette import PALETTE, SIDE
from .scenes import Object, Scene
from .shapes import SHAPES, Contour, circle

FINE = 4
"""Samples of a pixel's side."""
PERIOD = 16
"""Stripes and dots repeat after as many pixels, from the picture's corner on."""
DOT = 3.6
"""A dot's radius in pixels."""
OUTLINE = {"small": 4.0, None: 4.5, "large": 5.0}
"""Widths of outlines in pixels."""


def contours(shape: str) -> list[Contour]:
    """Those of [`SHAPES`], and the lights of landscapes."""
    return [circle()] if shape == "sun" else SHAPES[shape]


def coverage(shape: list[Contour], x: float, y: float, radius: float, inset: float = 0.0) -> np.ndarray:
    """The part of each pixel that the shape covers, `(SIDE, SIDE)`. `inset` takes as many pixels off all around."""
    size = SIDE * FINE
    image = Image.new("L", (size, size), 0)
    draw = ImageDraw.Draw(image)
    for level, contour in enumerate(shape):
        corners = [((x + radius * px) * FINE - 0.5, (y + radius * py) * FINE - 0.5) for px, py in contour]
        draw.polygon(corners, fill=255 if level % 2 == 0 else 0)
        if inset:
            draw.line([*corners, corners[0], corners[1]], fill=0, width=round(2 * inset * FINE), joint="curve")
    return np.asarray(image.reduce(FINE), np.float32) / 255


def pattern(fill: str) -> np.ndarray:
    """The part of each pixel that has the second colour."""
    if fill == "striped":
        rows = (np.arange(SIDE) % PERIOD >= PERIOD // 2).astype(np.float32)
        return np.repeat(rows[:, None], SIDE, 1)
    whole = np.zeros((SIDE, SIDE), np.float32)
    for row in range(0, SIDE, PERIOD // 2):
        for column in range((row // (PERIOD // 2)) % 2 * (PERIOD // 2), SIDE, PERIOD):
            whole += coverage([circle()], column + PERIOD / 4, row + PERIOD / 4, DOT)
    return whole


PATTERNS = {fill: pattern(fill) for fill in ("striped", "dotted")}


def horizon(land: str) -> Contour:
    """The land's outline, in pixels."""
    below = [(SIDE + 8, SIDE + 8), (-8, SIDE + 8)]
    if land == "sea":
        return [(-8, 84), (SIDE + 8, 84), *below]
    if land == "mountains":
        return [(-8, 106), (34, 62), (62, 96), (92, 58), (SIDE + 8, 108), *below]
    bump = lambda x: 90 - 12 * math.cos((x - 34) / 60 * 2 * math.pi)
    return [*((x, bump(x)) for x in range(-8, SIDE + 9, 2)), *below]


def paint(picture: np.ndarray, part: np.ndarray, colour: str) -> None:
    picture += part[..., None] * (np.array(PALETTE[colour], np.float32) - picture)


def paint_object(picture: np.ndarray, one: Object) -> None:
    part = coverage(contours(one.shape), one.x, one.y, one.radius)
    if one.fill == "outlined":
        part = part - coverage(contours(one.shape), one.x, one.y, one.radius, OUTLINE[one.size])
    paint(picture, part, one.colour)
    if one.second:
        paint(picture, part * PATTERNS[one.fill], one.second)


def render(scene: Scene) -> np.ndarray:
    """The picture of a scene: `(SIDE, SIDE, 3)`, levels of 0 to 255."""
    picture = np.empty((SIDE, SIDE, 3), np.float32)
    picture[:] = PALETTE[scene.background]
    # What is inside of something is painted last.
    for one in reversed(scene.objects):
        paint_object(picture, one)
    if scene.land:
        paint(picture, coverage([horizon(scene.land)], 0, 0, 1), scene.land_colour)
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8)
