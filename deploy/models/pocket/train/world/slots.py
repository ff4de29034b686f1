"""A scene as a table of places: what the text encoder learns to make readable."""

import numpy as np

from .palette import COLOURS
from .scenes import FILLS, LANDS, Scene
from .shapes import SHAPES

PLACES = ["background", "centre", "left", "right", "top", "bottom", "inner", "top left", "top right", "bottom left", "bottom right", "land"]
ATTRIBUTES = {
    "colour": COLOURS,
    "shape": [*SHAPES, "sun", *LANDS],
    "size": ["small", "middle", "large", "outer"],
    "fill": FILLS,
    "second": COLOURS,
}
CLASSES = [1 + len(values) for values in ATTRIBUTES.values()]
"""Each attribute's number of classes; the first one means none."""

ROWS = {
    "single": ["centre"],
    "inside": ["inner", "centre"],
    "landscape": ["top"],
    "left of": ["left", "right"],
    "right of": ["right", "left"],
    "above": ["top", "bottom"],
    "below": ["bottom", "top"],
    2: ["left", "right"],
    3: ["left", "centre", "right"],
    4: ["top left", "top right", "bottom left", "bottom right"],
}


def table(scene: Scene | None) -> np.ndarray:
    """`(places, attributes)` of class numbers; all none where nothing is asked for."""
    rows = np.zeros((len(PLACES), len(ATTRIBUTES)), np.int64)

    def put(place: str, **values: str | None) -> None:
        for column, (name, known) in enumerate(ATTRIBUTES.items()):
            if values.get(name):
                rows[PLACES.index(place), column] = 1 + known.index(values[name])

    if scene is None:
        return rows
    put("background", colour=scene.background)
    if scene.land:
        put("land", colour=scene.land_colour, shape=scene.land)
    places = ROWS[scene.relation or (scene.kind if scene.kind in ROWS else len(scene.objects))]
    for place, one in zip(places, scene.objects):
        size = "outer" if scene.kind == "inside" and place == "centre" else one.size or "middle"
        put(place, colour=one.colour, shape=one.shape, size=size, fill=one.fill, second=one.second)
    return rows
