"""Scenes as values, and scenes drawn at random: what is in a picture, where, and how large."""

import random
from dataclasses import dataclass, replace

from .palette import COLOURS
from .shapes import SHAPES

BASIC_SHAPES = ["circle", "square", "triangle", "star", "heart"]
"""The shapes of the model's first edition."""
FILLS = ["outlined", "striped", "dotted"]
RELATIONS = ["left of", "right of", "above", "below"]
RADII = {"small": (14.0, 16.0), None: (20.0, 23.0), "large": (27.0, 29.5)}
ROOMY_SHAPES = ["circle", "square", "triangle", "star", "heart", "diamond", "house"]
"""Shapes with room for a pattern or an outline. (And an outlined circle is nearly a ring.)"""
OUTER_SHAPES = ["circle", "square", "heart", "diamond"]
"""Shapes that hold another one."""
LANDS = ["hills", "mountains", "sea"]
LIGHTS = ["sun", "moon"]
KINDS = {"single": 0.3, "pair": 0.25, "row": 0.12, "inside": 0.11, "list": 0.11, "landscape": 0.11}
"""Kinds of scenes, and how often each is drawn."""


@dataclass(frozen=True)
class Object:
    """One thing of a scene. `second` is the other colour of stripes and dots."""

    colour: str
    shape: str
    size: str | None = None
    fill: str | None = None
    second: str | None = None
    x: float = 0.0
    y: float = 0.0
    radius: float = 0.0


@dataclass(frozen=True)
class Scene:
    """What a picture shows. Objects stand in the order in which a prompt names them.

    `inside`: the inner object, then the outer one. `landscape`: the light; `land` and `land_colour` say what it is over, and
    the background is the sky.
    """

    kind: str
    background: str
    objects: tuple[Object, ...]
    relation: str | None = None
    land: str | None = None
    land_colour: str | None = None


def one_in_ten(*names: object) -> bool:
    """By the upper half of the names' 64-bit FNV-1a, which the test suite computes too."""
    value = 0xCBF29CE484222325
    for byte in "|".join(map(str, names)).encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return (value >> 32) % 10 == 0


def held_out(scene: Scene) -> bool:
    """Whether training never sees the scene, because of a combination in it: an object's colour and shape on a background; what
    stands in which relation to what; what is inside of what; which light over which land."""
    if any(one_in_ten("t", o.colour, o.shape, scene.background) for o in scene.objects):
        return True
    if scene.kind in ("pair", "inside"):
        first, second = scene.objects
        relation = scene.relation or scene.kind
        return one_in_ten("r", first.colour, first.shape, second.colour, second.shape, relation)
    return scene.land is not None and one_in_ten("l", scene.land, scene.land_colour, scene.background)


class Draw:
    """Draws scenes. `basic` is the part of them that is drawn from the first edition's grammar; `filled`, the part of the others' shapes
    with room for it that gets a pattern or an outline."""

    def __init__(self, rng: random.Random, basic: float, filled: float = 0.5):
        self.rng, self.basic, self.filled = rng, basic, filled

    def scene(self) -> Scene:
        if self.rng.random() < self.basic:
            self.shapes, self.fancy = BASIC_SHAPES, 0.0
            kind = self.rng.choices(["single", "pair", "row"], (0.4, 0.4, 0.2))[0]
        else:
            self.shapes, self.fancy = list(SHAPES), self.filled
            kind = self.rng.choices(list(KINDS), list(KINDS.values()))[0]
        return getattr(self, kind)(self.rng.choice(COLOURS))

    def colour(self, *but: str) -> str:
        return self.rng.choice([colour for colour in COLOURS if colour not in but])

    def object(self, background: str, size: str | None = None, plain: bool = False) -> Object:
        colour, shape = self.colour(background), self.rng.choice(self.shapes)
        fill = None
        if shape in ROOMY_SHAPES and size != "small" and not plain and self.rng.random() < self.fancy:
            fill = self.rng.choice(FILLS)
        second = self.colour(background, colour) if fill in ("striped", "dotted") else None
        return Object(colour, shape, size, fill, second)

    def size(self) -> str | None:
        return self.rng.choice([None, None, "small", "large"])

    def jitter(self, around: float, amount: float) -> float:
        return around + self.rng.uniform(-amount, amount)

    def radius(self, size: str | None) -> float:
        return self.rng.uniform(*RADII[size])

    def single(self, background: str) -> Scene:
        one = self.object(background, self.size())
        one = replace(one, x=self.jitter(64, 4), y=self.jitter(64, 4), radius=self.radius(one.size))
        return Scene("single", background, (one,))

    def pair(self, background: str) -> Scene:
        first, second = self.object(background, self.size()), self.object(background, self.size())
        while (second.colour, second.shape) == (first.colour, first.shape):
            second = self.object(background, second.size)
        relation = self.rng.choice(RELATIONS)
        places = (33, 95) if relation in ("left of", "above") else (95, 33)

        def put(one: Object, place: float) -> Object:
            along, across = self.jitter(place, 2), self.jitter(64, 2.5)
            x, y = (along, across) if relation in ("left of", "right of") else (across, along)
            return replace(one, x=x, y=y, radius=self.radius(one.size))

        return Scene("pair", background, (put(first, places[0]), put(second, places[1])), relation)

    def grid(self, objects: list[Object]) -> tuple[Object, ...]:
        """Two or three in a row, four in a square, all of one radius."""
        count, dy = len(objects), self.jitter(0, 2.5)
        radius = self.radius(None) if count == 2 else self.rng.uniform(14, 17) if count == 3 else self.rng.uniform(18, 21)
        xs = {2: [33, 95], 3: [23, 64, 105], 4: [35, 93, 35, 93]}[count]
        ys = [64] * count if count < 4 else [35, 35, 93, 93]
        return tuple(replace(o, x=self.jitter(x, 2), y=y + dy, radius=radius) for o, x, y in zip(objects, xs, ys))

    def row(self, background: str) -> Scene:
        count = self.rng.choice([2, 3] if self.fancy == 0 else [2, 3, 4])
        # Patterns want room, which three in a row do not have.
        one = self.object(background, plain=count == 3)
        return Scene("row", background, self.grid([one] * count))

    def list(self, background: str) -> Scene:
        count = self.rng.choice([3, 4])
        return Scene("list", background, self.grid([self.object(background, plain=True) for _ in range(count)]))

    def inside(self, background: str) -> Scene:
        outer = Object(self.colour(background), self.rng.choice(OUTER_SHAPES))
        inner = Object(self.colour(background, outer.colour), self.rng.choice(self.shapes))
        x, y = self.jitter(64, 3), self.jitter(64, 3)
        outer = replace(outer, x=x, y=y, radius=self.rng.uniform(44, 48))
        return Scene("inside", background, (replace(inner, x=x, y=y, radius=self.rng.uniform(15, 17)), outer))

    def landscape(self, background: str) -> Scene:
        light = Object(self.colour(background), self.rng.choice(LIGHTS))
        place = self.rng.choice([32, 64, 96])
        light = replace(light, x=self.jitter(place, 4), y=self.jitter(32, 3), radius=self.rng.uniform(14, 16))
        colour = self.colour(background, light.colour)
        return Scene("landscape", background, (light,), land=self.rng.choice(LANDS), land_colour=colour)
