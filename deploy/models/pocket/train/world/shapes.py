"""The geometry of the shapes: polygons around the origin with a radius of about 1, x to the right and y downwards.

A shape is a list of closed contours; a point is inside where it is inside of an odd number of them.
"""

import math

Contour = list[tuple[float, float]]

CURVE_CORNERS = 72
"""Corners that stand for a curve."""
RING_HOLE = 0.55
"""Radius of a ring's hole."""


def arc(x: float, y: float, radius: float, start: float, end: float, corners: int = CURVE_CORNERS) -> Contour:
    angles = (start + (end - start) * i / corners for i in range(corners + 1))
    return [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles]


def circle(radius: float = 1.0) -> Contour:
    return arc(0, 0, radius, 0, 2 * math.pi)[:-1]


def star() -> Contour:
    def corner(i: int) -> tuple[float, float]:
        radius, angle = (1.12 if i % 2 == 0 else 0.46), math.pi * i / 5
        return radius * math.sin(angle), 0.06 - radius * math.cos(angle)

    return [corner(i) for i in range(10)]


def heart() -> Contour:
    """The well-known curve x = 16 sin³t, y = 13 cos t − 5 cos 2t − 2 cos 3t − cos 4t, scaled to half-width 1."""

    def point(t: float) -> tuple[float, float]:
        up = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        return math.sin(t) ** 3, -(up + 2.3) / 16

    return [point(2 * math.pi * i / CURVE_CORNERS) for i in range(CURVE_CORNERS)]


def moon() -> Contour:
    """A crescent, open to the right: a disc of radius 1.05 without a disc of radius 0.9, moved by 0.55."""
    outer, inner, shift = 1.05, 0.9, 0.55
    # Both circles meet where x is this, seen from the outer one's centre.
    x = (outer**2 - inner**2 + shift**2) / (2 * shift)
    from_outer, from_inner = math.acos(x / outer), math.acos((x - shift) / inner)
    points = arc(0, 0, outer, from_outer, 2 * math.pi - from_outer)
    points += arc(shift, 0, inner, 2 * math.pi - from_inner, from_inner)
    return [(x + 0.28, y) for x, y in points]


SHAPES: dict[str, list[Contour]] = {
    "circle": [circle()],
    "square": [[(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)]],
    "triangle": [[(0, -1), (1.05, 0.85), (-1.05, 0.85)]],
    "star": [star()],
    "heart": [heart()],
    "ring": [circle(1.05), circle(RING_HOLE)],
    "moon": [moon()],
    "diamond": [[(0, -1.15), (0.78, 0), (0, 1.15), (-0.78, 0)]],
    "arrow": [[(0, -1.1), (1, -0.05), (0.4, -0.05), (0.4, 1.05), (-0.4, 1.05), (-0.4, -0.05), (-1, -0.05)]],
    "house": [[(0, -1.1), (1.1, -0.2), (0.8, -0.2), (0.8, 0.95), (-0.8, 0.95), (-0.8, -0.2), (-1.1, -0.2)]],
    "tree": [
        [(0, -1.2), (0.65, -0.35), (0.35, -0.35), (0.95, 0.55), (0.22, 0.55), (0.22, 1.1), (-0.22, 1.1), (-0.22, 0.55)]
        + [(-0.95, 0.55), (-0.35, -0.35), (-0.65, -0.35)]
    ],
}
